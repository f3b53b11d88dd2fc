/* host-service/cli/sides.h - what is compared: the words after --from, --to and --golden as trees.
 *
 * A side is a directory, an image, or a VM. The old side is read first; of the new one, if it is an image or
 * a VM, only what differs from the old one is read. Images are open as long as their trees are used. */
#pragma once

#include "host-service/cli/client.h"
#include "host-service/cli/progress.h"
#include "host-service/image/image_tree.h"
#include "host-service/cli/vm_files.h"

enum side_kind { SIDE_DIRECTORY, SIDE_PACKAGES, SIDE_VM, SIDE_IMAGE };

/* Judges the words after @option, and says what could be meant instead. */
gboolean side_kind_of(const char *option, char **words, enum side_kind *ret, GError **error);

struct side {
        const char *word; /* borrowed */
        enum side_kind kind;
        struct image_name name;
        ImageTree *image;
        VmFiles *files;
        struct agent_tree_asker asker;
};
void side_clear(struct side *s);
typedef struct side Side;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Side, side_clear)

/* Starts the virtual machines of those that are images, both at once. A layer (@new_side) may stand on the
 * image that @old_side is. */
gboolean sides_open(Side *old_side, Side *new_side, GError **error);
/* The VM that vm:NAME names is asked through moultd. @progress may be NULL. */
void side_open_vm(Side *s, Cli *cli, const char *vm, Progress *progress);

struct side_options {
        const PerVmList *per_vm;
        const char *const *exclude, *const *exclude_xattr;
        gboolean owner_root;
        gboolean hash; /* read everything; else size, time and metadata tell what is read */
};
/* The tree of @s against @base, which is NULL for the old side. */
BuildTree *side_read(const Side *s, const BuildTree *base, const struct side_options *o,
                     GCancellable *cancellable, GError **error);
