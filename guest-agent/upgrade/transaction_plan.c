/* guest-agent/upgrade/transaction_plan.c - the first step: may this release come here, and what would it do?
 */
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest-agent/upgrade/owners.h"
#include "guest-agent/upgrade/requirements.h"
#include "guest-agent/upgrade/space.h"
#include "guest-agent/upgrade/plan_merge.h"
#include "guest-agent/upgrade/staging_area.h"
#include "guest-agent/upgrade/transaction_parts.h"

static gboolean check_floor(Transaction *t, GError **error)
{
        guint64 floor;
        if (!floor_read(t->u, &floor, error))
                return FALSE;
        if (t->manifest->security_floor >= floor)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                    "the release's security floor is %" G_GUINT64_FORMAT
                    ", this machine has committed one with %" G_GUINT64_FORMAT
                    ": an older release may not replace it",
                    t->manifest->security_floor, floor);
        return FALSE;
}

static ProtobufCBinaryData text_bytes(const char *s)
{
        if (s == NULL || *s == '\0')
                return (ProtobufCBinaryData){0};
        return (ProtobufCBinaryData){strlen(s), (guint8 *)g_strdup(s)};
}

static void set_merge(const Transaction *t, const struct plan_entry *pe, Moult__PlanItem *item)
{
        gint merge = t->target != NULL ? plan_merge_of(t->target, pe) : -1;
        item->merged = pe->how == HOW_MERGE && pe->action != MOULT__PLAN_ACTION__PLAN_DRIFT;
        item->merge = text_bytes(merge >= 0 ? target_get_merge(t->target, (guint)merge).path : NULL);
        if (merge >= 0)
                item->method = (Moult__MergeMethod)g_array_index(t->methods, MergeMethod, merge);
}

static void make_items(Transaction *t)
{
        const Plan *p = t->plan;
        g_autoptr(Owners) owners = owners_load(t->u->root_fd);
        t->items = g_new0(Moult__PlanItem *, p->n_entries + 1);
        guint n = 0;
        for (guint i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                const Moult__Entry *e = p->manifest->entries[i];
                if (!pe->selected)
                        continue;
                Moult__PlanItem *item = g_new(Moult__PlanItem, 1);
                moult__plan_item__init(item);
                item->path = text_bytes(pe->path);
                item->action = pe->action;
                item->type = e->type;
                item->reason = text_bytes(pe->reason);
                set_merge(t, pe, item);
                item->mount =
                        pe->area >= 0 ? text_bytes(plan_area(p, pe->area)->mount_point) : text_bytes(NULL);
                item->size = e->size;
                if (pe->action != MOULT__PLAN_ACTION__PLAN_EQUAL)
                        item->owner_package = text_bytes(owners_find(owners, pe->path));
                t->items[n++] = item;
        }
        t->n_items = n;
        progress_counts(t->progress, p->bytes_total, n, p->n_change, p->n_equal, p->n_blocked + p->n_drift,
                        p->n_merged);
}

/* Before our plan says that they are ours: what is cleaned up later must not be another engine's way back. */
static gboolean areas_are_free(Transaction *t, GError **error)
{
        for (guint i = 0; !t->resumed && i < t->plan->areas->len; i++) {
                const struct plan_area *a = plan_area(t->plan, (gint32)i);
                g_autoptr(GError) why = NULL;
                scoped_fd int fd =
                        staging_area_open(t->u->root_fd, a->path, t->g->number, STAGING_OPEN, &why);
                if (fd < 0 && g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "/%s%s.moult/%" G_GUINT64_FORMAT
                            " exists, but this engine did not make it: another one, with "
                            "another state directory, works on this tree; remove it if not",
                            a->path, *a->path != '\0' ? "/" : "", t->g->number);
                return FALSE;
        }
        return TRUE;
}

/* Staging areas on every mount where something will be staged or kept. */
static gboolean open_areas(Transaction *t, GError **error)
{
        t->n_areas = t->plan->areas->len;
        t->area_fds = g_new(int, t->n_areas + 1);
        for (guint i = 0; i < t->n_areas; i++)
                t->area_fds[i] = -1;
        for (guint i = 0; i < t->plan->steps->len; i++) {
                gint32 a = t->plan->entries[g_array_index(t->plan->steps, guint32, i)].area;
                if (t->area_fds[a] >= 0)
                        continue;
                t->area_fds[a] = staging_area_open(t->u->root_fd, plan_area(t->plan, a)->path, t->g->number,
                                                   t->resumed ? STAGING_RESUME : STAGING_CREATE, error);
                if (t->area_fds[a] < 0)
                        return FALSE;
        }
        return TRUE;
}

static gboolean look(Transaction *t, GCancellable *c, GError **error)
{
        if (!transaction_load_merged(t, error))
                return FALSE;
        struct plan_request r = {
                .root = t->u->root,
                .state_dir = t->u->state_dir,
                .root_fd = t->u->root_fd,
                .allow_drift = t->allow_drift,
                .selection = (const char *const *)t->selection,
                .workers = t->workers,
                .before = t->before,
        };
        if (!check_floor(t, error) || !requirements_check(t->manifest, t->u->root_fd, error))
                return FALSE;
        t->plan = plan_survey(t->manifest, &r, c, error);
        if (t->plan == NULL || !transaction_plan_merges(t, error))
                return FALSE;
        make_items(t);
        return plan_is_applicable(t->plan, error) && space_check(t->plan, t->u->root_fd, error) &&
               space_check_store(t->plan, t->target, t->u->state_fd, error);
}

gboolean transaction_plan(Transaction *t, GCancellable *c, GError **error)
{
        GError *why = NULL;
        if (!transaction_require_phase(t, MOULT__TRANSACTION_PHASE__PHASE_NONE, "plan", error))
                return FALSE;
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_PLANNING, MOULT_ERROR_UNSPECIFIED, NULL);
        if (!look(t, c, &why))
                return moult_error_code(why) == MOULT_ERROR_CANCELLED ? transaction_fail(t, why, error)
                                                                      : transaction_refuse(t, why, error);
        if (!t->dry_run) {
                if (!transaction_run_hooks(t, MOULT__HOOK_STAGE__HOOK_CHECK, &why))
                        return transaction_refuse(t, why, error);
                /* Where staging will be is on record before anything is made there. */
                if (!areas_are_free(t, &why) || !transaction_record_plan(t, &why) || !open_areas(t, &why) ||
                    !transaction_open_incoming(t, &why) ||
                    !journal_append(t->g->journal, JOURNAL_PLANNED, NULL, &why)) {
                        if (moult_error_code(why) == MOULT_ERROR_NO_SPACE) {
                                GError *told =
                                        g_error_new(why->domain, why->code,
                                                    "nothing was touched: recording the plan in %s: %s: "
                                                    "make room there and try again",
                                                    t->u->state_dir, why->message);
                                g_error_free(why);
                                why = told;
                        }
                        return moult_error_code(why) == MOULT_ERROR_REFUSED
                                       ? transaction_refuse(t, why, error)
                                       : transaction_fail(t, why, error);
                }
        }
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_PLANNED, MOULT_ERROR_UNSPECIFIED, NULL);
        return TRUE;
}
