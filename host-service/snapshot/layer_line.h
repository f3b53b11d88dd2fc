/* host-service/snapshot/layer_line.h - in which files of this host a layer, and all that it stands on, is to
 * be found: from the catalogue's rows, without looking at a file. */
#pragma once

#include "host-service/catalogue/layers.h"
#include "host-service/disk/disk.h"

/* Images that stand on each other, the newest first, as disk_open() takes them. */
typedef struct file_chain {
        GArray *images;   /* of struct disk_image */
        GPtrArray *texts; /* that they point to */
} FileChain;
FileChain *file_chain_new(void);
void file_chain_free(FileChain *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FileChain, file_chain_free)
/* Texts are copied. */
void file_chain_add(FileChain *c, const char *path, const char *format);
/* disk_open() of it. Blocks. */
Disk *file_chain_open(const FileChain *c, const struct disk_options *options, GCancellable *cancellable,
                      GError **error);

/* By which another file of the same name, or the same one with another content, is told apart: devices,
 * inodes, sizes, times. One that cannot be looked at is "?". Blocks. */
char *file_chain_identity(const FileChain *c);

/* A layer with all that it stands on (catalogue_layer_line()): pure questions about it. Indices count from
 * the newest layer, 0, to the base. */

/* The files that show the state of line[@from]: down to the bottom (@until = line->len), or those that have
 * what is newer than line[@until]; one that was merged has something older as well. NOT_FOUND: one is not on
 * this host any more; REFUSED: as below. */
FileChain *layer_line_files(const GPtrArray *line, guint from, guint until, GError **error);
/* Files of the base and below it. REFUSED: they are no plain files. */
gboolean layer_line_add_base(FileChain *c, const LayerRecord *base, GError **error);
/* Whether the files of the base are here as they were. Blocks. REFUSED: they are not. TRUE for a line
 * without. */
gboolean layer_line_base_is_same(const GPtrArray *line, GError **error);
/* Appends the ids of all of the line to @ids (of texts, freed with it), for references (layer_refs.h). */
void layer_line_add_ids(const GPtrArray *line, GPtrArray *ids);
/* The newest layer from @from on that the store has by itself; line->len: none. */
guint layer_line_uploaded(const GPtrArray *line, guint from);
