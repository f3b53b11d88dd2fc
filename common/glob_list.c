/* common/glob_list.c - a list of patterns, and which of them a path matches first. */
#include "common/glob_list.h"

#include <fnmatch.h>
#include <string.h>

struct pattern {
        char *glob;
        gsize literal; /* bytes before the first wildcard */
};

struct GlobList {
        GArray *patterns;
};

static void pattern_clear(gpointer data)
{
        g_free(((struct pattern *)data)->glob);
}

GlobList *glob_list_new(void)
{
        GlobList *l = g_new0(GlobList, 1);

        l->patterns = g_array_new(FALSE, FALSE, sizeof(struct pattern));
        g_array_set_clear_func(l->patterns, pattern_clear);
        return l;
}

void glob_list_free(GlobList *l)
{
        if (!l)
                return;
        g_array_unref(l->patterns);
        g_free(l);
}

void glob_list_add(GlobList *l, const void *glob, gsize len)
{
        struct pattern p = {.glob = g_strndup(glob, len)};

        p.literal = strcspn(p.glob, "*?[\\");
        g_array_append_val(l->patterns, p);
}

static gboolean pattern_matches(const struct pattern *p, const char *path)
{
        if (strncmp(p->glob, path, p->literal) != 0)
                return FALSE;
        return p->glob[p->literal] ? fnmatch(p->glob, path, 0) == 0 : path[p->literal] == '\0';
}

gssize glob_list_find(const GlobList *l, const char *path)
{
        for (guint i = 0; i < l->patterns->len; i++)
                if (pattern_matches(&g_array_index(l->patterns, struct pattern, i), path))
                        return (gssize)i;
        return -1;
}
