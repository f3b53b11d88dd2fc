/* fuse-overlay/target_rules.c - what a target must look like to be kept, and to be believed when it is read.
 * Pure.
 *
 * The entry of an item follows the rules of release packs (shm/manifest_rules.c); what is here comes on top.
 */
#include <string.h>

#include "common/digest.h"
#include "common/fs_beneath.h"
#include "fuse-overlay/target_parts.h"
#include "proto/limits.h"
#include "shm/manifest_rules.h"

/* overlayfs obeys them where it should show them. */
#define OVERLAY_XATTR "trusted.overlay."

static gboolean is_below(ProtobufCBinaryData path, ProtobufCBinaryData above)
{
        return above.len == 0 || (path.len >= above.len && memcmp(path.data, above.data, above.len) == 0 &&
                                  (path.len == above.len || path.data[above.len] == '/'));
}

static const char *mount_refusal(ProtobufCBinaryData mount, ProtobufCBinaryData path)
{
        if (mount.len > 0 && fs_path_refusal(mount.data, mount.len) != NULL)
                return "its mount point is not a clean relative path";
        return is_below(path, mount) ? NULL : "it does not lie below its mount point";
}

static const char *kept_entry_refusal(const Moult__Entry *e)
{
        const char *why = entry_refusal(e);
        if (why != NULL)
                return why;
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                return "it is a hard link";
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE && e->dev_major == 0 && e->dev_minor == 0)
                return "it is the character device 0:0, which overlayfs takes for a deletion";
        if (e->blob != 0 || e->n_extents != 0 || e->n_old_digests != 0 || e->old_must_exist ||
            e->delivery != MOULT__DELIVERY__DELIVERY_AUTO)
                return "it has fields that only a release has";
        for (size_t i = 0; i < e->n_xattrs; i++) {
                ProtobufCBinaryData name = e->xattrs[i]->name;
                if (name.len >= strlen(OVERLAY_XATTR) &&
                    memcmp(name.data, OVERLAY_XATTR, strlen(OVERLAY_XATTR)) == 0)
                        return "it has an extended attribute of overlayfs (trusted.overlay.*)";
        }
        return NULL;
}

const char *target_item_refusal(const Moult__Target__Item *i, gsize n_releases)
{
        if (i->entry == NULL)
                return "it has no entry";
        if (i->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        const char *why = kept_entry_refusal(i->entry);
        if (why != NULL)
                return why;
        if (i->release >= n_releases)
                return "its release is not listed";
        if ((unsigned)i->reach > MOULT__TARGET__REACH__REACH_FILE)
                return "unknown reach";
        if ((unsigned)i->original > MOULT__TARGET__ORIGINAL__ORIGINAL_OTHER)
                return "unknown kind of original";
        if (i->reach == MOULT__TARGET__REACH__REACH_FILE && i->entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return "it is to be merged by itself, but is not a regular file";
        if (i->opaque && i->entry->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                return "it is opaque, but not a directory";
        return mount_refusal(i->mount, i->entry->path);
}

const char *target_release_refusal(const Moult__Target__Release *r)
{
        if (r->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (r->name.len == 0 || r->name.len > LIMIT_RELEASE)
                return "its name is not 1 to 129 bytes";
        for (size_t i = 0; i < r->name.len; i++)
                if (r->name.data[i] < 0x20 || r->name.data[i] >= 0x7f)
                        return "its name is not printable";
        return r->manifest_digest.len == DIGEST_SIZE ? NULL : "its manifest's digest is not 32 bytes";
}

const char *target_merge_refusal(const Moult__Target__Merge *m)
{
        if (m->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (fs_path_refusal(m->path.data, m->path.len) != NULL)
                return "it is not a clean relative path";
        if ((unsigned)m->reach > MOULT__TARGET__REACH__REACH_FILE)
                return "unknown reach";
        return mount_refusal(m->mount, m->path);
}

/* Where we are: nothing may be below @hidden; below @opaque nothing hides the original. */
static const char *items_refusal(const Target *t, const char **ret_path)
{
        const char *hidden = NULL, *opaque = NULL;
        for (guint n = 0; n < t->items->len; n++) {
                const struct item *i = g_ptr_array_index(t->items, n);
                const struct item *before = n > 0 ? g_ptr_array_index(t->items, n - 1) : NULL;
                gboolean directory = i->entry.type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
                *ret_path = i->path;
                if (before != NULL && target_path_compare(before->path, i->path) >= 0)
                        return "items are not in order, or one is listed twice";
                if (hidden != NULL && target_path_is_below(i->path, hidden))
                        return "it lies below what is not a directory";
                if (opaque != NULL && !target_path_is_below(i->path, opaque))
                        opaque = NULL;
                if (opaque != NULL && (i->opaque || i->entry.type == MOULT__ENTRY_TYPE__ENTRY_DELETE))
                        return "it hides something, but lies below an opaque directory";
                if (i->opaque)
                        opaque = i->path;
                if (!directory)
                        hidden = i->path;
        }
        return NULL;
}

static const char *merge_place_refusal(const Target *t, const struct target_merge *m)
{
        struct target_item item;
        gboolean listed = target_lookup(t, m->path, &item);
        if (m->reach == MOULT__TARGET__REACH__REACH_FILE)
                return listed && item.entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE
                               ? NULL
                               : "a file is merged that is not in the target";
        return !listed || item.entry->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY
                       ? NULL
                       : "what is merged is not a directory in the target";
}

static const char *merges_refusal(const Target *t, const char **ret_path)
{
        g_autoptr(GPtrArray) around = g_ptr_array_new(); /* merges that the present one lies in */
        for (guint n = 0; n < t->merges->len; n++) {
                const struct target_merge *m = &g_array_index(t->merges, struct target_merge, n);
                const struct target_merge *before = n > 0 ? m - 1 : NULL;
                *ret_path = m->path;
                if (before != NULL && target_path_compare(before->path, m->path) >= 0)
                        return "merges are not in order, or one is listed twice";
                const char *why = merge_place_refusal(t, m);
                if (why != NULL)
                        return why;
                while (around->len > 0) {
                        const struct target_merge *outer = around->pdata[around->len - 1];
                        if (target_path_is_below(m->path, outer->path))
                                break;
                        g_ptr_array_set_size(around, (gint)around->len - 1);
                }
                /* Mount points above one path are nested as well: the innermost merge has the longest. */
                if (around->len > 0) {
                        const struct target_merge *outer = around->pdata[around->len - 1];
                        if (outer->reach == MOULT__TARGET__REACH__REACH_FILE)
                                return "it lies below a file that is merged";
                        if (!target_path_is_below(m->mount, outer->path) ||
                            g_str_equal(m->mount, outer->mount))
                                return "two merges of one mount lie in one another";
                }
                g_ptr_array_add(around, (gpointer)m);
        }
        return NULL;
}

const char *target_structure_refusal(const Target *t, const char **ret_path)
{
        const char *why = items_refusal(t, ret_path);
        return why != NULL ? why : merges_refusal(t, ret_path);
}
