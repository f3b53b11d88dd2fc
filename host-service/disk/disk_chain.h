/* host-service/disk/disk_chain.h - the images of a disk: judged before QEMU sees them, and described to it so
 * that it follows nothing that their headers say. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/disk/disk.h"
#include "host-service/disk/disk_process.h"

/* Looks at each file: its kind, its header, who has it open. @open_as: for each image what is opened for it
 * ("/proc/self/fd/N"), the paths are for texts then; NULL: the paths. Errors: those of disk_open(). */
gboolean disk_chain_check(const struct disk_image *chain, guint n, const char *const *open_as,
                          const struct disk_options *options, GError **error);
/* "json:{...}", for qemu-nbd's command line. The caller frees. */
char *disk_chain_text(const struct disk_image *chain, guint n, const char *const *open_as);
struct disk_serving {
        int listening; /* disk_process_sockets() */
        gboolean writable;
        gboolean shared; /* by some clients, who come and go; else it ends with the first one */
};
/* A qemu-nbd for the chain, which was checked. Errors: those of disk_process_start(). */
DiskProcess *disk_chain_serve(const struct disk_image *chain, guint n, const char *const *open_as,
                              const struct disk_serving *how, const struct disk_process_files *files,
                              GError **error);
