/* guest-agent/upgrade/plan_merge.c - what of the plan cannot be written, as a target and its merges. */
#include "guest-agent/upgrade/plan_merge.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "fuse-overlay/merge_plan.h"
#include "guest-agent/upgrade/survey.h"
#include "shm/entry_metadata.h"

#define LABEL           "security.selinux"
#define LABEL_BYTES_MAX 4096

static Moult__Target__Reach reach_of(const struct plan_entry *pe)
{
        return pe->reach == REACH_FILE ? MOULT__TARGET__REACH__REACH_FILE : MOULT__TARGET__REACH__REACH_TREE;
}

static gboolean is_merged_change(const struct plan_entry *pe)
{
        return pe->selected && pe->how == HOW_MERGE && pe->action != MOULT__PLAN_ACTION__PLAN_BLOCKED &&
               pe->action != MOULT__PLAN_ACTION__PLAN_DRIFT && pe->action != MOULT__PLAN_ACTION__PLAN_EQUAL;
}

/* A label that the release does not list: what the policy gave the old object, or the directory that it comes
 * into. */
static void inherit_label(Metadata *m, const Plan *p, const struct plan_entry *pe, int root_fd)
{
        const struct plan_entry *at = pe->directory < 0 ? &p->entries[pe->carrier] : pe;
        if (metadata_has_label(m) || at->directory < 0)
                return;
        const char *dir = plan_directory(p, at->directory)->path;
        scoped_fd int fd = fs_beneath_open(root_fd, *dir != '\0' ? dir : ".", O_PATH | O_DIRECTORY, 0, NULL);
        if (fd < 0)
                return;
        gboolean replaces = at == pe && pe->old_inode != 0 && !g_str_equal(dir, pe->physical);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", fd,
                                                replaces ? survey_last_component(pe->physical) : ".");
        char label[LABEL_BYTES_MAX];
        ssize_t n = lgetxattr(path, LABEL, label, sizeof label);
        if (n <= 0)
                return;
        metadata_add_xattr(m, LABEL, strlen(LABEL), label, (gsize)n);
        metadata_sort(m);
}

/* What the original has there. What is live tells, unless the target before is what we would see. */
static Moult__Target__Original original_of(const Target *before, const char *physical, int root_fd)
{
        struct target_item item;
        if (before != NULL && (target_lookup(before, physical, &item) || target_hides(before, physical)))
                return MOULT__TARGET__ORIGINAL__ORIGINAL_UNKNOWN;
        const char *name;
        struct stat st;
        g_autoptr(GError) why = NULL;
        scoped_fd int fd = fs_beneath_open_parent(root_fd, physical, &name, &why);
        int r = fd >= 0 ? fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) : -1;
        gboolean absent = fd >= 0 ? r < 0 && errno == ENOENT : moult_error_code(why) == MOULT_ERROR_NOT_FOUND;
        if (r < 0)
                return absent ? MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT
                              : MOULT__TARGET__ORIGINAL__ORIGINAL_UNKNOWN;
        return S_ISDIR(st.st_mode) ? MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY
                                   : MOULT__TARGET__ORIGINAL__ORIGINAL_OTHER;
}

static void changes_of(const Plan *p, const Target *before, int root_fd, GArray *changes, GPtrArray *metadata)
{
        for (guint32 i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                const Moult__Entry *e = p->manifest->entries[i];
                if (!is_merged_change(pe))
                        continue;
                const struct plan_entry *at = pe->carrier >= 0 ? &p->entries[pe->carrier] : pe;
                struct target_change c = {
                        .path = pe->physical,
                        .entry = e,
                        .link_to = pe->link_of >= 0 ? p->manifest->entries[pe->link_of] : NULL,
                        .reach = reach_of(pe),
                        .mount = at->area >= 0 ? plan_area(p, at->area)->original_mount : "",
                        .original = original_of(before, pe->physical, root_fd),
                };
                if (e->type != MOULT__ENTRY_TYPE__ENTRY_DELETE) {
                        /* Names of one file have one object, so one label: the file's own place decides. */
                        const struct plan_entry *file = pe->link_of >= 0 ? &p->entries[pe->link_of] : pe;
                        Metadata *m = metadata_from_entry(p->manifest->entries[file - p->entries]);
                        inherit_label(m, p, file, root_fd);
                        g_ptr_array_add(metadata, m);
                        c.metadata = m;
                }
                g_array_append_val(changes, c);
        }
}

static int change_compare(gconstpointer a, gconstpointer b)
{
        return strcmp(((const struct target_change *)a)->path, ((const struct target_change *)b)->path);
}

Target *plan_compose(const Plan *p, const Target *before, const struct target_release *release, int root_fd,
                     GError **error)
{
        g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(struct target_change));
        g_autoptr(GPtrArray) metadata = g_ptr_array_new_with_free_func((GDestroyNotify)metadata_free);
        changes_of(p, before, root_fd, changes, metadata);
        if (changes->len == 0)
                return before != NULL ? target_ref(before) : NULL;
        g_array_sort(changes, change_compare); /* physical paths: links may have changed the order */
        for (guint i = 1; i < changes->len; i++) {
                const char *path = g_array_index(changes, struct target_change, i).path;
                if (!g_str_equal(g_array_index(changes, struct target_change, i - 1).path, path))
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "two entries of the release are one object here: /%s", path);
                return NULL;
        }
        return target_compose(before, release, (const struct target_change *)(void *)changes->data,
                              changes->len);
}

/* What is at @path, and with @below what lies below it, cannot be merged. How many of the plan's entries that
 * is. */
static guint block(Plan *p, const char *path, gboolean below, const char *reason)
{
        guint n = 0;
        for (guint32 i = 0; i < p->n_entries; i++) {
                struct plan_entry *pe = &p->entries[i];
                if (!is_merged_change(pe) ||
                    !(below ? target_path_is_below(pe->physical, path) : g_str_equal(pe->physical, path)))
                        continue;
                survey_block(pe, g_strdup(reason));
                n++;
        }
        p->n_blocked += n;
        p->n_change -= n;
        p->n_merged -= n;
        return n;
}

static gboolean choose_methods(Plan *p, const Target *t, Merger *merger, MergeMethod forced, GArray *methods,
                               GError **error)
{
        for (guint i = 0; i < target_n_merges(t); i++) {
                struct target_merge m = target_get_merge(t, i);
                g_autoptr(GError) why = NULL;
                MergeMethod method = MERGE_AUTO;
                if (merger != NULL && !merger_choose(merger, t, &m, forced, &method, &why)) {
                        g_autofree char *reason = g_strdup_printf(
                                "cannot be written, and not be merged at /%s: %s", m.path, why->message);
                        if (moult_error_code(why) != MOULT_ERROR_REFUSED ||
                            block(p, m.path, TRUE, reason) == 0) {
                                g_propagate_error(error, g_steal_pointer(&why));
                                return FALSE;
                        }
                }
                g_array_append_val(methods, method);
        }
        return TRUE;
}

/* What is merged now, as the planner takes it: the places of @before where something of ours is mounted. */
static gboolean merged_now(Merger *merger, const Target *before, GArray *ret, GError **error)
{
        if (merger == NULL || before == NULL)
                return TRUE;
        g_autoptr(GPtrArray) status = merger_status(merger, error);
        if (status == NULL)
                return FALSE;
        for (guint k = 0; k < target_n_merges(before); k++) {
                struct target_merge m = target_get_merge(before, k);
                for (guint i = 0; i < status->len; i++)
                        if (g_str_equal(((const struct merge_status *)g_ptr_array_index(status, i))->path,
                                        m.path)) {
                                g_array_append_val(ret, m);
                                break;
                        }
        }
        return TRUE;
}

gboolean plan_place_merges(Plan *p, const Target *before, const Target *t, Merger *merger, MergeMethod forced,
                           Target **ret, GArray **ret_methods, GError **error)
{
        g_autoptr(GArray) present = g_array_new(FALSE, FALSE, sizeof(struct target_merge));
        if (!merged_now(merger, before, present, error))
                return FALSE;
        g_autoptr(MergePlan) plan =
                merge_plan(t, (const struct target_merge *)(void *)present->data, present->len);
        for (guint i = 0; i < plan->refusals->len; i++) {
                const struct merge_refusal *r = g_ptr_array_index(plan->refusals, i);
                block(p, r->path, FALSE, r->reason);
        }
        g_autoptr(Target) placed = target_with_merges(
                t, (const struct target_merge *)(void *)plan->merges->data, plan->merges->len);
        g_autofree char *refusal = target_refusal(placed);
        if (refusal != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "what cannot be written cannot be merged either: %s; nothing was touched",
                            refusal);
                return FALSE;
        }
        g_autoptr(GArray) methods = g_array_new(FALSE, FALSE, sizeof(MergeMethod));
        if (!choose_methods(p, placed, merger, forced, methods, error))
                return FALSE;
        *ret = g_steal_pointer(&placed);
        *ret_methods = g_steal_pointer(&methods);
        return TRUE;
}

gint plan_merge_of(const Target *t, const struct plan_entry *pe)
{
        for (guint i = 0; pe->how == HOW_MERGE && i < target_n_merges(t); i++)
                if (target_path_is_below(pe->physical, target_get_merge(t, i).path))
                        return (gint)i;
        return -1;
}
