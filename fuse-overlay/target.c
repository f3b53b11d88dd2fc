/* fuse-overlay/target.c - the target as a list that is looked up: by path, by subtree, by merge. */
#include "fuse-overlay/target.h"

#include <string.h>

#include "fuse-overlay/target_parts.h"

int target_path_compare(const char *a, const char *b)
{
        gsize i = 0;
        while (a[i] == b[i] && a[i] != '\0')
                i++;
        guchar x = (guchar)a[i], y = (guchar)b[i];
        if (x == y)
                return 0;
        /* The end of a path, then '/', then the others. */
        if (x == '\0' || y == '\0')
                return x == '\0' ? -1 : 1;
        if (x == '/' || y == '/')
                return x == '/' ? -1 : 1;
        return x < y ? -1 : 1;
}

gboolean target_path_is_below(const char *path, const char *above)
{
        gsize len = strlen(above);
        return len == 0 || (strncmp(path, above, len) == 0 && (path[len] == '\0' || path[len] == '/'));
}

Target *target_new(void)
{
        Target *t = g_new0(Target, 1);
        g_atomic_ref_count_init(&t->refs);
        t->items = g_ptr_array_new_with_free_func((GDestroyNotify)item_unref);
        t->merges = g_array_new(FALSE, FALSE, sizeof(struct target_merge));
        t->strings = g_string_chunk_new(256);
        return t;
}

Target *target_ref(const Target *t)
{
        Target *mine = (Target *)t; /* the count is the one thing that changes */
        g_atomic_ref_count_inc(&mine->refs);
        return mine;
}

void target_unref(Target *t)
{
        if (t == NULL || !g_atomic_ref_count_dec(&t->refs))
                return;
        g_ptr_array_unref(t->items);
        g_array_unref(t->merges);
        g_string_chunk_free(t->strings);
        g_free(t);
}

guint target_size(const Target *t)
{
        return t->items->len;
}

static const struct item *item_at(const Target *t, guint i)
{
        return g_ptr_array_index(t->items, i);
}

struct target_item target_get(const Target *t, guint i)
{
        const struct item *item = item_at(t, i);
        return (struct target_item){
                .path = item->path,
                .entry = &item->entry,
                .release = &item->release->message,
                .reach = item->reach,
                .mount = item->mount,
                .opaque = item->opaque,
                .original = item->original,
        };
}

/* The first item that is not before @path. */
static guint lower_bound(const Target *t, const char *path)
{
        guint low = 0, high = t->items->len;
        while (low < high) {
                guint middle = low + (high - low) / 2;
                if (target_path_compare(item_at(t, middle)->path, path) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

gboolean target_lookup(const Target *t, const char *path, struct target_item *ret)
{
        guint i = lower_bound(t, path);
        if (i == t->items->len || !g_str_equal(item_at(t, i)->path, path))
                return FALSE;
        *ret = target_get(t, i);
        return TRUE;
}

guint target_below(const Target *t, const char *path, guint *ret_first)
{
        guint first = lower_bound(t, path), low = first, high = t->items->len;
        /* What is not before @path is below it, and then no more. */
        while (low < high) {
                guint middle = low + (high - low) / 2;
                if (target_path_is_below(item_at(t, middle)->path, path))
                        low = middle + 1;
                else
                        high = middle;
        }
        *ret_first = first;
        return low - first;
}

gboolean target_hides(const Target *t, const char *path)
{
        g_autofree char *above = g_strdup(path);
        struct target_item item;
        for (gsize i = 0;; i++) {
                if (path[i] != '/' && path[i] != '\0')
                        continue;
                above[i] = '\0';
                if (target_lookup(t, above, &item) &&
                    (item.opaque || item.entry->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY))
                        return TRUE;
                if (path[i] == '\0')
                        return FALSE;
                above[i] = '/';
        }
}

/* --- merges */

const char *target_merge_mount(const Target *t, const struct target_merge *merge)
{
        if (merge->mount != NULL)
                return merge->mount;
        const char *nearest = NULL;
        guint first, n = target_below(t, merge->path, &first);
        for (guint i = first; i < first + n; i++) {
                const char *mount = item_at(t, i)->mount;
                if (target_path_is_below(merge->path, mount) &&
                    (nearest == NULL || strlen(mount) > strlen(nearest)))
                        nearest = mount;
        }
        return nearest != NULL ? nearest : "";
}

gboolean target_merge_serves(const Target *t, const struct target_merge *merge,
                             const struct target_item *item)
{
        if (merge->reach == MOULT__TARGET__REACH__REACH_FILE)
                return g_str_equal(item->path, merge->path);
        return target_path_is_below(item->path, merge->path) &&
               g_str_equal(item->mount, target_merge_mount(t, merge));
}

void target_add_merge(Target *t, const struct target_merge *merge)
{
        struct target_merge m = {
                .path = g_string_chunk_insert(t->strings, merge->path),
                .reach = merge->reach,
                .mount = g_string_chunk_insert_const(t->strings, target_merge_mount(t, merge)),
        };
        g_array_append_val(t->merges, m);
}

static int merge_compare(gconstpointer a, gconstpointer b)
{
        return target_path_compare(((const struct target_merge *)a)->path,
                                   ((const struct target_merge *)b)->path);
}

Target *target_with_merges(const Target *t, const struct target_merge *merges, guint n_merges)
{
        Target *ret = target_new();
        for (guint i = 0; i < t->items->len; i++)
                g_ptr_array_add(ret->items, item_ref(g_ptr_array_index(t->items, i)));
        for (guint i = 0; i < n_merges; i++)
                target_add_merge(ret, &merges[i]);
        g_array_sort(ret->merges, merge_compare);
        return ret;
}

guint target_n_merges(const Target *t)
{
        return t->merges->len;
}

struct target_merge target_get_merge(const Target *t, guint i)
{
        return g_array_index(t->merges, struct target_merge, i);
}
