/* host-service/release/build_plan.c - which entries turn the old tree into the new one. Pure. */
#include "host-service/release/build_plan.h"

#include <string.h>
#include <sys/stat.h>

static const char *const change_names[BUILD_CHANGES] = {
        [BUILD_CREATE] = "create", [BUILD_CONTENT] = "content", [BUILD_METADATA] = "metadata",
        [BUILD_TYPE] = "type",     [BUILD_LINKS] = "links",     [BUILD_DELETE] = "delete",
};

const char *build_change_name(enum build_change c)
{
        return change_names[c];
}

static const struct tree_node *leader_of(const BuildTree *t, const struct tree_node *n)
{
        return build_tree_node(t, n->leader);
}

static bool is_same_object(const struct tree_node *a, const struct tree_node *b)
{
        return a->dev == b->dev && a->ino == b->ino;
}

void build_plan_wanted(const BuildTree *new_tree, const BuildTree *old_tree, GArray *new_wanted,
                       GArray *old_wanted)
{
        g_autofree bool *taken_new = g_new0(bool, build_tree_count(new_tree) + 1);
        g_autofree bool *taken_old = g_new0(bool, build_tree_count(old_tree) + 1);

        for (unsigned i = 0; i < build_tree_count(old_tree); i++) {
                const struct tree_node *o = build_tree_node(old_tree, i);
                gssize j = build_tree_find(new_tree, o->path);
                const struct tree_node *n = j >= 0 ? build_tree_node(new_tree, (unsigned)j) : NULL;

                if (!S_ISREG(o->mode) || (n && S_ISREG(n->mode) && is_same_object(o, n)))
                        continue;
                if (n && S_ISREG(n->mode) && n->size == o->size && !taken_new[n->leader] &&
                    !leader_of(new_tree, n)->has_digest) {
                        taken_new[n->leader] = true;
                        g_array_append_val(new_wanted, n->leader);
                }
                /* Also what goes: its digest is the condition under which the guest may lose it. */
                if (!taken_old[o->leader] && !leader_of(old_tree, o)->has_digest) {
                        taken_old[o->leader] = true;
                        g_array_append_val(old_wanted, o->leader);
                }
        }
}

static bool is_same_content(const BuildTree *new_tree, const struct tree_node *n, const BuildTree *old_tree,
                            const struct tree_node *o)
{
        if (S_ISREG(n->mode)) {
                const struct tree_node *a = leader_of(new_tree, n), *b = leader_of(old_tree, o);

                if (is_same_object(n, o))
                        return true;
                return n->size == o->size && a->has_digest && b->has_digest &&
                       memcmp(a->digest, b->digest, DIGEST_SIZE) == 0;
        }
        if (S_ISLNK(n->mode))
                return strcmp(n->link_text, o->link_text) == 0;
        if (S_ISCHR(n->mode) || S_ISBLK(n->mode))
                return n->rdev == o->rdev;
        return true;
}

static bool is_same_mtime(const struct tree_node *a, const struct tree_node *b)
{
        return a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* FALSE in *ret_differs when the guest's object at this path can stay as it is. */
static enum build_change compare(const BuildTree *new_tree, const struct tree_node *n,
                                 const BuildTree *old_tree, const struct tree_node *o, bool mtime_counts,
                                 bool *ret_differs)
{
        *ret_differs = true;
        if ((n->mode & S_IFMT) != (o->mode & S_IFMT))
                return BUILD_TYPE;
        if (!is_same_content(new_tree, n, old_tree, o))
                return BUILD_CONTENT;
        if (!tree_node_same_metadata(n, o))
                return BUILD_METADATA;
        /* A directory's own mtime only says when a name in it last came or went. */
        if (mtime_counts && !S_ISDIR(n->mode) && !is_same_mtime(n, o))
                return BUILD_METADATA;
        *ret_differs = false;
        return BUILD_METADATA;
}

/* Marks the files whose names were linked otherwise in the old tree: names of one new file that were of
 * several old ones (joined), or names of several new files that were of one old one (split). */
static void mark_relinked(const BuildTree *new_tree, const BuildTree *old_tree, struct build_item *items,
                          bool *needed)
{
        enum { NONE = -1, SEVERAL = -2 };
        unsigned count = build_tree_count(new_tree), old_count = build_tree_count(old_tree);
        g_autofree gssize *old_of_new = g_new(gssize, count + 1);
        g_autofree gssize *new_of_old = g_new(gssize, old_count + 1);

        for (unsigned i = 0; i < count; i++)
                old_of_new[i] = NONE;
        for (unsigned i = 0; i < old_count; i++)
                new_of_old[i] = NONE;
        for (unsigned i = 0; i < count; i++) {
                const struct tree_node *n = build_tree_node(new_tree, i);
                gssize j = items[i].old_index;

                if (!S_ISREG(n->mode) || j < 0 || !S_ISREG(build_tree_node(old_tree, (unsigned)j)->mode))
                        continue;
                gssize o = build_tree_node(old_tree, (unsigned)j)->leader, l = n->leader;
                old_of_new[l] = old_of_new[l] == NONE || old_of_new[l] == o ? o : SEVERAL;
                new_of_old[o] = new_of_old[o] == NONE || new_of_old[o] == l ? l : SEVERAL;
        }
        for (unsigned i = 0; i < count; i++) {
                gssize o = old_of_new[build_tree_node(new_tree, i)->leader];

                if (S_ISREG(build_tree_node(new_tree, i)->mode) &&
                    (o == SEVERAL || (o >= 0 && new_of_old[o] == SEVERAL)))
                        needed[i] = true;
        }
}

/* One file is exchanged as one object: if one of its names needs it, all of them do. */
static void spread_over_links(const BuildTree *new_tree, bool *needed)
{
        unsigned count = build_tree_count(new_tree);
        g_autofree bool *group_needed = g_new0(bool, count + 1);

        for (unsigned i = 0; i < count; i++)
                if (needed[i])
                        group_needed[build_tree_node(new_tree, i)->leader] = true;
        for (unsigned i = 0; i < count; i++)
                if (group_needed[build_tree_node(new_tree, i)->leader])
                        needed[i] = true;
}

static gint compare_item_paths(gconstpointer a, gconstpointer b, gpointer user)
{
        const BuildTree *const *trees = user;

        return strcmp(build_item_path(trees[0], trees[1], a), build_item_path(trees[0], trees[1], b));
}

const char *build_item_path(const BuildTree *new_tree, const BuildTree *old_tree,
                            const struct build_item *item)
{
        return item->new_index >= 0 ? build_tree_node(new_tree, (unsigned)item->new_index)->path
                                    : build_tree_node(old_tree, (unsigned)item->old_index)->path;
}

GArray *build_plan_make(const BuildTree *new_tree, const BuildTree *old_tree, bool mtime_counts)
{
        unsigned count = build_tree_count(new_tree);
        GArray *items = g_array_new(FALSE, FALSE, sizeof(struct build_item));
        g_autofree struct build_item *by_new = g_new0(struct build_item, count + 1);
        g_autofree bool *needed = g_new0(bool, count + 1);

        for (unsigned i = 0; i < count; i++) {
                const struct tree_node *n = build_tree_node(new_tree, i);
                gssize j = old_tree ? build_tree_find(old_tree, n->path) : -1;
                struct build_item *item = &by_new[i];

                *item = (struct build_item){BUILD_CREATE, i, j};
                needed[i] = true;
                if (j < 0)
                        continue;
                const struct tree_node *o = build_tree_node(old_tree, (unsigned)j);
                item->change = compare(new_tree, n, old_tree, o, mtime_counts, &needed[i]);
                if (!needed[i])
                        item->change = BUILD_LINKS;
        }
        if (old_tree)
                mark_relinked(new_tree, old_tree, by_new, needed);
        spread_over_links(new_tree, needed);
        for (unsigned i = 0; i < count; i++)
                if (needed[i])
                        g_array_append_val(items, by_new[i]);

        for (unsigned i = 0; old_tree && i < build_tree_count(old_tree); i++) {
                const char *path = build_tree_node(old_tree, i)->path;
                struct build_item gone = {BUILD_DELETE, -1, i};

                if (build_tree_find(new_tree, path) < 0)
                        g_array_append_val(items, gone);
        }
        const BuildTree *trees[] = {new_tree, old_tree};
        g_array_sort_with_data(items, compare_item_paths, trees);
        return items;
}
