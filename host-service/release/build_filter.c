/* host-service/release/build_filter.c - what of a plan does not go into the release. Pure. */
#include "host-service/release/build_filter.h"

#include <string.h>
#include <sys/stat.h>

static void left_out_free(gpointer data)
{
        struct build_left_out *l = data;

        g_free(l->path);
        g_free(l);
}

GPtrArray *build_left_out_new(void)
{
        return g_ptr_array_new_with_free_func(left_out_free);
}

static const struct tree_node *node_of(const BuildTree *new_tree, const BuildTree *old_tree,
                                       const struct build_item *item)
{
        return item->new_index >= 0 ? build_tree_node(new_tree, (unsigned)item->new_index)
                                    : build_tree_node(old_tree, (unsigned)item->old_index);
}

static bool is_allowed(const char *const *allowed, const char *path)
{
        for (unsigned i = 0; allowed && allowed[i]; i++) {
                const char *a = allowed[i];

                while (*a == '/')
                        a++;
                if (!strcmp(a, path))
                        return true;
        }
        return false;
}

static const char *per_vm_reason(const struct build_filter *f, const struct tree_node *n)
{
        enum per_vm_class class;
        const char *why;

        if (!f->per_vm || S_ISDIR(n->mode) || is_allowed(f->allow_per_vm, n->path))
                return NULL;
        why = per_vm_list_reason(f->per_vm, n->path, &class);
        return why && (f->leave_out || class == PER_VM_IDENTITY) ? why : NULL;
}

/* The path itself or something above it. */
static bool is_included(const char *const *globs, const char *path)
{
        g_autofree char *above = NULL;

        if (!globs || build_tree_excludes(globs, path))
                return true;
        above = g_strdup(path);
        for (char *slash; (slash = strrchr(above, '/')) != NULL;) {
                *slash = '\0';
                if (build_tree_excludes(globs, above))
                        return true;
        }
        return false;
}

static void add_parents(GHashTable *set, const char *path)
{
        for (const char *slash = path; (slash = strchr(slash, '/')) != NULL; slash++)
                g_hash_table_add(set, g_strndup(path, (gsize)(slash - path)));
}

/* A directory that would go, although something in it stays. */
static bool goes_too_far(const struct build_filter *f, const struct tree_node *n,
                         const struct build_item *item, GHashTable *stays)
{
        return item->change == BUILD_DELETE && S_ISDIR(n->mode) &&
               (f->keep_directories || g_hash_table_contains(stays, n->path));
}

struct filtering {
        const struct build_filter *filter;
        const BuildTree *new_tree, *old_tree;
        GArray *plan;
        bool *keep;
};

static void judge_each(struct filtering *x, GPtrArray *left_out, GHashTable *stays)
{
        for (guint i = 0; i < x->plan->len; i++) {
                const struct build_item *item = &g_array_index(x->plan, struct build_item, i);
                const struct tree_node *n = node_of(x->new_tree, x->old_tree, item);
                bool included = is_included(x->filter->include, n->path);
                const char *why = included ? per_vm_reason(x->filter, n) : NULL;

                x->keep[i] = included && !why && !(item->change == BUILD_DELETE && n->conffile);
                if (!x->keep[i] && item->change == BUILD_DELETE)
                        add_parents(stays, n->path);
                if (why) {
                        struct build_left_out *l = g_new0(struct build_left_out, 1);

                        *l = (struct build_left_out){g_strdup(n->path), why};
                        g_ptr_array_add(left_out, l);
                }
        }
}

/* One file is exchanged as one object: all of its names, and none if one of them may not be. */
static void keep_links_together(struct filtering *x)
{
        g_autofree bool *wanted = g_new0(bool, build_tree_count(x->new_tree) + 1);
        g_autofree bool *barred = g_new0(bool, build_tree_count(x->new_tree) + 1);

        for (guint i = 0; i < x->plan->len; i++) {
                const struct build_item *item = &g_array_index(x->plan, struct build_item, i);

                if (item->new_index < 0)
                        continue;
                const struct tree_node *n = build_tree_node(x->new_tree, (unsigned)item->new_index);
                wanted[n->leader] |= x->keep[i];
                barred[n->leader] |= per_vm_reason(x->filter, n) != NULL;
        }
        for (guint i = 0; i < x->plan->len; i++) {
                const struct build_item *item = &g_array_index(x->plan, struct build_item, i);

                if (item->new_index < 0)
                        continue;
                const struct tree_node *n = build_tree_node(x->new_tree, (unsigned)item->new_index);
                if (n->n_names > 1)
                        x->keep[i] = wanted[n->leader] && !barred[n->leader];
        }
}

static void keep_directories(struct filtering *x, GHashTable *stays)
{
        g_autoptr(GHashTable) parents = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        for (guint i = 0; i < x->plan->len; i++)
                if (x->keep[i])
                        add_parents(parents, build_item_path(x->new_tree, x->old_tree,
                                                             &g_array_index(x->plan, struct build_item, i)));
        for (guint i = 0; i < x->plan->len; i++) {
                const struct build_item *item = &g_array_index(x->plan, struct build_item, i);
                const struct tree_node *n = node_of(x->new_tree, x->old_tree, item);

                if (goes_too_far(x->filter, n, item, stays))
                        x->keep[i] = false;
                else if (item->new_index >= 0 && S_ISDIR(n->mode) &&
                         (item->change == BUILD_CREATE || item->change == BUILD_TYPE) &&
                         g_hash_table_contains(parents, n->path))
                        x->keep[i] = true;
        }
}

void build_filter_apply(const struct build_filter *f, const BuildTree *new_tree, const BuildTree *old_tree,
                        GArray *plan, GPtrArray *left_out)
{
        g_autofree bool *keep = g_new0(bool, plan->len + 1);
        g_autoptr(GHashTable) stays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct filtering x = {f, new_tree, old_tree, plan, keep};
        guint kept = 0;

        judge_each(&x, left_out, stays);
        keep_links_together(&x);
        keep_directories(&x, stays);
        for (guint i = 0; i < plan->len; i++)
                if (keep[i])
                        g_array_index(plan, struct build_item, kept++) =
                                g_array_index(plan, struct build_item, i);
        g_array_set_size(plan, kept);
}
