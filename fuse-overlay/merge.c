/* fuse-overlay/merge.c - a target is made visible: what is merged, by which method, over which original. */
#include "fuse-overlay/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "fuse-overlay/merge_parts.h"
#include "fuse-overlay/mount_api.h"

static const char *const method_names[] = {
        [MERGE_AUTO] = "auto",
        [MERGE_OVERLAY] = "overlay",
        [MERGE_BIND] = "bind",
        [MERGE_UNION] = "union",
};

/* In the order of preference. */
static const struct merge_method_ops *const methods[] = {&merge_overlay, &merge_bind, &merge_union};

const char *merge_method_name(MergeMethod m)
{
        return (unsigned)m < G_N_ELEMENTS(method_names) ? method_names[m] : NULL;
}

gboolean merge_method_parse(const char *name, MergeMethod *ret)
{
        for (unsigned i = 0; i < G_N_ELEMENTS(method_names); i++)
                if (g_str_equal(name, method_names[i])) {
                        *ret = (MergeMethod)i;
                        return TRUE;
                }
        return FALSE;
}

const struct merge_method_ops *merge_method_ops(MergeMethod m)
{
        for (guint i = 0; i < G_N_ELEMENTS(methods); i++)
                if (methods[i]->method == m)
                        return methods[i];
        return NULL;
}

Merger *merger_new(const struct merge_config *config, GError **error)
{
        g_autoptr(Merger) m = g_new0(Merger, 1);
        m->root_fd = open(config->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (m->root_fd < 0) {
                moult_error_errno(error, errno, "opening the root %s", config->root);
                return NULL;
        }
        m->config.root = mount_api_path(m->root_fd);
        m->config.state_dir = g_strdup(config->state_dir);
        m->config.targetfs = g_strdup(config->targetfs);
        if (config->run_dir != NULL)
                m->config.run_dir = g_strdup(config->run_dir);
        else if (g_strcmp0(m->config.root, "/") == 0)
                m->config.run_dir = g_strdup("/run/moult/target");
        else
                m->config.run_dir = g_build_filename(config->state_dir, "target", "run", NULL);
        scoped_fd int state = open(config->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (state < 0) {
                moult_error_errno(error, errno, "opening the state directory %s", config->state_dir);
                return NULL;
        }
        m->store = object_store_open(state, error);
        return m->store != NULL ? g_steal_pointer(&m) : NULL;
}

void merger_free(Merger *m)
{
        if (m == NULL)
                return;
        scoped_fd_close(&m->root_fd);
        object_store_free(m->store);
        originals_free(m->originals);
        g_free((char *)m->config.root);
        g_free((char *)m->config.state_dir);
        g_free((char *)m->config.run_dir);
        g_free((char *)m->config.targetfs);
        g_free(m->trees);
        g_free(m);
}

ObjectStore *merger_store(Merger *m)
{
        return m->store;
}

/* "/var/lib/moult/target/trees/": the path of the trees in their file system. */
static gboolean look_for_trees(Merger *m, GError **error)
{
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return FALSE;
        int fd = object_store_target_fd(m->store);
        const struct mount *on = mount_table_find(table, mount_api_id(fd));
        g_autofree char *path = mount_api_path(fd);
        g_clear_pointer(&m->trees, g_free);
        if (on == NULL || path == NULL || !g_str_has_prefix(path, on->point))
                return TRUE;
        const char *below = g_str_equal(on->point, "/") ? path : path + strlen(on->point);
        m->trees = g_strconcat(g_str_equal(on->root, "/") ? "" : on->root, below, "/trees/", NULL);
        return TRUE;
}

gboolean merger_look(Merger *m, GError **error)
{
        g_autoptr(GError) local = NULL;
        if (m->originals == NULL) {
                m->originals = originals_find(m->config.run_dir, &local);
                if (local != NULL) {
                        g_propagate_error(error, g_steal_pointer(&local));
                        return FALSE;
                }
        }
        return m->trees != NULL || look_for_trees(m, error);
}

gboolean merger_need_originals(Merger *m, GError **error)
{
        if (m->originals == NULL)
                m->originals = originals_open(m->config.run_dir, error);
        return m->originals != NULL && merger_look(m, error);
}

MountPlace *merger_place(Merger *m, const char *path, GError **error)
{
        return mount_place_open(m->root_fd, path, m->trees, m->originals, error);
}

gboolean merger_unwind(Merger *m, const char *path, guint64 id, GError **error)
{
        return mount_place_unwind(m->root_fd, path, m->trees, m->originals, id, error);
}

/* --- what is merged --- */

static void status_free(gpointer p)
{
        struct merge_status *s = p;
        g_free(s->path);
        g_free(s->id);
        g_free(s);
}

static gint status_by_path(gconstpointer a, gconstpointer b)
{
        const struct merge_status *const *x = a, *const *y = b;
        return target_path_compare((*x)->path, (*y)->path);
}

/* A FUSE mount whose server has died answers ENOTCONN; to statfs(), since attributes come from the cache. */
gboolean merger_is_alive(int fd)
{
        struct statfs st;
        return fstatfs(fd, &st) == 0 || errno != ENOTCONN;
}

static void add_status(Merger *m, const char *path, GPtrArray *all)
{
        g_autoptr(MountPlace) p = merger_place(m, path, NULL);
        if (p == NULL)
                return;
        for (guint i = 0; i < p->layers->len; i++) {
                const struct mount_layer *l = &g_array_index(p->layers, struct mount_layer, i);
                if (l->kind != LAYER_MERGE)
                        continue;
                struct merge_status *s = g_new(struct merge_status, 1);
                *s = (struct merge_status){
                        .path = g_strdup(path),
                        .method = l->method,
                        .id = g_strdup(l->merge_id),
                        .stacked = i > 0 || !mount_place_is_tidy(p),
                        .alive = i > 0 || merger_is_alive(p->fd),
                };
                g_ptr_array_add(all, s);
                return;
        }
}

/* NULL: not below the root, or in our own folder. */
static const char *below_root(const Merger *m, const char *point)
{
        gsize len = strlen(m->config.run_dir);
        if (strncmp(point, m->config.run_dir, len) == 0 && (point[len] == '/' || point[len] == '\0'))
                return NULL;
        if (g_str_equal(m->config.root, "/"))
                return point[1] != '\0' ? point + 1 : NULL;
        len = strlen(m->config.root);
        return strncmp(point, m->config.root, len) == 0 && point[len] == '/' ? point + len + 1 : NULL;
}

GPtrArray *merger_status(Merger *m, GError **error)
{
        if (!merger_look(m, error))
                return NULL;
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return NULL;
        GPtrArray *all = g_ptr_array_new_with_free_func(status_free);
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        for (guint i = 0; i < mount_table_size(table); i++) {
                const struct mount *mount = mount_table_get(table, i);
                const char *path = below_root(m, mount->point);
                MergeMethod method;
                char id[TARGET_ID_LENGTH + 1];
                if (path != NULL && mount_is_merge(mount, m->trees, &method, id) &&
                    g_hash_table_add(seen, (gpointer)path))
                        add_status(m, path, all);
        }
        g_ptr_array_sort(all, status_by_path);
        return all;
}

/* --- the original --- */

static int open_live(Merger *m, const char *path, GError **error)
{
        int fd = fs_beneath_open(m->root_fd, path, O_PATH | O_NOFOLLOW, 0, error);
        if (fd < 0)
                g_prefix_error(error, "the place /%s of a merge is gone: ", path);
        return fd;
}

int merger_original(Merger *m, const char *path, GError **error)
{
        g_autoptr(GPtrArray) present = merger_status(m, error);
        if (present == NULL)
                return -1;
        /* The innermost of ours that covers it: what lies on another mount below it is not covered. */
        const struct merge_status *cover = NULL;
        for (guint i = 0; i < present->len; i++) {
                const struct merge_status *s = present->pdata[i];
                if (target_path_is_below(path, s->path))
                        cover = s;
        }
        if (cover == NULL)
                return open_live(m, path, error);
        scoped_fd int live = open_live(m, path, error);
        g_autoptr(MountPlace) place = live >= 0 ? merger_place(m, cover->path, error) : NULL;
        if (place == NULL)
                return -1;
        if (mount_api_id(live) != mount_api_id(place->fd))
                return g_steal_fd(&live);
        scoped_fd int original = originals_get(m->originals, cover->path, error);
        if (original < 0 || g_str_equal(path, cover->path))
                return g_steal_fd(&original);
        return fs_beneath_open(original, path + strlen(cover->path) + 1, O_PATH | O_NOFOLLOW, 0, error);
}

/* --- methods --- */

static unsigned attr_of(const struct mount *on)
{
        unsigned attr = MOUNT_ATTR_RDONLY; /* nothing is ever written through a merge */
        if (on != NULL)
                attr |= (on->nosuid ? MOUNT_ATTR_NOSUID : 0u) | (on->nodev ? MOUNT_ATTR_NODEV : 0u) |
                        (on->noexec ? MOUNT_ATTR_NOEXEC : 0u);
        return attr;
}

struct merge_job merger_job(Merger *m, const Target *t, const struct target_merge *merge, int original_fd,
                            const struct merge_source *source, GCancellable *cancellable)
{
        g_autoptr(MountTable) table = mount_table_load(NULL);
        const struct mount *on = table != NULL ? mount_table_find(table, mount_api_id(original_fd)) : NULL;
        return (struct merge_job){
                .config = &m->config,
                .store = m->store,
                .target = t,
                .merge = *merge,
                .original_fd = original_fd,
                .attr = attr_of(on),
                .source = source,
                .cancellable = cancellable,
        };
}

const struct merge_method_ops *merger_choose_ops(const struct merge_job *job, MergeMethod forced,
                                                 GError **error)
{
        g_autoptr(GString) reasons = g_string_new(NULL);
        for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
                if (forced != MERGE_AUTO && methods[i]->method != forced)
                        continue;
                g_autofree char *why = methods[i]->refusal(job);
                if (why == NULL)
                        return methods[i];
                g_string_append_printf(reasons, "%s%s: %s", reasons->len > 0 ? "; " : "",
                                       merge_method_name(methods[i]->method), why);
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "/%s cannot be merged (%s)", job->merge.path,
                    reasons->len > 0 ? reasons->str : "this agent was built without that method");
        return NULL;
}

gboolean merger_choose(Merger *m, const Target *t, const struct target_merge *merge, MergeMethod forced,
                       MergeMethod *ret, GError **error)
{
        scoped_fd int original = merger_original(m, merge->path, error);
        if (original < 0)
                return FALSE;
        struct merge_job job = merger_job(m, t, merge, original, NULL, NULL);
        const struct merge_method_ops *ops = merger_choose_ops(&job, forced, error);
        if (ops == NULL)
                return FALSE;
        *ret = ops->method;
        return TRUE;
}

gboolean merger_apply(Merger *m, const Target *want, MergeMethod method, const struct merge_source *source,
                      GString *notes, GError **error)
{
        g_autoptr(Target) present = NULL;
        if (want != NULL &&
            (!merger_look(m, error) || (present = merger_present_part(m, want, notes, error)) == NULL))
                return FALSE;
        g_autoptr(Prepared) p = merger_prepare(m, present, method, source, NULL, error);
        return p != NULL && merger_switch(m, p, notes, error);
}
