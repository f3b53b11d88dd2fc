/* fuse-overlay/merge_plan.c - from a target's items to the places that are merged. Pure.
 *
 * Theory of operation: items that one merge could bring are a *group*: those on one mount; on the root's own
 * mount, which is never merged as a whole, those below one directory at the top. The place of a group is the
 * deepest directory that holds all of its items and what is merged of it already. A lone regular file is a
 * place of its own, unless the place of its mount's group holds it anyway. */
#include "fuse-overlay/merge_plan.h"

#include <string.h>

#include "proto/message.h"

struct group {
        const char *key;   /* mount, or first component if the mount is the root */
        const char *mount; /* of the items */
        char *place;       /* so far */
};

static void group_free(gpointer p)
{
        struct group *g = p;
        g_free(g->place);
        g_free(g);
}

static void refusal_free(gpointer p)
{
        struct merge_refusal *r = p;
        g_free(r->path);
        g_free(r->reason);
        g_free(r);
}

void merge_plan_free(MergePlan *p)
{
        if (p == NULL)
                return;
        g_array_unref(p->merges);
        g_ptr_array_unref(p->refusals);
        g_ptr_array_unref(p->strings);
        g_free(p);
}

static char *keep_string(MergePlan *p, char *s)
{
        g_ptr_array_add(p->strings, s);
        return s;
}

static void refuse(MergePlan *p, const char *path, const char *reason)
{
        struct merge_refusal *r = g_new0(struct merge_refusal, 1);
        r->path = g_strdup(path);
        r->reason = g_strdup(reason);
        g_ptr_array_add(p->refusals, r);
}

static void add_merge(MergePlan *p, const char *path, Moult__Target__Reach reach, const char *mount)
{
        struct target_merge m = {
                .path = keep_string(p, g_strdup(path)),
                .reach = reach,
                .mount = keep_string(p, g_strdup(mount)),
        };
        g_array_append_val(p->merges, m);
}

/* "a/b" of "a/b/c"; "" of "a". The caller frees. */
static char *directory_of(const char *path)
{
        const char *slash = strrchr(path, '/');
        return slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
}

/* Cuts @place to the deepest directory that is above @other as well. */
static void cut_to_common(char *place, const char *other)
{
        while (*place != '\0' && !target_path_is_below(other, place)) {
                char *slash = strrchr(place, '/');
                *(slash != NULL ? slash : place) = '\0';
        }
}

static gboolean is_at_top(const struct target_item *i)
{
        return *i->mount == '\0' && strchr(i->path, '/') == NULL;
}

/* The directory itself can be merged: it is one in the original, and stays one. */
static gboolean is_place_itself(const struct target_item *i)
{
        if (i->entry->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY || i->opaque)
                return FALSE;
        return i->original == MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY || g_str_equal(i->path, i->mount);
}

static const char *item_refusal(const struct target_item *i)
{
        gboolean file = i->entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE;
        gboolean new = i->original == MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT;
        if (i->reach == MOULT__TARGET__REACH__REACH_FILE) {
                if (!file)
                        return "only a regular file can be merged by itself";
                return new ? "a file can be merged by itself only over one that is there" : NULL;
        }
        if (*i->mount != '\0' && g_str_equal(i->path, i->mount))
                return is_place_itself(i) ? NULL : "it is a mount point, and cannot be replaced or deleted";
        if (!is_at_top(i) || is_place_itself(i))
                return NULL;
        if (!file)
                return "it lies directly in the root directory, which is never merged: only a regular file "
                       "that "
                       "is there can be replaced";
        return new ? "it would be new in the root directory, which is never merged" : NULL;
}

static gboolean is_file_merge(const struct target_item *i)
{
        return i->reach == MOULT__TARGET__REACH__REACH_FILE ||
               (is_at_top(i) && i->entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE);
}

/* --- groups, by "MOUNT" or, on the root's mount, "/COMPONENT" */

static char *group_key(const char *mount, const char *path)
{
        if (*mount != '\0')
                return g_strdup(mount);
        return g_strdup_printf("/%.*s", (int)strcspn(path, "/"), path);
}

static void group_add(GHashTable *groups, const struct target_item *i)
{
        g_autofree char *key = group_key(i->mount, i->path);
        struct group *g = g_hash_table_lookup(groups, key);
        if (g != NULL && is_place_itself(i)) {
                cut_to_common(g->place, i->path);
                return;
        }
        char *holder = is_place_itself(i) ? g_strdup(i->path) : directory_of(i->path);
        if (g != NULL) {
                cut_to_common(g->place, holder);
                g_free(holder);
                return;
        }
        g = g_new0(struct group, 1);
        g->mount = i->mount;
        g->place = holder;
        g_hash_table_insert(groups, g_steal_pointer(&key), g);
}

/* The mount that a place lies on, as far as the items know mounts: the nearest of theirs above it. */
static const char *mount_above(GHashTable *groups, const char *path)
{
        const char *nearest = NULL;
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, groups);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const struct group *g = value;
                if (target_path_is_below(path, g->mount) &&
                    (nearest == NULL || strlen(g->mount) > strlen(nearest)))
                        nearest = g->mount;
        }
        return nearest;
}

/* A mount that came over the place later, and has items of its own: what lies on @mount there is not seen.
 * NULL if there is none; else its mount point, the topmost. */
static const char *covering_mount(GHashTable *groups, const char *mount, const char *path)
{
        const char *topmost = NULL;
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, groups);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const struct group *g = value;
                if (strlen(g->mount) > strlen(mount) && target_path_is_below(g->mount, mount) &&
                    target_path_is_below(path, g->mount) &&
                    (topmost == NULL || strlen(g->mount) < strlen(topmost)))
                        topmost = g->mount;
        }
        return topmost;
}

static void cover_present(GHashTable *groups, const struct target_merge *m)
{
        if (m->reach == MOULT__TARGET__REACH__REACH_FILE)
                return; /* goes when its item goes */
        const char *mount = m->mount != NULL ? m->mount : mount_above(groups, m->path);
        if (mount == NULL)
                return;
        g_autofree char *key = group_key(mount, m->path);
        struct group *g = g_hash_table_lookup(groups, key);
        if (g != NULL)
                cut_to_common(g->place, m->path);
}

static int merge_compare(gconstpointer a, gconstpointer b)
{
        return target_path_compare(((const struct target_merge *)a)->path,
                                   ((const struct target_merge *)b)->path);
}

static void add_tree_merges(MergePlan *p, GHashTable *groups)
{
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, groups);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                struct group *g = value;
                /* The place must be one where the mount itself is seen. */
                const char *covering = covering_mount(groups, g->mount, g->place);
                if (covering != NULL) {
                        g_free(g->place);
                        g->place = directory_of(covering);
                }
                if (*g->place != '\0')
                        add_merge(p, g->place, MOULT__TARGET__REACH__REACH_TREE, g->mount);
        }
}

static void add_file_merges(MergePlan *p, const Target *t, GHashTable *groups)
{
        for (guint n = 0; n < target_size(t); n++) {
                struct target_item i = target_get(t, n);
                if (!is_file_merge(&i) || item_refusal(&i) != NULL)
                        continue;
                g_autofree char *key = group_key(i.mount, i.path);
                const struct group *g = g_hash_table_lookup(groups, key);
                gboolean held = g != NULL && *g->place != '\0' && target_path_is_below(i.path, g->place);
                if (!held && covering_mount(groups, i.mount, i.path) == NULL)
                        add_merge(p, i.path, MOULT__TARGET__REACH__REACH_FILE, i.mount);
        }
}

MergePlan *merge_plan(const Target *t, const struct target_merge *present, guint n_present)
{
        MergePlan *p = g_new0(MergePlan, 1);
        p->merges = g_array_new(FALSE, FALSE, sizeof(struct target_merge));
        p->refusals = g_ptr_array_new_with_free_func(refusal_free);
        p->strings = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GHashTable) groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, group_free);

        for (guint n = 0; n < target_size(t); n++) {
                struct target_item i = target_get(t, n);
                const char *why = item_refusal(&i);
                if (why != NULL)
                        refuse(p, i.path, why);
                else if (!is_file_merge(&i))
                        group_add(groups, &i);
        }
        for (guint n = 0; n < n_present; n++)
                cover_present(groups, &present[n]);
        add_tree_merges(p, groups);
        add_file_merges(p, t, groups);
        g_array_sort(p->merges, merge_compare);
        return p;
}

/* --- for people */

static void append_count(GString *s, guint n, const char *one, const char *many)
{
        if (n > 0)
                g_string_append_printf(s, ", %u %s", n, n == 1 ? one : many);
}

static void append_merge(GString *s, const Target *t, const struct target_merge *m)
{
        guint files = 0, deletions = 0, others = 0;
        guint first, n = target_below(t, m->path, &first);
        for (guint k = first; k < first + n; k++) {
                struct target_item i = target_get(t, k);
                if (!target_merge_serves(t, m, &i))
                        continue;
                if (i.entry->type == MOULT__ENTRY_TYPE__ENTRY_FILE)
                        files++;
                else if (i.entry->type == MOULT__ENTRY_TYPE__ENTRY_DELETE)
                        deletions++;
                else
                        others++;
        }
        g_autofree char *path = message_string(message_bytes(m->path)),
                        *mount = message_string(message_bytes(m->mount));
        if (m->reach == MOULT__TARGET__REACH__REACH_FILE) {
                g_string_append_printf(s, "file /%s on the mount at /%s\n", path, mount);
                return;
        }
        g_autoptr(GString) counts = g_string_new(NULL);
        append_count(counts, files, "file", "files");
        append_count(counts, others, "other object", "other objects");
        append_count(counts, deletions, "deletion", "deletions");
        g_string_append_printf(s, "tree /%s: %s on the mount at /%s\n", path,
                               counts->len > 0 ? counts->str + strlen(", ") : "nothing", mount);
}

char *merge_plan_text(const MergePlan *p, const Target *t)
{
        GString *s = g_string_new(NULL);
        for (guint i = 0; i < p->merges->len; i++)
                append_merge(s, t, &g_array_index(p->merges, struct target_merge, i));
        for (guint i = 0; i < p->refusals->len; i++) {
                const struct merge_refusal *r = p->refusals->pdata[i];
                g_autofree char *path = message_string(message_bytes(r->path));
                g_string_append_printf(s, "blocked /%s: %s\n", path, r->reason);
        }
        return g_string_free(s, FALSE);
}
