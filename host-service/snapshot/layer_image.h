/* host-service/snapshot/layer_image.h - an empty image, made by qemu-img through a descriptor: who makes it
 * needs no right to any file, and none is opened that it stands on. Blocks: for worker threads. */
#pragma once

#include <gio/gio.h>

#include "host-service/disk/disk.h"

struct layer_image {
        const char *name;                     /* for texts */
        const char *backing, *backing_format; /* NULL: none. Not opened: it may be in use */
        guint64 size;                         /* of the disk, bytes */
};

/* A qcow2 image in @fd (an empty file, open for writing, the caller's). @qemu_img: the program. IO,
 * CANCELLED. */
gboolean layer_image_make(int fd, const char *qemu_img, const struct layer_image *image, GCancellable *c,
                          GError **error);
/* The name of the backing file in the header of the qcow2 image @fd. "": it has none. The caller frees. NULL
 * with @error: CORRUPT, IO. @name: for texts. */
char *layer_image_backing(int fd, const char *name, GError **error);
/* Whether the headers of the first @count of @n images, of which each stands on the next one, say so, too:
 * QEMU goes by them. What we may not open is passed over. CORRUPT: one names another file; IO. */
gboolean layer_images_check(const struct disk_image *images, guint n, guint count, GError **error);
/* The header of the qcow2 image @path, which no QEMU has open, names @backing from now on; what it
 * names is not opened, and nothing else is changed. Under QEMU's lock; not synced. IO: also if a QEMU has it.
 */
gboolean layer_image_set_backing(const char *path, const char *qemu_img, const char *backing,
                                 const char *backing_format, GError **error);
/* Of the disk, bytes, by the header of the qcow2 image @path; @otherwise, if it cannot be read. */
guint64 layer_image_size(const char *path, guint64 otherwise);
