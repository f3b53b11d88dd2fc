/* host-service/snapshot/disk_choice.h - of which disks a snapshot is taken, and under which names: pure. */
#pragma once

#include "host-service/catalogue/snapshots.h"
#include "host-service/hypervisor/vm_disks.h"

#define CHAIN_FILES_MAX 4u /* of a chain in use, the base and the top among them */

/* How the content of a layer comes to be it. */
enum disk_sealing {
        DISK_SEALED, /* the present top is it, and a new one is put above it */
        DISK_COPIED, /* a copy of the present top is; that one goes on being the top */
};

/* Adds to @r what a snapshot of @disks (of struct vm_disk) needs. @wanted: ids of drives, or their well-known
 * paths, NULL-terminated; NULL: all that the guest can write to. @r has its id. @first_id: for layers that
 * have no name of their own yet; another ULID. With DISK_COPIED `next_on` is not set. REFUSED: there is none,
 * or one that no snapshot can be taken of (why is said); NOT_FOUND: a drive that is not there. */
gboolean disk_choice_make(SnapshotRecord *r, const GPtrArray *disks, const char *const *wanted,
                          const char *first_id, enum disk_sealing how, GError **error);
