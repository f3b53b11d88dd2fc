/* shm/pack_trees.h - the Merkle trees of a pack that is being made: set aside, then put behind the blobs.
 *
 * Theory of operation: how long the blobs get is known only at the end, so trees are written to an unlinked
 * file beside the pack and copied over then; they take 1/127 of what they are over. There is one tree at a
 * time: its level-1 blocks come in any order, the rest when the last of them is there, and then it is kept
 * for a blob or makes room for the next one. So memory does not grow with a file's size. */
#pragma once

#include <glib.h>

#include "common/verity_layout.h"
#include "proto/manifest.pb-c.h"

typedef struct PackTrees PackTrees;

/* @pack_path: whose directory has the room; for messages. */
PackTrees *pack_trees_new(const char *pack_path);
void pack_trees_free(PackTrees *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PackTrees, pack_trees_free)

/* @n_blocks level-1 blocks over chunk @chunk of the tree that is being made. */
gboolean pack_trees_add_leaves(PackTrees *t, const struct verity_layout *layout, uint64_t chunk,
                               const uint8_t *blocks, size_t n_blocks, GError **error);
/* All leaves are there: writes the levels above. *ret is the file's digest. */
gboolean pack_trees_finish(PackTrees *t, const struct verity_layout *layout, VerityTree *tree, Hasher *h,
                           uint8_t ret[static DIGEST_SIZE], GError **error);
/* The tree is @b's. Without this call the next one takes its place. @b must live until pack_trees_append().
 */
void pack_trees_keep(PackTrees *t, const struct verity_layout *layout, Moult__Blob *b);

/* Puts all that were kept at @end of the pack and sets their blobs' tree_offset. */
gboolean pack_trees_append(PackTrees *t, int pack_fd, uint64_t end, GError **error);
/* Of all that were kept; a multiple of VERITY_BLOCK_SIZE. */
uint64_t pack_trees_size(const PackTrees *t);
