/* fuse-overlay/target.h - the target: everything that the committed releases want different from the
 * original, as one flat list by path (docs/target-file-system.md).
 *
 * Theory of operation: composing is pure. The target of a release is the one before it with the release's
 * items put over it: same path, newer item; a whiteout or a non-directory over a directory hides what lies
 * below it, and those items go. A directory that comes where a whiteout or a non-directory was is *opaque*:
 * what the original has in a directory of that name was hidden, and stays so. Nothing ever depends on how
 * many releases came before.
 *
 * Items are in the order of target_path_compare(): what lies below a directory directly follows it. */
#pragma once

#include <glib.h>

#include "common/metadata.h"
#include "fuse-overlay/target.pb-c.h"

typedef struct Target Target; /* immutable */

#define TARGET_OBJECT_NAME_LENGTH 64u /* hex */
#define TARGET_ID_LENGTH          32u /* hex */

struct target_item {
        const char *path; /* physical, relative to the root */
        const Moult__Entry *entry;
        const Moult__Target__Release *release;
        Moult__Target__Reach reach;
        const char *mount; /* mount point, relative to the root */
        gboolean opaque;   /* a directory in which nothing of the original is seen */
        Moult__Target__Original original;
};

struct target_merge {
        const char *path;
        Moult__Target__Reach reach;
        const char *mount; /* mount point that @path lies on; a target always has it. NULL, from a caller who
                              does not know: the nearest one above @path that has items below @path */
};

/* An item that a release adds. Everything is borrowed. */
struct target_change {
        const char *path;          /* physical */
        const Moult__Entry *entry; /* its own path, blob, extents, old digests are not kept */
        /* For HARDLINK entries: the FILE entry of the group. A target has no hard links of its own: names of
         * one group have one object, and so one inode. NULL for all others. */
        const Moult__Entry *link_to;
        Moult__Target__Reach reach;
        const char *mount;
        const Metadata *metadata; /* if not NULL: what is to be seen, with the label that it inherits; else
                                     the entry's */
        /* What the original has there; unknown is allowed. ABSENT: a deletion needs no whiteout. DIRECTORY:
         * the place itself can be merged. */
        Moult__Target__Original original;
};

struct target_release {
        const char *name; /* "NAME VERSION" */
        guint64 generation;
        const guint8 *manifest_digest; /* 32 bytes */
};

/* @before: NULL if nothing is merged. Releases that no item is from any more are dropped. merges are not set.
 * Changes may be in any order; of two with one path the later counts. A change below what is no directory
 * makes it an opaque one (root's, 0755). */
Target *target_compose(const Target *before, const struct target_release *release,
                       const struct target_change *changes, guint n_changes);
/* With these merges (copied). Same items. */
Target *target_with_merges(const Target *t, const struct target_merge *merges, guint n_merges);
Target *target_ref(const Target *t);
void target_unref(Target *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Target, target_unref)

/* The durable form: 32 bytes SHA-256 of the rest, then protobuf. */
GBytes *target_serialise(const Target *t);
/* MOULT_ERROR_CORRUPT: digest, order, paths, types, ranges: every rule is checked. */
Target *target_parse(GBytes *bytes, GError **error);

/* NULL, or why it cannot be kept: too large, or an item that no target may have (a device 0:0, attributes of
 * overlayfs). For the plan: what passes here can be parsed again. The caller frees. */
char *target_refusal(const Target *t);

/* By component, as if '/' were the smallest byte. */
int target_path_compare(const char *a, const char *b);
/* @path is @above, or lies below it. "" is above everything. */
gboolean target_path_is_below(const char *path, const char *above);

guint target_size(const Target *t);
struct target_item target_get(const Target *t, guint i);
/* FALSE: not in the target. */
gboolean target_lookup(const Target *t, const char *path, struct target_item *ret);
/* Items at or below @path are [*ret_first, *ret_first + n): n is returned. "" is everything. */
guint target_below(const Target *t, const char *path, guint *ret_first);
/* TRUE if what the original has at @path is not to be seen: the target has a whiteout, a non-directory or an
 * opaque directory there or above. */
gboolean target_hides(const Target *t, const char *path);
/* The merge's own mount, or the one that NULL stands for ("" if there is none). Borrowed from the merge or an
 * item. */
const char *target_merge_mount(const Target *t, const struct target_merge *merge);
/* TRUE if the merge serves the item: it is at or below it, on the same mount. */
gboolean target_merge_serves(const Target *t, const struct target_merge *merge,
                             const struct target_item *item);
guint target_n_merges(const Target *t);
struct target_merge target_get_merge(const Target *t, guint i);

/* The name of a FILE item's object: hex SHA-256 over digest, size, mode, owner, mtime and attributes, in a
 * canonical form. Pure. */
void target_object_name(const Moult__Entry *entry, char ret[static TARGET_OBJECT_NAME_LENGTH + 1]);
/* Names what is to be seen below a merge: equal ids, equal trees. Does not depend on releases or generations.
 */
void target_id(const Target *t, const struct target_merge *merge, char ret[static TARGET_ID_LENGTH + 1]);
