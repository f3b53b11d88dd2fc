/* shm/manifest.h - the content gate for the upgrade file list: pure checks, then nobody checks again. */
#pragma once

#include <glib.h>

#include "proto/manifest.pb-c.h"
#include "shm/pack_layout.h"

typedef Moult__Manifest Manifest;

/* Unpacks under a memory budget and validates everything that docs/pack-format.md requires (ranges, order,
 * uniqueness, enums, no entry below a non-directory entry, hard links to file entries, blobs inside
 * [blobs_offset, blobs_offset + blobs_size) and not overlapping, extents, chunk tables, trees, limits).
 * MOULT_ERROR_MALFORMED with the entry's path in the text. @ret is freed with manifest_free(). */
Manifest *manifest_parse(const void *data, size_t len, const struct pack_header *header, GError **error);
void manifest_free(Manifest *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manifest, manifest_free)

/* Index of the entry with this path, or -1. Binary search. */
gssize manifest_find(const Manifest *m, const void *path, size_t len);

/* True if the pack holds the Merkle tree of this file entry: at tree_offset of its blob, as
 * common/verity_layout.h lays it out. */
gboolean manifest_has_tree(const Manifest *m, const Moult__Entry *e);
/* True if each block of this file entry can be judged without reading the others: it has a tree, or needs
 * none (at most one block; nothing but a hole, which the signed list itself says). */
gboolean manifest_is_verifiable_by_block(const Manifest *m, const Moult__Entry *e);

/* Valid NUL-terminated copy of an entry's path (validated: holds no NUL). */
char *manifest_entry_path(const Moult__Entry *e);
