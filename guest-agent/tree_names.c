/* guest-agent/tree_names.c - the names in one directory, as far as they are asked for, in order. */
#include "guest-agent/tree_names.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "common/error.h"

#define READ_BYTES 32768u

struct TreeNames {
        GByteArray *text; /* one after the other, each with its NUL */
        GArray *offsets;  /* guint, of text; in order */
};

/* @name against the first part of the path @bound. *ret_rest: what follows that part, at its slash or NUL. */
static int part_order(const char *name, const char *bound, const char **ret_rest)
{
        gsize len = strcspn(bound, "/");
        int order = strncmp(name, bound, len);

        *ret_rest = bound + len;
        return order != 0 ? order : name[len] != '\0';
}

static const char *below_of(const char *rest)
{
        return *rest == '/' ? rest + 1 : rest;
}

gboolean tree_bounds_include(const struct tree_bounds *bounds, const char *name,
                             struct tree_bounds *ret_below)
{
        const char *rest;
        gboolean in = TRUE;

        *ret_below = (struct tree_bounds){NULL, NULL};
        if (bounds->after && part_order(name, bounds->after, &rest) == 0) {
                in = FALSE;
                ret_below->after = *rest ? below_of(rest) : NULL;
        }
        if (bounds->until && part_order(name, bounds->until, &rest) == 0)
                ret_below->until = below_of(rest);
        return in;
}

gboolean tree_bounds_go_below(const struct tree_bounds *below)
{
        return !below->until || *below->until;
}

static gboolean is_wanted(const char *name, const struct tree_bounds *b)
{
        const char *rest;

        return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
               (!b->after || part_order(name, b->after, &rest) >= 0) &&
               (!b->until || part_order(name, b->until, &rest) <= 0);
}

static void take(TreeNames *n, const char *buf, gsize len, const struct tree_bounds *bounds)
{
        for (gsize at = 0; at < len;) {
                const struct dirent64 *d = (const struct dirent64 *)(buf + at);

                at += d->d_reclen;
                if (!is_wanted(d->d_name, bounds))
                        continue;
                g_array_append_val(n->offsets, n->text->len);
                g_byte_array_append(n->text, (const guint8 *)d->d_name, (guint)strlen(d->d_name) + 1);
        }
}

static gint compare(gconstpointer a, gconstpointer b, gpointer text)
{
        return strcmp((const char *)text + *(const guint *)a, (const char *)text + *(const guint *)b);
}

TreeNames *tree_names_read(int dir_fd, const char *path, const struct tree_bounds *bounds, GError **error)
{
        g_autoptr(TreeNames) n = g_new0(TreeNames, 1);
        _Alignas(struct dirent64) char buf[READ_BYTES];
        ssize_t len;

        n->text = g_byte_array_new();
        n->offsets = g_array_new(FALSE, FALSE, sizeof(guint));
        while ((len = getdents64(dir_fd, buf, sizeof buf)) > 0)
                take(n, buf, (gsize)len, bounds);
        if (len < 0) {
                moult_error_errno(error, errno, "listing /%s", path);
                return NULL;
        }
        g_array_sort_with_data(n->offsets, compare, n->text->data);
        return g_steal_pointer(&n);
}

void tree_names_free(TreeNames *n)
{
        if (!n)
                return;
        g_byte_array_unref(n->text);
        g_array_unref(n->offsets);
        g_free(n);
}

guint tree_names_count(const TreeNames *n)
{
        return n->offsets->len;
}

const char *tree_names_get(const TreeNames *n, guint i)
{
        return (const char *)n->text->data + g_array_index(n->offsets, guint, i);
}
