/* guest-agent/upgrade/plan_select.c - the part of a release that was asked for, with what it depends on. */
#include "guest-agent/upgrade/plan_select.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"

static gboolean select_path(Plan *p, const char *asked, GError **error)
{
        while (*asked == '/')
                asked++;
        g_autofree char *path = g_strdup(asked);
        gsize len = strlen(path);
        while (len > 0 && path[len - 1] == '/')
                path[--len] = '\0';
        gboolean found = FALSE;
        for (guint i = 0; i < p->n_entries; i++) {
                const char *e = p->entries[i].path;
                if (len == 0 || (strncmp(e, path, len) == 0 && (e[len] == '\0' || e[len] == '/')))
                        p->entries[i].selected = found = TRUE;
        }
        if (!found)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "/%s is not in this release", path);
        return found;
}

/* A file and its other names come together, or the link would break. */
static void select_links(Plan *p)
{
        for (guint i = 0; i < p->n_entries; i++)
                if (p->entries[i].link_of >= 0 && p->entries[i].selected)
                        p->entries[p->entries[i].link_of].selected = TRUE;
        for (guint i = 0; i < p->n_entries; i++)
                if (p->entries[i].link_of >= 0 && p->entries[p->entries[i].link_of].selected)
                        p->entries[i].selected = TRUE;
}

static void select_missing_parents(Plan *p, int root_fd)
{
        for (guint i = p->n_entries; i > 0; i--) {
                const struct plan_entry *pe = &p->entries[i - 1];
                const char *slash = strrchr(pe->path, '/');
                if (!pe->selected || slash == NULL)
                        continue;
                gssize parent = manifest_find(p->manifest, pe->path, (size_t)(slash - pe->path));
                if (parent < 0 || p->entries[parent].selected)
                        continue;
                scoped_fd int fd =
                        fs_beneath_open(root_fd, p->entries[parent].path, O_PATH | O_DIRECTORY, 0, NULL);
                p->entries[parent].selected = fd < 0;
        }
}

gboolean plan_select(Plan *p, const struct plan_request *request, GError **error)
{
        if (request->selection == NULL) {
                for (guint i = 0; i < p->n_entries; i++)
                        p->entries[i].selected = TRUE;
                return TRUE;
        }
        for (guint i = 0; request->selection[i] != NULL; i++)
                if (!select_path(p, request->selection[i], error))
                        return FALSE;
        select_links(p);
        select_missing_parents(p, request->root_fd);
        return TRUE;
}
