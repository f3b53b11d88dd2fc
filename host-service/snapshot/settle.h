/* host-service/snapshot/settle.h - what has become of a snapshot that was being made, from what is there:
 * pure. The table is in docs/snapshots.md. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/hypervisor/vm_disks.h"
#include "host-service/snapshot/layer_files.h"

typedef enum {
        SETTLE_BACK,    /* the guest goes on in the layer: the well-known path is its, the new top goes */
        SETTLE_TAKEN,   /* it goes on in the new top: the well-known path is that one's */
        SETTLE_FOREIGN, /* somebody else changed the disk: nothing is touched */
} Settle;

/* Of the disk @s. @disks: of struct vm_disk, as QEMU has them now; NULL: there is no QEMU. */
Settle settle_disk(const struct snapshot_disk *s, const GPtrArray *disks, const struct layer_look *look);
/* Of one that is a libvirt domain's, and off: @file is what it is started from next. */
Settle settle_disk_defined(const struct snapshot_disk *s, const char *file, const struct layer_look *look);
/* Of all: a snapshot is taken if each of its disks is. TRUE: that is so. FALSE, with @ret_foreign: whether
 * one is somebody else's; if not, disks went back, all of them or (QEMU ended in between, and was started
 * from what it found) some. */
gboolean settle_is_taken(const Settle *each, guint n, gboolean *ret_foreign);
