/* host-service/catalogue/snapshots.h - restore points of VMs, and the layers that they are made of.
 *
 * A snapshot is a row before a file is touched. Its state says how far it came; what is true after a crash is
 * read from the files and from QEMU (docs/snapshots.md), and only then written here. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/catalogue.h"

typedef enum {
        SNAPSHOT_MAKING,
        SNAPSHOT_STOPPED, /* making, and the VM was stopped for it, or is about to be */
        SNAPSHOT_TAKEN,   /* final: a restore point */
        SNAPSHOT_FAILED,  /* final: there is nothing of it */
        SNAPSHOT_STATE_MAX
} SnapshotState;
const char *snapshot_state_name(SnapshotState s);
static inline gboolean snapshot_state_is_final(SnapshotState s)
{
        return s >= SNAPSHOT_TAKEN;
}

typedef enum {
        GRADE_CRASH, /* nothing was frozen */
        GRADE_FILESYSTEM,
        GRADE_APPLICATION, /* hooks ran, too */
        GRADE_MAX
} SnapshotGrade;
const char *snapshot_grade_name(SnapshotGrade g);

struct snapshot_disk {
        guint number;  /* of the snapshot's disks, from 0 */
        char *device;  /* as QEMU and operators call it */
        char *path;    /* the well-known one */
        char *layer;   /* the file beside it that the snapshot is */
        char *next;    /* and that the guest writes to since */
        char *next_on; /* id of the layer that it stands on; NULL: on `layer`; "": on nothing */
        char *format;  /* of the layer */
        guint64 size_bytes;
        gboolean is_first; /* QEMU had opened the layer by its well-known path */
};

typedef struct {
        char *id; /* of the operation that makes it */
        char *vm, *name;
        SnapshotState state;
        gint64 created_us, taken_us; /* taken: 0 until it is */
        gboolean running;            /* the VM was, when it began */
        SnapshotGrade grade;
        char *why;          /* it has no better grade; or NULL */
        gint64 frozen_us;   /* how long the guest's file systems were */
        guint hooks;        /* that ran in the guest */
        gint64 uploaded_us; /* since when the store has it; 0: it does not */
        GPtrArray *disks;   /* of struct snapshot_disk, by number */
} SnapshotRecord;
SnapshotRecord *snapshot_record_new(void);
void snapshot_record_free(SnapshotRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotRecord, snapshot_record_free)
/* @r gets it. */
struct snapshot_disk *snapshot_record_add_disk(SnapshotRecord *r);

/* With its disks; event snapshot.making. REFUSED: the VM has one of that name. */
gboolean catalogue_snapshot_add(Catalogue *c, const SnapshotRecord *r, GError **error);
/* Everything but names and disks; event snapshot.STATE. A final state is never left: WRONG_STATE. */
gboolean catalogue_snapshot_update(Catalogue *c, const SnapshotRecord *r, GError **error);
/* The store has all of it; event snapshot.uploaded. Once is as good as twice. */
gboolean catalogue_snapshot_set_uploaded(Catalogue *c, const char *id, gint64 when_us, GError **error);
SnapshotRecord *catalogue_snapshot_get(Catalogue *c, const char *id, GError **error);
/* The snapshot @which of the VM: its name or id. NOT_FOUND, with the names that there are. */
SnapshotRecord *catalogue_snapshot_find(Catalogue *c, const char *vm, const char *which, GError **error);
/* The last one of the VM that was taken at or before @at_us. NOT_FOUND, with the first one that there is. */
SnapshotRecord *catalogue_snapshot_at(Catalogue *c, const char *vm, gint64 at_us, GError **error);
/* The VM's disks, as far as snapshots were taken of them: of struct snapshot_disk, each as the newest one
 * left it. A device, and a path, is there once. */
GPtrArray *catalogue_snapshot_disks(Catalogue *c, const char *vm, GError **error);
/* The top of the disk at @path as the newest snapshot left it: its file's name, and the id of the layer that
 * it stands on (NULL: that of the file `layer`; "": it stands on nothing). NOT_FOUND: no snapshot was taken
 * of it. */
struct snapshot_top {
        char *name, *on, *layer; /* owned */
};
void snapshot_top_clear(struct snapshot_top *t);
gboolean catalogue_snapshot_top(Catalogue *c, const char *vm, const char *path, struct snapshot_top *ret,
                                GError **error);
/* Whether the file of this name was the new top of a snapshot: its name from birth. TRUE if it cannot be
 * told. */
gboolean catalogue_snapshot_made(Catalogue *c, const char *name);
/* Of the VM, or of all (NULL); newest first. Those that failed are not among them. */
GPtrArray *catalogue_snapshot_list(Catalogue *c, const char *vm, guint limit, GError **error);

JsonObject *snapshot_record_to_json(const SnapshotRecord *r);
