/* shm/pci_window.h - finding the shared-memory window that the host plugged: ivshmem-plain (1af4:1110),
 * BAR 2. */
#pragma once

#include "shm/region.h"

/* Looks through @sysfs_pci ("/sys/bus/pci/devices") for ivshmem devices, enables them, maps resource2_wc
 * (else resource2), and returns the one whose pack header carries @manifest_digest. MOULT_ERROR_NOT_FOUND if
 * none does, or the kernel is still setting one up: worth another look; EPERM on mmap (kernel lockdown) is
 * MOULT_ERROR_REFUSED with a text that says so.
 * @strict: a window in which a probe write sticks is refused. */
PackSource *pci_window_open(const char *sysfs_pci, const uint8_t manifest_digest[static 32], gboolean strict,
                            GError **error);
