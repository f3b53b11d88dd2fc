/* fuse-overlay/merge_prepare.c - everything that a switch needs, made before: which merges change, their
 * trees, servers and detached mounts. Nothing is visible yet. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/merge_parts.h"
#include "fuse-overlay/mount_api.h"

static void buried_free(gpointer p)
{
        struct buried *b = p;
        scoped_fd_close(&b->folder);
        g_free(b->name);
        g_free(b);
}

static void change_free(gpointer p)
{
        struct merge_change *c = p;
        if (c->ops != NULL && c->ops->release != NULL && c->tree_fd >= 0)
                c->ops->release(&c->job, c->used);
        scoped_fd_close(&c->tree_fd);
        scoped_fd_close(&c->original_fd);
        g_clear_pointer(&c->buried, g_ptr_array_unref);
        g_free(c->path);
        g_free(c->tag);
        g_free(c);
}

void prepared_free(Prepared *p)
{
        if (p == NULL)
                return;
        g_clear_pointer(&p->changes, g_ptr_array_unref);
        g_clear_pointer(&p->target, target_unref);
        g_free(p);
}

/* --- a merge does not shrink while something wider is mounted: it is served there --- */

static gint merge_by_path(gconstpointer a, gconstpointer b)
{
        const struct target_merge *x = a, *y = b;
        return target_path_compare(x->path, y->path);
}

/* The merge that is there already and holds @merge, on the same mount. */
static const char *wider(const GPtrArray *present, const struct target_merge *merge)
{
        for (guint i = 0; i < present->len; i++) {
                const struct merge_status *s = present->pdata[i];
                if (!g_str_equal(s->path, merge->path) && target_path_is_below(merge->path, s->path) &&
                    target_path_is_below(s->path, merge->mount))
                        return s->path;
        }
        return NULL;
}

static Target *widen(const Target *want, const GPtrArray *present)
{
        g_autoptr(GArray) merges = g_array_new(FALSE, FALSE, sizeof(struct target_merge));
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        for (guint i = 0; i < target_n_merges(want); i++) {
                struct target_merge m = target_get_merge(want, i);
                const char *there = m.reach == MOULT__TARGET__REACH__REACH_TREE ? wider(present, &m) : NULL;
                if (there != NULL)
                        m.path = there;
                if (g_hash_table_add(seen, (gpointer)m.path))
                        g_array_append_val(merges, m);
        }
        g_array_sort(merges, merge_by_path);
        return target_with_merges(want, (const struct target_merge *)(gpointer)merges->data, merges->len);
}

/* --- one merge --- */

struct preparing {
        Merger *merger;
        const Target *target;
        const GPtrArray *present;
        MergeMethod method;
        const struct merge_source *source;
        GCancellable *cancellable;
};

/* Every file of the merge is in the store, whole. *ret_missing: with a source to read from, one may be
 * missing.
 */
static gboolean check_objects(const struct preparing *w, const struct target_merge *merge,
                              gboolean *ret_missing, GError **error)
{
        guint first, n = target_below(w->target, merge->path, &first);
        gboolean missing = FALSE;
        for (guint i = first; i < first + n; i++) {
                struct target_item item = target_get(w->target, i);
                if (item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE ||
                    !target_merge_serves(w->target, merge, &item))
                        continue;
                if (w->source != NULL && !object_store_has(w->merger->store, item.entry)) {
                        missing = TRUE;
                        continue;
                }
                if (!object_store_verify(w->merger->store, item.entry, w->cancellable, error)) {
                        g_prefix_error(error, "the new version of /%s is not fit to be merged: ", item.path);
                        return FALSE;
                }
        }
        *ret_missing = missing;
        return TRUE;
}

static gboolean is_wanted(const Target *t, const char *path)
{
        for (guint i = 0; t != NULL && i < target_n_merges(t); i++)
                if (g_str_equal(target_get_merge(t, i).path, path))
                        return TRUE;
        return FALSE;
}

static gboolean is_alive_at(const struct preparing *w, const char *path)
{
        for (guint i = 0; i < w->present->len; i++) {
                const struct merge_status *s = w->present->pdata[i];
                if (g_str_equal(s->path, path))
                        return s->alive;
        }
        return FALSE;
}

static gboolean is_wanted_layer(const struct merge_change *c, const struct mount_layer *l)
{
        return l->kind == LAYER_MERGE && l->method == c->ops->method && g_str_equal(l->merge_id, c->id);
}

/* What has to be done at the place; FALSE: nothing. An exchange that was interrupted has left the newer merge
 * below the older: either that is what is wanted, or it is carried on first. (Where nothing can be put
 * beneath, the older one stays below the newer; that is left alone.) */
static gboolean find_kind(const struct preparing *w, const struct mount_place *place, struct merge_change *c)
{
        const struct mount_layer *top = mount_place_top(place), *lowest = mount_place_lowest(place);
        if (top == NULL) {
                c->kind = CHANGE_ATTACH;
                return TRUE;
        }
        gboolean tidy = mount_place_is_tidy(place) || !mount_place_can_exchange(place);
        if (tidy && is_wanted_layer(c, top) && is_alive_at(w, c->path))
                return FALSE;
        c->lowest = tidy ? 0 : lowest->id;
        c->kind = !tidy && is_wanted_layer(c, lowest) ? CHANGE_UNWIND : CHANGE_REPLACE;
        return TRUE;
}

/* The merges inside the place of @c, on the same mount: it covers them. Each is reached by its folder later.
 */
static gboolean find_buried(const struct preparing *w, struct merge_change *c, GError **error)
{
        for (guint i = 0; i < w->present->len; i++) {
                const struct merge_status *s = w->present->pdata[i];
                if (g_str_equal(s->path, c->path) || !target_path_is_below(s->path, c->path) ||
                    is_wanted(w->target, s->path))
                        continue;
                g_autoptr(MountPlace) place = merger_place(w->merger, s->path, error);
                if (place == NULL)
                        return FALSE;
                g_autofree char *folder = g_path_get_dirname(place->point);
                scoped_fd int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening %s", folder);
                struct buried *b = g_new(struct buried, 1);
                *b = (struct buried){.folder = g_steal_fd(&fd),
                                     .name = g_path_get_basename(place->point),
                                     .id = mount_api_id(place->fd)};
                g_ptr_array_add(c->buried, b);
        }
        return TRUE;
}

static gboolean make_mount(const struct preparing *w, const struct mount_place *place, struct merge_change *c,
                           GError **error)
{
        c->tree_fd = c->ops->make(&c->job, error);
        if (c->tree_fd < 0) {
                g_prefix_error(error, "making the merge of /%s by %s: ", c->path,
                               merge_method_name(c->ops->method));
                return FALSE;
        }
        g_autoptr(GPtrArray) carried = mount_carry_list(place->fd, place->point, w->merger->trees, error);
        if (carried == NULL)
                return FALSE;
        g_autofree char *why = mount_carry_refusal(carried, w->target, &c->merge, c->tree_fd);
        if (why == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "/%s cannot be merged: %s", c->path, why);
        return FALSE;
}

/* The original's clone: what is kept if a merge lies there, else what is there now. */
static int take_original(const struct preparing *w, const struct mount_place *place, GError **error)
{
        Originals *o = w->merger->originals;
        if (mount_place_top(place) == NULL && !originals_keep(o, place->path, place->fd, error))
                return -1;
        return originals_get(o, place->path, error);
}

static MountPlace *open_place(const struct preparing *w, const char *path, GError **error)
{
        g_autoptr(MountPlace) place = merger_place(w->merger, path, error);
        const struct mount_layer *top = place != NULL ? mount_place_top(place) : NULL;
        if (top == NULL || top->kind == LAYER_MERGE)
                return g_steal_pointer(&place);
        if (top->kind == LAYER_FOREIGN) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "something else is mounted over the merge at %s: unmount it first", place->point);
                return NULL;
        }
        /* An anchor alone, of an interrupted removal: it looks as the original does. */
        if (!merger_unwind(w->merger, path, 0, error))
                return NULL;
        return merger_place(w->merger, path, error);
}

static gboolean choose(const struct preparing *w, struct merge_change *c, GError **error)
{
        gboolean missing = FALSE;
        MergeMethod method = w->method;
        if (w->source != NULL) {
                if (!check_objects(w, &c->merge, &missing, error))
                        return FALSE;
                if (missing)
                        method = MERGE_UNION; /* nothing else can serve what is not here yet */
        }
        c->ops = merger_choose_ops(&c->job, method, error);
        return c->ops != NULL;
}

/* NULL without error: the merge is as it should be. */
static struct merge_change *prepare_change(const struct preparing *w, struct merge_change *c, GError **error)
{
        if (!merger_mount_is_there(w->merger, &c->merge, error))
                return NULL;
        g_autoptr(MountPlace) place = open_place(w, c->path, error);
        if (place == NULL)
                return NULL;
        c->original_fd = take_original(w, place, error);
        if (c->original_fd < 0)
                return NULL;
        c->job = merger_job(w->merger, w->target, &c->merge, c->original_fd, w->source, w->cancellable);
        target_id(w->target, &c->merge, c->id);
        if (!choose(w, c, error))
                return NULL;
        c->tag = mount_tag(c->ops->method, c->id);
        c->job.tag = c->tag;
        gboolean missing;
        if (!find_kind(w, place, c))
                return NULL;
        if (c->kind == CHANGE_UNWIND)
                return c;
        if (!check_objects(w, &c->merge, &missing, error) || !make_mount(w, place, c, error))
                return NULL;
        if (c->kind == CHANGE_ATTACH && !find_buried(w, c, error))
                return NULL;
        return c;
}

static struct merge_change *change_new(const char *path)
{
        struct merge_change *c = g_new0(struct merge_change, 1);
        c->path = g_strdup(path);
        c->merge.path = c->path;
        c->original_fd = c->tree_fd = -1;
        c->buried = g_ptr_array_new_with_free_func(buried_free);
        return c;
}

static gboolean prepare_merges(const struct preparing *w, Prepared *p, GError **error)
{
        for (guint i = 0; i < target_n_merges(w->target); i++) {
                struct target_merge merge = target_get_merge(w->target, i);
                struct merge_change *c = change_new(merge.path);
                c->merge = merge;
                g_autoptr(GError) local = NULL;
                if (prepare_change(w, c, &local) != NULL) {
                        g_ptr_array_add(p->changes, c);
                        continue;
                }
                change_free(c);
                if (local != NULL) {
                        g_propagate_error(error, g_steal_pointer(&local));
                        return FALSE;
                }
        }
        return TRUE;
}

/* --- merges that are to go --- */

static gboolean is_buried(const Prepared *p, const char *path)
{
        for (guint i = 0; i < p->changes->len; i++) {
                const struct merge_change *c = p->changes->pdata[i];
                if (c->kind == CHANGE_ATTACH && target_path_is_below(path, c->path))
                        return TRUE;
        }
        return FALSE;
}

static gboolean check_removal(const struct preparing *w, const char *path, GError **error)
{
        g_autoptr(MountPlace) place = merger_place(w->merger, path, error);
        if (place == NULL)
                return FALSE;
        g_autoptr(GPtrArray) carried = mount_carry_list(place->fd, place->point, w->merger->trees, error);
        if (carried == NULL)
                return FALSE;
        g_autoptr(GError) local = NULL;
        g_autofree char *why = mount_carry_own(carried, place->point, &local);
        if (why != NULL)
                g_set_error(&local, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the merge of /%s cannot be taken away: %s", path, why);
        if (local == NULL)
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
}

/* The innermost first. */
static gboolean prepare_removals(const struct preparing *w, Prepared *p, GError **error)
{
        for (guint i = w->present->len; i > 0; i--) {
                const struct merge_status *s = w->present->pdata[i - 1];
                if (is_wanted(w->target, s->path) || is_buried(p, s->path))
                        continue;
                if (!check_removal(w, s->path, error))
                        return FALSE;
                struct merge_change *c = change_new(s->path);
                c->kind = CHANGE_REMOVE;
                g_ptr_array_add(p->changes, c);
        }
        return TRUE;
}

Prepared *merger_prepare(Merger *m, const Target *want, MergeMethod method, const struct merge_source *source,
                         GCancellable *cancellable, GError **error)
{
        if (!merger_look(m, error))
                return NULL;
        gboolean any = want != NULL && target_n_merges(want) > 0;
        if ((any && !merger_need_originals(m, error)) ||
            (m->originals != NULL && !originals_tidy(m->originals, error)))
                return NULL;
        g_autoptr(GPtrArray) present = merger_status(m, error);
        if (present == NULL)
                return NULL;
        g_autoptr(Prepared) p = g_new0(Prepared, 1);
        p->merger = m;
        p->changes = g_ptr_array_new_with_free_func(change_free);
        p->target = any ? widen(want, present) : NULL;
        const struct preparing w = {m, p->target, present, method, source, cancellable};
        if ((any && !prepare_merges(&w, p, error)) || !prepare_removals(&w, p, error))
                return NULL;
        return g_steal_pointer(&p);
}
