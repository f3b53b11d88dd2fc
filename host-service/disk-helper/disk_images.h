/* host-service/disk-helper/disk_images.h - a qemu-nbd of moult-disks's, for images that moultd may not open.
 */
#pragma once

#include "host-service/disk/disk.h"
#include "host-service/disk/disk_process.h"

/* @helper: the socket of moult-disks, which judges the chain. It ends the process when the result is freed,
 * or this process ends. @listening: as disk_process_sockets() makes it, and @ret_socket NULL; or -1, and
 * *ret_socket: the connection to one without a name; the caller's. Errors: those of disk_open(), and
 * those of disk_client_ask(). */
DiskProcess *disk_images_open(const char *helper, const struct disk_image *chain, guint n,
                              const struct disk_options *options, int listening, int *ret_socket,
                              GError **error);
