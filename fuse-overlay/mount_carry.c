/* fuse-overlay/mount_carry.c - what is mounted below a place is carried along when a merge covers it. */
#include "fuse-overlay/mount_carry.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/mount_api.h"
#include "fuse-overlay/mount_stack.h"

static void carry_free(gpointer p)
{
        struct mount_carry *c = p;
        scoped_fd_close(&c->fd);
        g_free(c->name);
        g_free(c);
}

/* Below @dir and through no link. */
static int open_below(int dir, const char *name)
{
        struct open_how how = {
                .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        };
        return (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
}

static const char *name_below(const struct mount *m, const char *point)
{
        gsize len = strlen(point);
        return strncmp(m->point, point, len) == 0 && m->point[len] == '/' ? m->point + len + 1 : NULL;
}

static gboolean is_below_another(const GPtrArray *list, const char *name)
{
        for (guint i = 0; i < list->len; i++) {
                const struct mount_carry *c = list->pdata[i];
                gsize len = strlen(c->name);
                if (strncmp(name, c->name, len) == 0 && name[len] == '/')
                        return TRUE;
        }
        return FALSE;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
        const struct mount_carry *const *x = a, *const *y = b;
        return strcmp((*x)->name, (*y)->name);
}

static void keep_outermost(GPtrArray *list)
{
        g_ptr_array_sort(list, by_name); /* so that an outer one comes before what is below it */
        for (guint i = 0; i < list->len;) {
                const struct mount_carry *c = list->pdata[i];
                if (is_below_another(list, c->name))
                        g_ptr_array_remove_index(list, i);
                else
                        i++;
        }
}

GPtrArray *mount_carry_list(int place_fd, const char *point, const char *trees, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return NULL;
        GPtrArray *list = g_ptr_array_new_with_free_func(carry_free);
        for (guint i = 0; i < mount_table_size(table); i++) {
                const struct mount *m = mount_table_get(table, i);
                const char *name = name_below(m, point);
                MergeMethod method;
                char id[TARGET_ID_LENGTH + 1];
                if (name == NULL || mount_is_merge(m, trees, &method, id))
                        continue;
                scoped_fd int fd = open_below(place_fd, name);
                if (fd < 0 || mount_api_id(fd) != m->id)
                        continue; /* hidden below another one */
                struct mount_carry *c = g_new(struct mount_carry, 1);
                *c = (struct mount_carry){.name = g_strdup(name), .fd = g_steal_fd(&fd), .id = m->id};
                g_ptr_array_add(list, c);
        }
        keep_outermost(list);
        return list;
}

static gboolean same_type(int a, int b)
{
        struct stat x, y;
        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && S_ISDIR(x.st_mode) == S_ISDIR(y.st_mode);
}

/* A merge serves what lies on its own mount; what lies on this one has a merge of its own. */
static gboolean would_hide(const Target *t, const struct target_merge *merge, const char *path)
{
        guint first, n = target_below(t, path, &first);
        for (guint i = first; i < first + n; i++) {
                struct target_item item = target_get(t, i);
                if (target_merge_serves(t, merge, &item))
                        return TRUE;
        }
        return FALSE;
}

static char *refusal_of(const struct mount_carry *c, const Target *t, const struct target_merge *merge,
                        int tree_fd)
{
        g_autofree char *full = g_strconcat(merge->path, "/", c->name, NULL);
        if (would_hide(t, merge, full))
                return g_strdup_printf(
                        "/%s was mounted there, and would hide the release's files: unmount it "
                        "first",
                        full);
        scoped_fd int place = open_below(tree_fd, c->name);
        if (place < 0 || !same_type(place, c->fd))
                return g_strdup_printf(
                        "/%s is mounted there, and the release leaves no place for it: unmount it "
                        "first",
                        full);
        g_autoptr(GError) error = NULL;
        scoped_fd int clone = mount_api_clone_tree(c->fd, full, &error);
        if (clone < 0)
                return g_strdup_printf("/%s is mounted there and cannot be carried along: %s", full,
                                       error->message);
        return NULL;
}

char *mount_carry_refusal(const GPtrArray *list, const Target *t, const struct target_merge *merge,
                          int tree_fd)
{
        for (guint i = 0; i < list->len; i++) {
                char *why = refusal_of(list->pdata[i], t, merge, tree_fd);
                if (why != NULL)
                        return why;
        }
        return NULL;
}

gboolean mount_carry_into(const GPtrArray *list, int tree_fd, GError **error)
{
        for (guint i = 0; i < list->len; i++) {
                const struct mount_carry *c = list->pdata[i];
                scoped_fd int place = open_below(tree_fd, c->name);
                if (place < 0)
                        return moult_error_errno(error, errno,
                                                 "finding the place of the mount %s in the merge", c->name);
                scoped_fd int clone = mount_api_clone_tree(c->fd, c->name, error);
                if (clone < 0 || !mount_api_move(clone, place, MOUNT_ON_TOP, c->name, error))
                        return FALSE;
        }
        return TRUE;
}

/* Another mount of the same at the same point: the one that the merge has covered. */
static gboolean has_twin(const MountTable *table, const struct mount *m)
{
        for (guint i = 0; i < mount_table_size(table); i++) {
                const struct mount *t = mount_table_get(table, i);
                if (t->id != m->id && g_str_equal(t->point, m->point) && g_str_equal(t->root, m->root) &&
                    g_str_equal(t->source, m->source) && g_str_equal(t->type, m->type))
                        return TRUE;
        }
        return FALSE;
}

char *mount_carry_own(const GPtrArray *list, const char *point, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return NULL;
        for (guint i = 0; i < list->len; i++) {
                const struct mount_carry *c = list->pdata[i];
                const struct mount *m = mount_table_find(table, c->id);
                if (m != NULL && !has_twin(table, m))
                        return g_strdup_printf("%s/%s was mounted on the merge since: unmount it first",
                                               point, c->name);
        }
        return NULL;
}
