/* guest-agent/upgrade/served.c - what serves a path now. */
#include "guest-agent/upgrade/served.h"

#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/merged.h"

static ProtobufCBinaryData text(const char *s)
{
        gsize n = s != NULL ? strlen(s) : 0;
        return (ProtobufCBinaryData){n, n > 0 ? g_memdup2(s, n) : NULL};
}

/* Where the directory @fd lies, relative to the root. */
static char *below_root(const Upgrade *u, int fd, GError **error)
{
        char link[64];
        g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        g_autofree char *path = g_file_read_link(link, error);
        g_snprintf(link, sizeof link, "/proc/self/fd/%d", u->root_fd);
        g_autofree char *root = path != NULL ? g_file_read_link(link, error) : NULL;
        if (root == NULL)
                return NULL;
        gsize n = g_str_equal(root, "/") ? 0 : strlen(root);
        if (strncmp(path, root, n) != 0)
                return g_strdup("");
        return g_strdup(path[n] == '/' ? path + n + 1 : path + n);
}

/* The innermost merge above @physical. */
static const struct merge_status *merge_above(const GPtrArray *status, const char *physical)
{
        const struct merge_status *best = NULL;
        for (guint i = 0; status != NULL && i < status->len; i++) {
                const struct merge_status *s = g_ptr_array_index(status, i);
                if (target_path_is_below(physical, s->path) &&
                    (best == NULL || strlen(s->path) > strlen(best->path)))
                        best = s;
        }
        return best;
}

static void set_item(Moult__Record__Served *s, const struct target_item *item)
{
        s->merged = TRUE;
        s->deleted = item->entry->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
        s->generation = item->release->generation;
        s->release = (ProtobufCBinaryData){item->release->name.len,
                                           g_memdup2(item->release->name.data, item->release->name.len)};
}

static gboolean set_mount(Moult__Record__Served *s, guint64 mount_id, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return FALSE;
        const struct mount *m = mount_table_find(table, mount_id);
        while (m != NULL && g_str_has_prefix(m->source, MERGE_TAG_PREFIX))
                m = mount_table_find(table, m->parent_id);
        if (m != NULL) {
                s->file_system = text(m->type);
                s->mount = text(m->point);
        }
        return TRUE;
}

/* Only its server can tell. */
static void set_sources(const Upgrade *u, Moult__Record__Served *s, const struct merge_status *merge)
{
        char sources[256];
        g_autofree char *place = g_build_filename(u->root, merge->path, NULL);
        ssize_t n = merge->method == MERGE_UNION
                            ? getxattr(place, MERGE_SOURCES_ATTRIBUTE, sources, sizeof sources)
                            : -1;
        if (n > 0)
                s->sources = (ProtobufCBinaryData){(size_t)n, g_memdup2(sources, (gsize)n)};
}

static gboolean look(Upgrade *u, const char *path, Moult__Record__Served *s, struct wanted *w,
                     GPtrArray *status, GError **error)
{
        const char *name;
        struct object_facts f, dir;
        struct target_item item;
        scoped_fd int fd = fs_beneath_open_parent(u->root_fd, path, &name, error);
        if (fd < 0 || !classify_look(fd, name, &f, error) || !classify_look(fd, "", &dir, error))
                return FALSE;
        g_autofree char *parent = below_root(u, fd, error);
        if (parent == NULL)
                return FALSE;
        g_autofree char *physical = *parent != '\0' ? g_strdup_printf("%s/%s", parent, name) : g_strdup(name);
        const struct merge_status *merge = merge_above(status, physical);
        s->physical = text(physical);
        if (merge != NULL) {
                s->merge = text(merge->path);
                s->method = text(merge_method_name(merge->method));
                set_sources(u, s, merge);
                if (w->target != NULL && target_lookup(w->target, physical, &item))
                        set_item(s, &item);
        }
        if (!f.exists && !s->deleted) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "/%s: there is nothing", path);
                return FALSE;
        }
        /* What is merged over a single file hides its own mount; the directory's is the original's. */
        return set_mount(s, s->merged || !f.exists ? dir.mount_id : f.mount_id, error);
}

Moult__Record__Served *upgrade_served(Upgrade *u, const char *path, GError **error)
{
        struct wanted w;
        g_autoptr(GPtrArray) status = NULL;
        while (*path == '/')
                path++;
        const char *refusal = fs_path_refusal((const guint8 *)path, strlen(path));
        if (refusal != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "/%s: %s", path, refusal);
                return NULL;
        }
        if (!merged_wanted(u, &w, error))
                return NULL;
        Moult__Record__Served *s = g_new(Moult__Record__Served, 1);
        moult__record__served__init(s);
        s->path = text(path);
        gboolean ok = TRUE;
        if (w.target != NULL) {
                Merger *merger = engine_merger(u, error);
                status = merger != NULL ? merger_status(merger, error) : NULL;
                ok = status != NULL;
        }
        ok = ok && look(u, path, s, &w, status, error);
        wanted_clear(&w);
        if (ok)
                return s;
        moult__record__served__free_unpacked(s, NULL);
        return NULL;
}
