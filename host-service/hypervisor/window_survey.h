/* host-service/hypervisor/window_survey.h - what of ours is plugged into a QEMU, and where is room: pure,
 * from QMP's answers.
 *
 * A window is an ivshmem device or a virtio-pmem one. The second kind stays in the VM until that is powered
 * off, so a template says where it may: in root ports whose id begins with "moult-pmem" (libvirt:
 * "ua-moult-pmem").
 *
 * Our objects are named moult-pack-N and our devices moult-window-N, with the same N. So whatever an earlier
 * moultd left behind is recognised by its name, and its pack by the object's mem-path. */
#pragma once

#include <json-glib/json-glib.h>

#define SURVEY_SLOTS 8u  /* windows that one VM may have, also those that a guest does not let go */
#define SURVEY_PORTS 64u /* root ports that are looked at */

struct survey_slot {
        gboolean object, window;
        gboolean pmem;  /* the window is persistent memory */
        gboolean stays; /* said by the caller: not counted by survey_has_...() */
        char *path;     /* of the object's file; NULL: unknown */
};

struct survey_port {
        char *id;      /* also the name of its bus */
        gboolean seen; /* on the PCI bus, so its window below is known */
        gboolean occupied;
        gboolean for_pmem;     /* by its name */
        guint64 window_bytes;  /* prefetchable range that the guest gave it now */
        guint64 reserve_bytes; /* what it asked for (pref64-reserve); 0: nothing */
};

struct survey {
        struct survey_slot slots[SURVEY_SLOTS];
        struct survey_port ports[SURVEY_PORTS];
        guint n_ports;
};

void survey_clear(struct survey *s);
/* Answers of `qom-list /objects`, `qom-list /machine/peripheral`, `query-pci`. Whatever does not fit is
 * passed over. */
void survey_add_objects(struct survey *s, JsonNode *result);
void survey_add_peripherals(struct survey *s, JsonNode *result);
void survey_add_pci(struct survey *s, JsonNode *result);

gboolean survey_has_windows(const struct survey *s);
gboolean survey_has_anything(const struct survey *s);
/* Slot that holds @path, window (of this kind) and object; -1 if none. */
int survey_find_path(const struct survey *s, const char *path, gboolean pmem);
/* A slot of which nothing is there; -1 if none. */
int survey_free_slot(const struct survey *s);
/* The free root port for persistent memory, which needs no room in it; @any: also one that is not meant for
 * it. NULL: none is free. */
const char *survey_choose_pmem_port(const struct survey *s, gboolean any);
/* The free root port that suits an ivshmem window of @size_bytes best: the smallest one known to have room,
 * else the roomiest (the guest may enlarge its range). NULL: none is free. */
const char *survey_choose_port(const struct survey *s, guint64 size_bytes);
