/* fuse-overlay/targetfs/name_tree.c - from a sorted list of paths to nodes with sorted children. */
#include "fuse-overlay/targetfs/name_tree.h"

#include <stdlib.h>
#include <string.h>

#define OURS_FIRST (UINT64_C(1) << 31)
#define MOVED_UP   (UINT64_C(1) << 32)

struct node {
        const char *name; /* in the target's path, or in `names` */
        const Moult__Entry *entry;
        gboolean opaque;
        guint32 parent;
        guint32 first, n; /* children, as positions in `order` */
        guint32 object;   /* the first node with the same object; itself for what is not a file */
        guint32 links;    /* of the object, at that node */
};

struct NameTree {
        Target *target;
        GArray *nodes;       /* struct node */
        guint32 *order;      /* nodes but the root, by (parent, name) */
        GStringChunk *names; /* of places */
};

static struct node *node_at(const NameTree *n, guint32 i)
{
        return &g_array_index(n->nodes, struct node, i);
}

static guint32 node_add(NameTree *n, guint32 parent, const char *name, const Moult__Entry *entry)
{
        struct node node = {
                .name = name, .entry = entry, .parent = parent, .object = n->nodes->len, .links = 1};
        g_array_append_val(n->nodes, node);
        return n->nodes->len - 1;
}

/* --- making it --- */

/* While it is made: paths relative to the merge -> node. */
static guint32 place_at(NameTree *n, GHashTable *by_path, const char *path)
{
        gpointer found;
        if (g_hash_table_lookup_extended(by_path, path, NULL, &found))
                return GPOINTER_TO_UINT(found);
        const char *slash = strrchr(path, '/');
        g_autofree char *above = slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
        guint32 parent = place_at(n, by_path, above);
        const char *name = g_string_chunk_insert(n->names, slash != NULL ? slash + 1 : path);
        guint32 node = node_add(n, parent, name, NULL);
        g_hash_table_insert(by_path, g_strdup(path), GUINT_TO_POINTER(node));
        return node;
}

/* Ancestors come before what lies below them: they are prefixes, and the list is sorted. */
static void item_add(NameTree *n, GHashTable *by_path, const char *path, const struct target_item *item)
{
        const Moult__Entry *entry = item->entry;
        if (*path == '\0') {
                node_at(n, NAME_TREE_ROOT)->entry = entry;
                node_at(n, NAME_TREE_ROOT)->opaque = item->opaque;
                return;
        }
        const char *slash = strrchr(path, '/');
        g_autofree char *above = slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
        guint32 parent = place_at(n, by_path, above);
        guint32 node = node_add(n, parent, slash != NULL ? slash + 1 : path, entry);
        node_at(n, node)->opaque = item->opaque;
        if (entry->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                g_hash_table_insert(by_path, g_strdup(path), GUINT_TO_POINTER(node));
}

static int order_compare(const void *a, const void *b, void *user)
{
        const NameTree *n = user;
        const struct node *x = node_at(n, *(const guint32 *)a), *y = node_at(n, *(const guint32 *)b);
        if (x->parent != y->parent)
                return x->parent < y->parent ? -1 : 1;
        return strcmp(x->name, y->name);
}

static void put_in_order(NameTree *n)
{
        guint32 count = n->nodes->len - 1;
        n->order = g_new(guint32, count + 1);
        for (guint32 i = 0; i < count; i++)
                n->order[i] = i + 1;
        if (count > 1)
                qsort_r(n->order, count, sizeof *n->order, order_compare, n);
        for (guint32 i = 0; i < count; i++) {
                struct node *parent = node_at(n, node_at(n, n->order[i])->parent);
                if (parent->n++ == 0)
                        parent->first = i;
        }
}

/* Files of one object are names of one inode. */
static void find_links(NameTree *n)
{
        g_autoptr(GHashTable) first = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (guint32 i = 0; i < n->nodes->len; i++) {
                struct node *node = node_at(n, i);
                if (node->entry == NULL || node->entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                        continue;
                char object[TARGET_OBJECT_NAME_LENGTH + 1];
                target_object_name(node->entry, object);
                gpointer found;
                if (g_hash_table_lookup_extended(first, object, NULL, &found)) {
                        node->object = GPOINTER_TO_UINT(found);
                        node_at(n, node->object)->links++;
                } else {
                        g_hash_table_insert(first, g_strdup(object), GUINT_TO_POINTER(i));
                }
        }
}

NameTree *name_tree_new(Target *t, const struct target_merge *merge)
{
        g_autoptr(GHashTable) by_path = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        NameTree *n = g_new0(NameTree, 1);
        n->target = target_ref(t);
        n->nodes = g_array_new(FALSE, FALSE, sizeof(struct node));
        n->names = g_string_chunk_new(4096);
        node_add(n, NAME_TREE_ROOT, "", NULL);
        g_hash_table_insert(by_path, g_strdup(""), GUINT_TO_POINTER(NAME_TREE_ROOT));

        guint first, count = target_below(t, merge->path, &first);
        gsize skip = strlen(merge->path);
        for (guint i = first; i < first + count; i++) {
                struct target_item item = target_get(t, i);
                if (!target_merge_serves(t, merge, &item))
                        continue;
                const char *path = item.path + skip;
                item_add(n, by_path, *path == '/' ? path + 1 : path, &item);
        }
        put_in_order(n);
        find_links(n);
        return n;
}

void name_tree_free(NameTree *n)
{
        if (n == NULL)
                return;
        g_array_unref(n->nodes);
        g_free(n->order);
        g_string_chunk_free(n->names);
        target_unref(n->target);
        g_free(n);
}

/* --- asking it --- */

guint32 name_tree_child(const NameTree *n, guint32 parent, const char *name)
{
        const struct node *p = node_at(n, parent);
        guint32 low = p->first, high = p->first + p->n;
        while (low < high) {
                guint32 middle = low + (high - low) / 2;
                int c = strcmp(name, node_at(n, n->order[middle])->name);
                if (c == 0)
                        return n->order[middle];
                if (c < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NAME_TREE_NONE;
}

guint32 name_tree_children(const NameTree *n, guint32 parent, guint32 *ret_first)
{
        *ret_first = node_at(n, parent)->first;
        return node_at(n, parent)->n;
}

guint32 name_tree_nth(const NameTree *n, guint32 position)
{
        return n->order[position];
}

const char *name_tree_name(const NameTree *n, guint32 node)
{
        return node_at(n, node)->name;
}

const Moult__Entry *name_tree_entry(const NameTree *n, guint32 node)
{
        return node_at(n, node)->entry;
}

gboolean name_tree_is_whiteout(const NameTree *n, guint32 node)
{
        const Moult__Entry *e = node_at(n, node)->entry;
        return e != NULL && e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
}

gboolean name_tree_is_directory(const NameTree *n, guint32 node)
{
        const Moult__Entry *e = node_at(n, node)->entry;
        return e == NULL || e->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
}

gboolean name_tree_shows_original(const NameTree *n, guint32 node)
{
        return name_tree_is_directory(n, node) && !node_at(n, node)->opaque;
}

guint64 name_tree_inode(const NameTree *n, guint32 node)
{
        return OURS_FIRST + node_at(n, node)->object;
}

guint32 name_tree_links(const NameTree *n, guint32 node)
{
        return node_at(n, node_at(n, node)->object)->links;
}

guint64 name_tree_original_inode(guint64 inode)
{
        return inode < OURS_FIRST ? inode : inode + MOVED_UP;
}
