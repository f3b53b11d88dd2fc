/* host-service/release/predecessor.c - predecessors by path. */
#include "host-service/release/predecessor.h"

#include <string.h>
#include <sys/stat.h>

/* Of a family with more (files that are named by numbers alone) the first are known: each is compared with
 * each new one. */
#define FAMILY_MAX 256u

struct Predecessors {
        const BuildTree *base;
        GHashTable *families; /* owned text -> GArray of indices in the base */
};

/* The number that @text begins with, "6.1.0" in "6.1.0-57/"; 0: none. */
static gsize number_length(const char *text)
{
        gsize n = 0;

        while (g_ascii_isdigit(text[n]) || (n > 0 && text[n] == '.' && g_ascii_isdigit(text[n + 1])))
                n++;
        return n;
}

char *predecessor_family(const char *path)
{
        GString *s = g_string_new(NULL);

        while (*path) {
                gsize n = number_length(path);

                g_string_append_c(s, n > 0 ? '#' : *path);
                path += MAX(n, 1);
        }
        return g_string_free(s, FALSE);
}

/* How many numbers are the same in both. */
static guint common_numbers(const char *a, const char *b)
{
        guint common = 0;

        while (*a && *b) {
                gsize na = number_length(a), nb = number_length(b);

                common += na > 0 && na == nb && memcmp(a, b, na) == 0;
                a += MAX(na, 1);
                b += MAX(nb, 1);
        }
        return common;
}

int predecessor_compare(const char *path, const char *a, const char *b)
{
        guint in_a = common_numbers(path, a), in_b = common_numbers(path, b);

        return in_a != in_b ? (in_a > in_b ? 1 : -1) : strverscmp(a, b);
}

static gboolean is_usable(const struct tree_node *n)
{
        return S_ISREG(n->mode) && n->size > 0;
}

Predecessors *predecessors_new(const BuildTree *base)
{
        Predecessors *p = g_new0(Predecessors, 1);

        p->base = base;
        p->families = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_array_unref);
        for (unsigned i = 0; i < build_tree_count(base); i++) {
                const struct tree_node *n = build_tree_node(base, i);
                char *family = is_usable(n) ? predecessor_family(n->path) : NULL;
                GArray *members = family ? g_hash_table_lookup(p->families, family) : NULL;

                if (family && !members) {
                        members = g_array_new(FALSE, FALSE, sizeof i);
                        g_hash_table_insert(p->families, g_steal_pointer(&family), members);
                }
                if (members && members->len < FAMILY_MAX)
                        g_array_append_val(members, i);
                g_free(family);
        }
        return p;
}

void predecessors_free(Predecessors *p)
{
        if (!p)
                return;
        g_hash_table_unref(p->families);
        g_free(p);
}

static gssize best_of_family(const Predecessors *p, const char *path)
{
        g_autofree char *family = predecessor_family(path);
        const GArray *members = g_hash_table_lookup(p->families, family);
        const char *best_path = NULL;
        gssize best = -1;

        for (guint i = 0; members && i < members->len; i++) {
                unsigned index = g_array_index(members, unsigned, i);
                const char *candidate = build_tree_node(p->base, index)->path;

                if (best >= 0 && predecessor_compare(path, candidate, best_path) <= 0)
                        continue;
                best = (gssize)index;
                best_path = candidate;
        }
        return best;
}

gssize predecessors_find(const Predecessors *p, const char *path)
{
        gssize i = build_tree_find(p->base, path);

        if (i < 0 || !is_usable(build_tree_node(p->base, (unsigned)i)))
                i = best_of_family(p, path);
        return i >= 0 ? (gssize)build_tree_node(p->base, (unsigned)i)->leader : -1;
}
