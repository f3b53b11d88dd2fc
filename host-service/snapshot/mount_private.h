/* host-service/snapshot/mount_private.h - what the files of a mount share; for them only.
 *
 * mount.c: the jobs, and which mounts there are. mount_disk.c: one disk after the other becomes readable. */
#pragma once

#include "host-service/jobs/job_task.h"
#include "host-service/snapshot/mount.h"
#include "host-service/snapshot/restore.h"
#include "host-service/snapshot/restore_point.h"

struct mount_disk {
        const struct snapshot_disk *d;
        GPtrArray *line;
        char *socket;
        char *part;       /* what was fetched; without a name once it is open */
        FileChain *files; /* that it is read from */
        Disk *disk;       /* NULL: not open (any more) */
        gboolean from_store;
};

struct mount {
        SnapshotMounts *owner;
        struct job_task job;
        RestorePoint *point;
        GPtrArray *held;  /* ids of its layers, to which we have references */
        GPtrArray *disks; /* of struct mount_disk */
        guint next;       /* the one that is being opened */
        Restore *restore;
        gint64 mounted_us; /* 0: not yet */
        gboolean closing;
};

void mount_disk_free(gpointer disk);
/* Opens m->disks, one after the other, and then calls @then once, later from the loop, with NULL or why not.
 */
void mount_open(struct mount *m, void (*then)(struct mount *m, const GError *error));
/* In a worker thread; the sockets are gone after it. */
void mount_close(struct mount *m);

struct SnapshotMounts {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        ObjectStore *objects;
        LayerRefs *refs;
        char *dir, *group;
        GPtrArray *mounts; /* of struct mount, those that are being made or ended too */
        guint ending;      /* unmounts that a worker is at */
};
