/* shm/pmem_window.h - finding the pack that the host plugged as persistent memory (virtio-pmem): /dev/pmemN.
 */
#pragma once

#include "shm/pack_source.h"

/* Looks through @sysfs_block ("/sys/class/block") for whole pmem disks, opens their nodes in @dev ("/dev"),
 * and returns the one that begins with the header of the pack @manifest_digest. MOULT_ERROR_NOT_FOUND if none
 * does, or the kernel is still setting one up: worth another look.
 * @strict: a device in which a probe write sticks is refused (MOULT_ERROR_REFUSED).
 * Reading goes around the page cache: nothing of the pack stays in this guest's memory, and a device that is
 * gone is an error of the read (MOULT_ERROR_IO), not a stale copy and not a signal. */
PackSource *pmem_window_open(const char *sysfs_block, const char *dev,
                             const uint8_t manifest_digest[static 32], gboolean strict, GError **error);
