/* guest-agent/stale_mounts.c - whether a mount namespace followed the merges. */
#include "guest-agent/stale_mounts.h"

#include <string.h>

#define TAG     "moult-"
#define RUN_DIR "/run/moult/" /* our own workshop, private on purpose */

static gboolean is_below(const char *path, const char *root)
{
        gsize n = g_str_equal(root, "/") ? 0 : strlen(root);

        return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* What is on top at each place that has a merge of ours: point -> tag. Both point into the
 * table. */
static GHashTable *merges(const MountTable *t, const char *root)
{
        GHashTable *tags = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GHashTable) covered = g_hash_table_new(g_int64_hash, g_int64_equal);

        for (guint i = 0; i < mount_table_size(t); i++) {
                const struct mount *m = mount_table_get(t, i);
                const struct mount *below = mount_table_find(t, m->parent_id);

                if (below && below != m && g_str_equal(below->point, m->point))
                        g_hash_table_add(covered, (gpointer)&below->id);
        }
        for (guint i = 0; i < mount_table_size(t); i++) {
                const struct mount *m = mount_table_get(t, i);

                if (g_str_has_prefix(m->source, TAG) && is_below(m->point, root) &&
                    !g_str_has_prefix(m->point, RUN_DIR) && !g_hash_table_contains(covered, &m->id))
                        g_hash_table_insert(tags, m->point, m->source);
        }
        return tags;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *stale_mounts_differ(const MountTable *ours, const MountTable *theirs, const char *root)
{
        g_autoptr(GHashTable) here = merges(ours, root), there = merges(theirs, root);
        GPtrArray *differ = g_ptr_array_new_with_free_func(g_free);
        GHashTableIter iter;
        gpointer point, tag;

        g_hash_table_iter_init(&iter, here);
        while (g_hash_table_iter_next(&iter, &point, &tag))
                if (g_strcmp0(g_hash_table_lookup(there, point), tag) != 0)
                        g_ptr_array_add(differ, g_strdup(point));
        g_hash_table_iter_init(&iter, there);
        while (g_hash_table_iter_next(&iter, &point, &tag))
                if (!g_hash_table_contains(here, point))
                        g_ptr_array_add(differ, g_strdup(point));
        g_ptr_array_sort(differ, by_name);
        return differ;
}
