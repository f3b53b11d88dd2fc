/* host-service/image/guestfs_calls.h - libguestfs, loaded when the first image is opened.
 *
 * It is large, and most hosts' `moult` never opens an image: so it is a package that is recommended, not one
 * that everything depends on. The types come from its header; nothing is declared twice. */
#pragma once

#include <gio/gio.h>
#include <guestfs.h>

/* clang-format off */
#define GUESTFS_CALLS(X)                                                                                      \
        X(create) X(close) X(set_error_handler) X(last_error) X(get_backend) X(set_backend) X(set_program)    \
        X(add_drive_opts) X(add_drive_scratch) X(launch) X(shutdown) X(sync) X(drop_caches)                    \
        X(inspect_os) X(inspect_get_type) X(inspect_get_distro) X(inspect_get_product_name)                   \
        X(inspect_get_mountpoints) X(list_filesystems) X(list_devices) X(list_partitions) X(lvs) X(vfs_type)                                                        \
        X(mkfs) X(mount) X(mount_ro) X(umount_all) X(mkdir) X(mkdir_p)                                        \
        X(is_dir_opts) X(is_file_opts) X(exists) X(lstatns) X(filesize) X(readlink) X(ls)                     \
        X(pread) X(upload) X(write) X(chmod) X(chown) X(ln_sf) X(mv) X(rm_f) X(rm_rf) X(command)
/* clang-format on */

struct guestfs_calls {
#define X(name) __typeof__(guestfs_##name) *name;
        GUESTFS_CALLS(X)
#undef X
};

/* NULL with @error (UNSUPPORTED, and which package is missing). Loaded once, never unloaded. */
const struct guestfs_calls *guestfs_calls_load(GError **error);
