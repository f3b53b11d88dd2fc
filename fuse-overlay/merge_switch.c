/* fuse-overlay/merge_switch.c - what was prepared becomes visible, one mount operation for each merge. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "fuse-overlay/merge_parts.h"
#include "fuse-overlay/mount_api.h"

/* Rounds of looking for merges that came back into view when a wider one went. */
#define SWEEPS_MAX 8

static void note(GString *notes, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void note(GString *notes, const char *format, ...)
{
        if (notes == NULL)
                return;
        if (notes->len > 0)
                g_string_append_c(notes, '\n');
        va_list args;
        va_start(args, format);
        g_string_append_vprintf(notes, format, args);
        va_end(args);
}

/* What is mounted below the place comes along: put together in private, so that it arrives as one. */
static gboolean load(Originals *o, const GPtrArray *carried, int tree_fd, GError **error)
{
        if (carried->len == 0)
                return TRUE;
        scoped_fd int stage = originals_stage(o, TRUE, error);
        return stage >= 0 && mount_api_move(tree_fd, stage, MOUNT_ON_TOP, "the staging place", error) &&
               mount_carry_into(carried, tree_fd, error);
}

/* Merges that are covered now would come back when the wider one goes. */
static void dig_out(const struct merge_change *c, GString *notes)
{
        for (guint i = 0; i < c->buried->len; i++) {
                const struct buried *b = c->buried->pdata[i];
                g_autoptr(GError) error = NULL;
                scoped_fd int fd = openat(b->folder, b->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || mount_api_id(fd) != b->id || !mount_api_detach(fd, b->name, &error))
                        note(notes, "a merge that /%s covers could not be taken away (%s)", c->path,
                             error != NULL ? error->message : "it is not there any more");
                /* Its anchor looks as the original does; it goes as well. */
                scoped_fd int below = openat(b->folder, b->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                if (fd >= 0 && below >= 0 && mount_api_id(below) != mount_api_id(b->folder))
                        (void)mount_api_detach(below, b->name, NULL);
        }
}

static gboolean put(Merger *m, struct merge_change *c, GString *notes, GError **error)
{
        if (c->lowest != 0 && !merger_unwind(m, c->path, c->lowest, error))
                return FALSE;
        g_autoptr(MountPlace) place = merger_place(m, c->path, error);
        if (place == NULL)
                return FALSE;
        const struct mount_layer *top = mount_place_top(place);
        if ((c->kind == CHANGE_ATTACH) != (top == NULL) || (top != NULL && top->kind != LAYER_MERGE)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "the mounts at %s are not those that were planned with: apply it again",
                            place->point);
                return FALSE;
        }
        /* Listed now: something may have been mounted since it was prepared. */
        g_autoptr(GPtrArray) carried = mount_carry_list(place->fd, place->point, m->trees, error);
        if (carried == NULL || !load(m->originals, carried, c->tree_fd, error))
                return FALSE;
        gboolean on_top = FALSE;
        gboolean ok = c->kind == CHANGE_ATTACH
                              ? mount_place_attach(place, m->originals, c->tree_fd, carried, error)
                              : mount_place_replace(place, m->originals, c->tree_fd, &on_top, error);
        if (!ok)
                return FALSE;
        c->used = TRUE;
        if (on_top)
                note(notes, "%s: the old merge stays mounted below the new one until both go", place->point);
        dig_out(c, notes);
        return TRUE;
}

static gboolean is_dead(Merger *m, const char *path, const char *tag, GError **error)
{
        g_autoptr(GPtrArray) present = merger_status(m, error);
        for (guint i = 0; present != NULL && i < present->len; i++) {
                const struct merge_status *s = present->pdata[i];
                g_autofree char *there = mount_tag(s->method, s->id);
                if (g_str_equal(s->path, path) && !s->alive && g_str_equal(there, tag))
                        return TRUE;
        }
        if (present != NULL)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "/%s: no dead merge %s is there", path,
                            tag);
        return FALSE;
}

gboolean merger_revive(Merger *m, const char *path, const char *tag, int mount_fd, GError **error)
{
        g_autoptr(GPtrArray) buried = g_ptr_array_new();
        struct merge_change c = {
                .kind = CHANGE_REPLACE, .path = (char *)path, .tree_fd = mount_fd, .buried = buried};

        return merger_need_originals(m, error) && is_dead(m, path, tag, error) && put(m, &c, NULL, error);
}

/* A server's supervisor gives up what is not switched in yet. */
static gboolean is_served(const struct merge_change *c, GError **error)
{
        if (merger_is_alive(c->tree_fd))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                    "its server died while it was switched in (targetfs.log in the store says how): "
                    "try again, or with another method");
        return FALSE;
}

static gboolean make_change(Merger *m, struct merge_change *c, GString *notes, GError **error)
{
        if (c->kind == CHANGE_ATTACH || c->kind == CHANGE_REPLACE)
                return merger_mount_is_there(m, &c->merge, error) && is_served(c, error) &&
                       put(m, c, notes, error) && !fault_point("merge-put") && is_served(c, error);
        return merger_unwind(m, c->path, c->lowest, error);
}

static gboolean switch_one(Merger *m, struct merge_change *c, GString *notes, GError **error)
{
        int pretend = fault_point("merge");
        if (pretend != 0)
                return moult_error_errno(error, pretend, "switching the merge of /%s", c->path);
        if (!make_change(m, c, notes, error)) {
                g_prefix_error(error, "switching the merge of /%s: ", c->path);
                return FALSE;
        }
        pretend = fault_point("merged");
        if (pretend != 0)
                return moult_error_errno(error, pretend, "after switching the merge of /%s", c->path);
        return TRUE;
}

static gboolean is_wanted(const Target *t, const char *path)
{
        for (guint i = 0; t != NULL && i < target_n_merges(t); i++)
                if (g_str_equal(target_get_merge(t, i).path, path))
                        return TRUE;
        return FALSE;
}

/* Merges that nobody wants and that came back into view when a wider one went. *ret_paths: what is merged. */
static gboolean sweep(Merger *m, const Target *t, GHashTable *ret_paths, GString *notes, GError **error)
{
        for (guint round = 0; round < SWEEPS_MAX; round++) {
                g_autoptr(GPtrArray) present = merger_status(m, error);
                if (present == NULL)
                        return FALSE;
                guint removed = 0;
                g_hash_table_remove_all(ret_paths);
                for (guint i = present->len; i > 0; i--) {
                        const struct merge_status *s = present->pdata[i - 1];
                        g_hash_table_add(ret_paths, g_strdup(s->path));
                        if (is_wanted(t, s->path)) {
                                if (s->stacked)
                                        note(notes, "more than one merge is mounted at /%s", s->path);
                                continue;
                        }
                        if (!merger_unwind(m, s->path, 0, error))
                                return FALSE;
                        removed++;
                }
                if (removed == 0)
                        return TRUE;
        }
        note(notes, "merges of before keep coming back into view");
        return TRUE;
}

/* Others follow what is mounted in init's namespace. If that is not where we are, they do not. */
static void look_around(GString *notes)
{
        struct stat ours, init;
        if (stat("/proc/self/ns/mnt", &ours) == 0 && stat("/proc/1/ns/mnt", &init) == 0 &&
            ours.st_ino != init.st_ino)
                note(notes,
                     "the agent is in a mount namespace of its own: what it merges may not be seen outside");
        if (stat("/proc/self/root", &ours) == 0 && stat("/proc/1/root", &init) == 0 &&
            (ours.st_ino != init.st_ino || ours.st_dev != init.st_dev))
                note(notes, "the agent's root directory is not that of the machine");
}

gboolean merger_switch(Merger *m, Prepared *p, GString *notes, GError **error)
{
        for (guint i = 0; i < p->changes->len; i++)
                if (!switch_one(m, p->changes->pdata[i], notes, error))
                        return FALSE;
        if (p->changes->len > 0)
                look_around(notes);
        g_autoptr(GHashTable) paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        if (!sweep(m, p->target, paths, notes, error))
                return FALSE;
        g_autoptr(GError) local = NULL;
        if (m->originals != NULL && !originals_collect(m->originals, paths, &local))
                note(notes, "originals that are not needed any more: %s", local->message);
        return TRUE;
}
