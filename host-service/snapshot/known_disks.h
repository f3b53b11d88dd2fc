/* host-service/snapshot/known_disks.h - the disks of a VM that is off: what its QEMU would open, by the
 * catalogue.
 *
 * QEMU is not there to be asked, and headers are not believed; so it is what the last snapshot of each disk
 * has left, with what was merged since. Whoever changes something compares it with the headers first. */
#pragma once

#include "host-service/catalogue/catalogue.h"
#include "host-service/hypervisor/vm_disks.h"

/* Of struct vm_disk, without nodes; `file` is the top's own name, the size that of the last snapshot. Empty:
 * no snapshot was taken of the VM. NOT_FOUND, REFUSED: what a disk stands on is no longer here, or no file.
 */
GPtrArray *known_disks(Catalogue *c, const char *vm, GError **error);
/* One more, that no snapshot was taken of: a qcow2 image at the well-known path @path, which is its device,
 * too. */
void known_disks_add(GPtrArray *disks, const char *path);
/* The one whose top lies beside @path and is named for it; or NULL. */
struct vm_disk *known_disks_find(const GPtrArray *disks, const char *path);
