/* host-service/snapshot/layer_files.h - what a snapshot does to the files of one disk.
 *
 * moultd does it itself where it may, and asks moult-disks(8) where it may not: nobody else has to know
 * which. Everything that counts is synced before it returns. All of it blocks: for worker threads, one at a
 * time. Doing a thing twice is doing it once, so whoever does not know how far he came does it again. */
#pragma once

#include <gio/gio.h>

#include "host-service/snapshot/layer_links.h"

typedef struct layer_files LayerFiles;

/* @path: the well-known path, absolute; @top, @next: names beside it; @format: of the present top ("qcow2",
 * "raw"); @size: of the disk, bytes; @helper: the socket of moult-disks, or NULL: there is none. All is
 * copied. NOT_FOUND, IO; REFUSED: no regular file, or moult-disks may not work there. */
LayerFiles *layer_files_open(const char *path, const char *top, const char *next, const char *format,
                             guint64 size, const char *helper, GError **error);
void layer_files_free(LayerFiles *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerFiles, layer_files_free)

/* A file can be made in the directory @dir, and be given the owner that the disk @path has. */
gboolean layer_files_may_do_it_here(const char *dir, const char *path);

gboolean layer_files_look(LayerFiles *f, struct layer_look *ret, GError **error);
/* The present top gets its own name, if it has none. REFUSED: the file system has no hard links. */
gboolean layer_files_name_top(LayerFiles *f, GError **error);
/* The new top: an empty qcow2 image over the present one, with its owner, group and mode. One that is left
 * from before is made anew. @qemu_img: the program. NO_SPACE, IO. */
gboolean layer_files_make_next(LayerFiles *f, const char *qemu_img, GCancellable *c, GError **error);
/* The same under the name of the new top, but over the file @below (absolute; of @below_format), or over
 * nothing (NULL): for what is put together from layers. */
gboolean layer_files_make_over(LayerFiles *f, const char *below, const char *below_format,
                               const char *qemu_img, GCancellable *c, GError **error);
/* The name of the new top becomes that of a copy of the present one, a qcow2 image over @below (as above),
 * with its owner, group and mode. One that is left from before is made anew. REFUSED: the present one stands
 * on another file, or is of another size; BUSY: a QEMU has it open; NO_SPACE, IO, CANCELLED. */
gboolean layer_files_copy_top(LayerFiles *f, const char *below, GCancellable *c, GError **error);
/* The well-known path becomes the new top's, or the present top's again. */
gboolean layer_files_place_next(LayerFiles *f, GError **error);
gboolean layer_files_place_top(LayerFiles *f, GError **error);
/* The new top goes, and a link that was left half-way. REFUSED while the well-known path is its. */
gboolean layer_files_remove_next(LayerFiles *f, GError **error);
/* The present top is known by the well-known path alone again. REFUSED if it is another file. */
gboolean layer_files_unname_top(LayerFiles *f, GError **error);
