/* guest-agent/upgrade/merged.c - the target file system as the engine sees it. */
#include "guest-agent/upgrade/merged.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "fuse-overlay/target_tree.h"

void wanted_clear(struct wanted *w)
{
        if (w->target != NULL)
                target_unref(w->target);
        *w = (struct wanted){0};
}

/* One that found everything equal says nothing about the target: what it carries would outlive the generation
 * that it is from. */
static gboolean is_decided(const Generation *g)
{
        JournalStep last = journal_last(g->journal);
        return last == JOURNAL_COMMITTED ? history_is_way_back(g)
                                         : last >= JOURNAL_COMMIT && last < JOURNAL_COMMITTED;
}

gboolean merged_wanted(Upgrade *u, struct wanted *ret, GError **error)
{
        *ret = (struct wanted){0};
        if (u->state_fd < 0)
                return TRUE;
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        if (numbers == NULL)
                return FALSE;
        for (guint i = numbers->len; i > 0; i--) {
                g_autoptr(GError) why = NULL;
                g_autoptr(Generation) g =
                        generation_open(u->state_fd, g_array_index(numbers, guint64, i - 1), error);
                if (g == NULL)
                        return FALSE;
                if (!is_decided(g))
                        continue;
                ret->generation = g->number;
                ret->unfilled =
                        g->offer != NULL && g->offer->instant && journal_last(g->journal) < JOURNAL_FILLED;
                ret->method = g->offer != NULL ? (MergeMethod)g->offer->merge : MERGE_AUTO;
                ret->target = generation_load_target(g, &why);
                if (why == NULL)
                        return TRUE;
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        return TRUE;
}

static gboolean never_merged(const Upgrade *u)
{
        return faccessat(u->state_fd, "target", F_OK, AT_SYMLINK_NOFOLLOW) < 0;
}

struct merge_source merged_source(const Upgrade *u, guint64 generation, char **ret_record)
{
        struct merge_source source = u->source;
        *ret_record = g_strdup_printf("%s/generations/%" G_GUINT64_FORMAT, u->state_dir, generation);
        source.pack_record_dir = *ret_record;
        return source;
}

gboolean merged_apply(Upgrade *u, GString *notes, GError **error)
{
        struct wanted w;
        g_autofree char *record = NULL;
        if (never_merged(u))
                return TRUE;
        if (!merged_wanted(u, &w, error))
                return FALSE;
        Merger *merger = engine_merger(u, error);
        struct merge_source source = merged_source(u, w.generation, &record);
        gboolean ok = merger != NULL &&
                      merger_apply(merger, w.target, w.method, w.unfilled ? &source : NULL, notes, error);
        wanted_clear(&w);
        return ok;
}

static void path_of_incoming(guint64 generation, char ret[static 64])
{
        g_snprintf(ret, 64, "target/incoming/%" G_GUINT64_FORMAT, generation);
}

int merged_incoming(Upgrade *u, guint64 generation, gboolean create, GError **error)
{
        char path[64];
        path_of_incoming(generation, path);
        if (create)
                for (const char *const *p = (const char *const[]){"target", "target/incoming", path, NULL};
                     *p != NULL; p++)
                        if (mkdirat(u->state_fd, *p, 0700) < 0 && errno != EEXIST) {
                                moult_error_errno(error, errno, "creating %s in the state directory", *p);
                                return -1;
                        }
        int fd = openat(u->state_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                moult_error_errno(error, errno, "opening %s in the state directory", path);
        return fd;
}

gboolean merged_remove_incoming(Upgrade *u, guint64 generation, GError **error)
{
        char path[64];
        path_of_incoming(generation, path);
        return never_merged(u) || remove_tree(u->state_fd, path, error);
}

static void target_unref_pointer(gpointer p)
{
        target_unref(p);
}

/* Targets that may be wanted again: every generation that has a plan, and so a way back or a way on, and the
 * wanted one. */
static gboolean needed_targets(Upgrade *u, GPtrArray *ret, GError **error)
{
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        gboolean next_is_needed = TRUE; /* of the decided ones: the newest, and what each way back leads to */
        if (numbers == NULL)
                return FALSE;
        for (guint i = numbers->len; i > 0; i--) {
                g_autoptr(GError) why = NULL;
                g_autoptr(Generation) g =
                        generation_open(u->state_fd, g_array_index(numbers, guint64, i - 1), error);
                if (g == NULL)
                        return FALSE;
                JournalStep last = journal_last(g->journal);
                gboolean has_plan = faccessat(g->dirfd, "plan", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
                gboolean needed =
                        !journal_step_is_final(last) || has_plan || (is_decided(g) && next_is_needed);
                if (is_decided(g))
                        next_is_needed = has_plan;
                if (!needed)
                        continue;
                Target *t = generation_load_target(g, &why);
                if (why != NULL) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                if (t != NULL)
                        g_ptr_array_add(ret, t);
        }
        return TRUE;
}

static gboolean collect(Upgrade *u, GError **error)
{
        g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(target_unref_pointer);
        g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        Merger *merger = engine_merger(u, error);
        g_autoptr(GPtrArray) status = merger != NULL ? merger_status(merger, error) : NULL;
        if (status == NULL || !needed_targets(u, keep, error))
                return FALSE;
        for (guint i = 0; i < status->len; i++)
                g_hash_table_add(ids,
                                 g_strdup(((const struct merge_status *)g_ptr_array_index(status, i))->id));
        for (guint i = 0; i < keep->len; i++) {
                const Target *t = g_ptr_array_index(keep, i);
                for (guint k = 0; k < target_n_merges(t); k++) {
                        struct target_merge m = target_get_merge(t, k);
                        char id[TARGET_ID_LENGTH + 1];
                        target_id(t, &m, id);
                        g_hash_table_add(ids, g_strdup(id));
                }
        }
        ObjectStore *store = merger_store(merger);
        return target_tree_collect(store, ids, error) &&
               object_store_collect(store, (const Target *const *)keep->pdata, keep->len, NULL, error);
}

void merged_collect(Upgrade *u, GString *notes)
{
        g_autoptr(GError) why = NULL;
        if (never_merged(u) || u->read_only || collect(u, &why))
                return;
        g_string_append_printf(notes, "objects that nobody needs are kept for now: %s\n", why->message);
}
