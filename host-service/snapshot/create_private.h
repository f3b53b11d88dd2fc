/* host-service/snapshot/create_private.h - what the files of a snapshot's making share; for them only.
 *
 * create.c: the ways, and what is chosen and written down. create_files.c: links and images, in a worker
 * thread. create_domain.c: libvirt, in QEMU's place, for its domains; create_domain_name.c: domains that have
 * to be started anew first. create_nodes.c: QEMU, up to the switch and back. create_tidy.c: QEMU, after the
 * first snapshot. create_guest.c: freeze and thaw. create_layers.c: rows of layers. create_settle.c: what has
 * become of one that nobody knows the end of. create_off.c: of a VM that is off. */
#pragma once

#include "host-service/hypervisor/vm_disks.h"
#include "host-service/snapshot/create.h"
#include "host-service/snapshot/layer_files.h"
#include "host-service/snapshot/quiesce.h"
#include "host-service/snapshot/settle.h"

/* One step: ends in create_next(), create_fail() or another way, now or later. */
typedef void (*step_func)(SnapshotCreate *s);

/* A disk on its way. */
struct making {
        const struct snapshot_disk *disk; /* of the record */
        char *top, *top_file, *base;      /* QEMU's nodes: of the layer, its file, and what it stands on */
        char *base_identity;              /* of the files it stands on */
        char *own_name;      /* that an earlier snapshot gave the top, if QEMU has it by another; or NULL */
        gboolean keeps_name; /* it had its own before */
        gint64 changed_ns;   /* of a VM that is off: when its file was last changed before it was copied */
        LayerFiles *files;
        struct layer_look look;
        Settle settle;
};

struct SnapshotCreate {
        const struct host_env *env;
        Catalogue *catalogue;
        const struct guest_view *guests;
        SnapshotRecord *r;
        struct snapshot_options options;
        char *first_id;
        snapshot_created_func done;
        gpointer user;

        const step_func *steps; /* the present one, and those after it */
        struct making *disks;   /* one for each of the record; NULL: not known yet */
        GPtrArray *found;       /* of struct vm_disk; NULL: there is no QEMU. `off`: what it would have */
        gboolean is_domain;     /* of libvirt's */
        gboolean renamed;       /* its definition may name its tops by names that we have given them */
        JsonNode *domain; /* what libvirt says of its disks; NULL: it is none, or is not known any more */
        guint k;          /* which disk the present step is at */
        HypervisorStatus status;
        Quiesce *quiesce;
        gboolean frozen, stopped, switched, settling;
        gboolean placing; /* a well-known path may be the new top's */
        gboolean off;     /* the tops are copied */
        gboolean resumed; /* an earlier moultd may have made some of it */
        GError *error;    /* why it goes back */
        GSource *retry;
        GCancellable *cancellable;
        gboolean working, gone; /* a worker has us; freed meanwhile */
        gboolean (*work)(SnapshotCreate *s, struct making *m, GError **error);
};

/* ---- ways ---- */

void create_next(SnapshotCreate *s);
/* Before the switch: what was begun is taken back, after a look at what is there if it may be in use. Who has
 * looked in vain leaves everything as it is: the row is not final, so it is looked at again. */
void create_fail(SnapshotCreate *s, const GError *error);
/* What is there decides. */
void create_settle(SnapshotCreate *s);
void create_go_back(SnapshotCreate *s);
void create_go_on_as_taken(SnapshotCreate *s);
/* Tells; @s may be gone afterwards. */
void create_end_with(SnapshotCreate *s, const GError *error);

/* ---- helpers ---- */

/* One of the disks was opened by its well-known path. */
gboolean create_has_first(const SnapshotCreate *s);
/* To QEMU; @done may run from inside, if there is no way to one. Takes over @arguments. */
void create_command(SnapshotCreate *s, const char *name, JsonObject *arguments, hypervisor_reply_func done);
/* @work for each disk, one after the other, in a worker thread; @done begins with create_came_back(). */
void create_run_files(SnapshotCreate *s, gboolean (*work)(SnapshotCreate *, struct making *, GError **),
                      host_work_done done, GCancellable *c);
/* FALSE: @s is gone. */
gboolean create_came_back(SnapshotCreate *s);
void create_really_free(SnapshotCreate *s);
gboolean create_look_one(SnapshotCreate *s, struct making *m, GError **error);
/* s->disks, from the record's. */
void create_make_list(SnapshotCreate *s);
/* Whether the row is of a VM that was off: by the names in it. */
gboolean create_is_off(const SnapshotRecord *r);
/* The path of @name beside the disk's well-known one. Owned by the caller. */
char *create_file_beside(const struct snapshot_disk *d, const char *name);
/* In the transaction that adds the snapshot's row, and in the one that ends it. */
gboolean create_add_layers(SnapshotCreate *s, GError **error);
gboolean create_end_layers(SnapshotCreate *s, gboolean taken, GError **error);
/* What QEMU refuses to switch, and what libvirt does: it has happened, or what is there decides. */
void create_on_switched(JsonNode *result, const GError *error, gpointer user);
/* To libvirt; as create_command(). */
void create_ask_domain(SnapshotCreate *s, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done);
/* The file that libvirt has for the disk: as the domain runs ("live"), or is started ("defined"). NULL: none.
 */
const char *create_domain_file(const SnapshotCreate *s, const char *where, const struct snapshot_disk *d);
/* Adds to the arguments of VIRT_DISKS_DEFINE that @d is started from the file @name beside its path. */
void create_define(JsonObject *changes, const struct snapshot_disk *d, const char *name);
/* The file at the disk's well-known path is the one that QEMU writes to, as the row says. */
gboolean create_top_is_right(SnapshotCreate *s, struct making *m, GError **error);
/* Why the grade is not better; NULL: nothing. */
void create_note_why(SnapshotCreate *s, const char *why);

/* ---- steps ---- */

void step_ask_status(SnapshotCreate *s);
void step_ask_domain(SnapshotCreate *s);
void step_check_domain(SnapshotCreate *s);
void step_name_domain(SnapshotCreate *s);
void step_define_next(SnapshotCreate *s);
void step_define_after(SnapshotCreate *s);
void step_define_back(SnapshotCreate *s);
void step_look_below(SnapshotCreate *s);
void step_make_files(SnapshotCreate *s);
void step_place_before(SnapshotCreate *s);
void step_place_after(SnapshotCreate *s);
void step_back_files(SnapshotCreate *s);
void step_add_nodes(SnapshotCreate *s);
void step_stop(SnapshotCreate *s);
void step_switch(SnapshotCreate *s);
void step_go_on(SnapshotCreate *s);
void step_del_nodes(SnapshotCreate *s);
void step_tidy(SnapshotCreate *s);
void step_freeze(SnapshotCreate *s);
void step_thaw(SnapshotCreate *s);
void step_find_again(SnapshotCreate *s);
void step_look_at_files(SnapshotCreate *s);
void step_off_find(SnapshotCreate *s);
void step_off_measure(SnapshotCreate *s);
void step_off_choose(SnapshotCreate *s);
void step_off_begin(SnapshotCreate *s);
void step_off_copy(SnapshotCreate *s);
void step_off_check(SnapshotCreate *s);
void step_off_again(SnapshotCreate *s);
void step_off_back(SnapshotCreate *s);
