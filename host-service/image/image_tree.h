/* host-service/image/image_tree.h - the tree in an image, for whoever compares trees (release/agent_tree.h).
 *
 * Our agent, beside the image, is asked about it: once for all names, not once for
 * each file. Contents are read through the virtual machine, when somebody opens them. */
#pragma once

#include "host-service/image/image.h"
#include "host-service/release/agent_tree.h"

typedef struct ImageTree ImageTree;

/* Opens @name, and finds its system. @backing: as in image_options. Errors: those of image_open() and
 * image_mount(); NOT_FOUND: the agent's program is missing. */
ImageTree *image_tree_open(const struct image_name *name, const struct image_name *backing, GError **error);
void image_tree_free(ImageTree *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageTree, image_tree_free)

/* For agent_tree_read(). Owned by @t, which must outlive the trees read with it; contents are opened by one
 * thread. */
const struct agent_tree_asker *image_tree_asker(const ImageTree *t);
const char *image_tree_name(const ImageTree *t);
