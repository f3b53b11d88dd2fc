/* host-service/disk/disk_private.h - what the parts of a Disk share: waiting for answers, and how it fails.
 */
#pragma once

#include <libnbd.h>

#include "host-service/disk/disk.h"
#include "host-service/disk/disk_process.h"

/* One request at most: 256 KiB and 1 MiB are slower (measured: copying 2 GiB in memory). */
#define DISK_PIECE (512u << 10)
/* As many requests does QEMU deal with at once (MAX_NBD_REQUESTS). */
#define DISK_IN_FLIGHT 16u

struct Disk {
        char *name;             /* the newest image's path */
        struct nbd_handle *nbd; /* NULL: broken */
        DiskProcess *process;
        guint64 size;
        gboolean writable;
        char *share_at; /* or NULL */
        guint answer_seconds;
        gint64 heard_us; /* when qemu-nbd was last heard, or began to be waited for */
        GError *broken;  /* what each further call is told */
};

/* Ends @d for good, and says why: "TEXT NAME: what qemu-nbd said last, else what libnbd says". @code: unless
 * the last words tell a better one. Returns FALSE. */
gboolean disk_fail(Disk *d, int code, GError **error, const char *doing);
/* The same for a request that was answered with an error (a number of errno). */
gboolean disk_fail_reply(Disk *d, int errnum, GError **error, const char *doing);
/* The same for one that does not answer (TIMEOUT). */
gboolean disk_fail_silent(Disk *d, GError **error, const char *doing);
/* Ends it silently, since another one has failed while requests of this one are under way. */
void disk_break(Disk *d);
/* FALSE with the error that broke it; or with REFUSED for a range that leaves it. */
gboolean disk_usable(Disk *d, guint64 offset, guint64 len, gboolean write, GError **error);

/* Waiting for the answers of one or two disks. */
struct disk_wait {
        Disk *disks[2];
        guint n;
        GCancellable *cancellable;
        GPollFD cancelled;
        gboolean can_cancel;
};
void disk_wait_init(struct disk_wait *w, Disk *a, Disk *b, GCancellable *cancellable);
void disk_wait_clear(struct disk_wait *w);
#define scoped_disk_wait __attribute__((cleanup(disk_wait_clear)))
/* One turn: sends and receives what can be, waits for more at most until @until_us (monotonic; -1: until
 * somebody answers). FALSE with @error: cancelled, or a disk has broken; then all of them are. */
gboolean disk_wait_turn(struct disk_wait *w, gint64 until_us, const char *doing, GError **error);

/* A request's answer, as the completion callback leaves it. */
struct disk_reply {
        gboolean done;
        int errnum;
};
/* For libnbd's calls. @reply must live until it is done, or @d is broken. */
nbd_completion_callback disk_reply_callback(struct disk_reply *reply);
/* After the call: it was taken. The clock of the answer starts. */
gboolean disk_sent(Disk *d, gint64 cookie, GError **error, const char *doing);

/* The pieces of a map, in order. */
struct disk_pieces {
        const GArray *map;
        guint index;
        guint64 done; /* bytes of the range at @index */
};
/* The next piece that is not ABSENT: at most @data_max or @zero_max bytes. FALSE: there is none. */
gboolean disk_pieces_next(struct disk_pieces *p, guint64 data_max, guint64 zero_max, struct disk_range *ret);
/* Appends to a map, and joins neighbours of one kind. */
void disk_map_append(GArray *map, guint64 offset, guint64 length, enum disk_kind kind);
/* The ranges are in order and leave no disk of @size. */
gboolean disk_map_check(const GArray *map, guint64 size, const char *name, GError **error);

void disk_pace_add(const struct disk_pace *pace, guint64 bytes);
/* When the next piece may begin, after one of @bytes that begins now. */
gint64 disk_pace_next(const struct disk_pace *pace, gint64 next_us, guint64 bytes);
gboolean disk_is_zero(const guint8 *bytes, gsize len);
