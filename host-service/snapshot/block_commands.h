/* host-service/snapshot/block_commands.h - what QEMU's block layer is told, as arguments of its commands:
 * pure.
 *
 * Nothing is left to what an image's header says: each image is opened over a node that is named, or over
 * none. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

#define NODE_NAME_SIZE 32u /* of QEMU's, with the 0 */

typedef enum {
        NODE_NEXT_FILE = 'f',
        NODE_NEXT = 'n', /* the image on it */
        NODE_LAYER_FILE = 'g',
        NODE_LAYER = 'l', /* the layer, once it is opened by its own name */
        NODE_MERGED_FILE = 'r',
        NODE_MERGED = 'm', /* history and a layer as one */
        NODE_POINT_FILE = 'c',
        NODE_POINT = 'b', /* what a restore point is read from; the number has the place in the chain, too */
} NodeRole;

/* The name of one of our nodes: of the snapshot @id (a ULID), the disk @number. */
void node_name(char ret[static NODE_NAME_SIZE], const char *id, guint number, NodeRole role);

/* blockdev-add. */
JsonObject *block_add_file(const char *node, const char *path, gboolean read_only);
/* @below: a node, or NULL: none. */
JsonObject *block_add_image(const char *node, const char *format, const char *file_node, const char *below,
                            gboolean read_only);
/* blockdev-reopen: the image of block_add_image(), writable, over another node. */
JsonObject *block_reopen(const char *node, const char *file_node, const char *below);
/* Both at one instant, or neither. @reopen, or @more if that is NULL; @more is used up. */
JsonObject *block_reopen_with(JsonObject *reopen, JsonObject *more);
/* block-commit: what @top has goes into @base, below it, which takes its place at block-job-complete. */
JsonObject *block_commit(const char *job, const char *top, const char *base);
JsonObject *block_job_complete(const char *job);
/* query-named-block-nodes, without what each stands on. */
JsonObject *block_nodes_flat(void);
/* What of @options, for the node that @node (of query-named-block-nodes) describes, would go back to QEMU's
 * defaults, stays as it is: how it is cached, and what becomes of zeros. Returns @options. */
JsonObject *block_keep_options(JsonObject *options, JsonObject *node);
/* human-monitor-command: the same for the node of the drive @device that QEMU has named itself ("#block123"),
 * of which blockdev-reopen knows nothing; all other options stay as they are. NULL: a name that cannot be
 * said there. It answers with a text, and never fails: what has become of it is looked up. */
JsonObject *block_reopen_drive(const char *device, const char *below);
/* change-backing-file: of the header of @node, on top of its disk. */
JsonObject *block_change_backing(const char *node, const char *file);
/* blockdev-del. */
JsonObject *block_del(const char *node);
/* transaction: each of @n tops gets its overlay, all at one instant. */
JsonObject *block_switch(const char *const *tops, const char *const *overlays, guint n);
