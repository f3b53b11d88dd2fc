/* fuse-overlay/merge_absent.c - merges whose mount is not there.
 *
 * A merge says on which mount its items lie. Without that mount its place is another directory, empty most of
 * the time, and a merge on it would show a tree that nobody ever made. */
#include "common/error.h"
#include "fuse-overlay/merge_parts.h"

/* Something that is not ours is mounted at @path. */
static gboolean is_mounted(const Merger *m, const MountTable *table, const char *path)
{
        MergeMethod method;
        char id[TARGET_ID_LENGTH + 1];
        g_autofree char *point =
                g_strconcat(g_str_equal(m->config.root, "/") ? "" : m->config.root, "/", path, NULL);
        if (*path == '\0') /* what the root is on */
                return TRUE;
        for (guint i = 0; i < mount_table_size(table); i++) {
                const struct mount *mount = mount_table_get(table, i);
                if (g_str_equal(mount->point, point) && !mount_is_merge(mount, m->trees, &method, id))
                        return TRUE;
        }
        return FALSE;
}

gboolean merger_mount_is_there(const Merger *m, const struct target_merge *merge, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return FALSE;
        if (is_mounted(m, table, merge->mount))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "/%s is not mounted any more, so /%s cannot be merged: mount it and try again",
                    merge->mount, merge->path);
        return FALSE;
}

Target *merger_present_part(const Merger *m, const Target *want, GString *notes, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        g_autoptr(GArray) merges = g_array_new(FALSE, FALSE, sizeof(struct target_merge));
        if (table == NULL)
                return NULL;
        for (guint i = 0; i < target_n_merges(want); i++) {
                struct target_merge merge = target_get_merge(want, i);
                if (is_mounted(m, table, merge.mount))
                        g_array_append_val(merges, merge);
                else if (notes != NULL)
                        g_string_append_printf(notes,
                                               "/%s is not mounted: /%s is merged when the agent starts with "
                                               "it mounted\n",
                                               merge.mount, merge.path);
        }
        return target_with_merges(want, (const struct target_merge *)(gpointer)merges->data, merges->len);
}
