/* host-service/snapshot/merge_choice.h - which two files of a VM's disks become one: from what QEMU has open
 * and what the catalogue knows of it. */
#pragma once

#include "host-service/catalogue/merges.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/hypervisor/vm_disks.h"
#include "host-service/snapshot/merge.h"

/* The first of @disks (of struct vm_disk) whose top stands on two layers of @vm, of which no other chain is
 * known to need one; @which: as there. The row is made, not added; *ret_disk
 * is the disk, in @disks. @id: a ULID for the new file. NULL without @error: there is none. REFUSED: QEMU has
 * another chain open than the catalogue knows, or the name would be too long. */
MergeRecord *merge_choice_make(Catalogue *c, const char *vm, const GPtrArray *disks, MergeWhich which,
                               const char *id, const struct vm_disk **ret_disk, GError **error);

/* Whether the catalogue knows of a disk of @s for which MERGE_STORED would do something. QEMU may have
 * another chain. */
gboolean merge_choice_is_due(Catalogue *c, const SnapshotRecord *s);
