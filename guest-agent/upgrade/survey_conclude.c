/* guest-agent/upgrade/survey_conclude.c - what was decided for one entry goes into the plan: drift policy
 * first, then whether the place can be written, is merged, or blocks. */
#include <string.h>

#include "guest-agent/upgrade/survey.h"

const char *survey_last_component(const char *path)
{
        const char *slash = strrchr(path, '/');
        return slash != NULL ? slash + 1 : path;
}

void survey_set_reason(struct plan_entry *pe, char *reason)
{
        g_free(pe->reason);
        pe->reason = reason;
}

void survey_block(struct plan_entry *pe, char *reason)
{
        pe->action = MOULT__PLAN_ACTION__PLAN_BLOCKED;
        pe->how = HOW_NONE;
        survey_set_reason(pe, reason);
}

PlanHow survey_how_of(const struct decision *d, const struct object_facts *o, gboolean is_delete)
{
        if (is_delete)
                return HOW_REMOVE;
        return d->action == MOULT__PLAN_ACTION__PLAN_CREATE || !o->exists ? HOW_CREATE : HOW_EXCHANGE;
}

/* What becomes of an allowed drift: the change that would have been made. */
static Moult__PlanAction action_despite_drift(const struct object_facts *o, gboolean is_delete)
{
        if (is_delete)
                return MOULT__PLAN_ACTION__PLAN_DELETE;
        return o->exists ? MOULT__PLAN_ACTION__PLAN_REPLACE : MOULT__PLAN_ACTION__PLAN_CREATE;
}

static Change change_of(PlanHow how)
{
        switch (how) {
        case HOW_CREATE:
                return CHANGE_CREATE;
        case HOW_REMOVE:
                return CHANGE_REMOVE;
        case HOW_IN_PLACE:
                return CHANGE_IN_PLACE;
        default:
                return CHANGE_EXCHANGE;
        }
}

/* Where a link on the way leads. */
static void tell_physical(struct plan_entry *pe, const struct plan_directory *dir)
{
        const char *name = survey_last_component(pe->path);
        g_autofree char *there = pe->how == HOW_IN_PLACE ? g_strdup(dir->path)
                                 : *dir->path != '\0'    ? g_strdup_printf("%s/%s", dir->path, name)
                                                         : g_strdup(name);
        if (!g_str_equal(there, pe->path))
                survey_set_reason(pe,
                                  g_strdup_printf("%s%sit is /%s here", pe->reason != NULL ? pe->reason : "",
                                                  pe->reason != NULL ? "; " : "", there));
}

/* Where the entry's object is, relative to the root: through links, and below what comes or goes as a whole.
 */
static char *physical_path(const Plan *p, const struct plan_entry *pe, PlanHow how)
{
        if (pe->directory < 0) {
                const struct plan_entry *carrier = &p->entries[pe->carrier];
                return g_strconcat(carrier->physical, pe->path + strlen(carrier->path), NULL);
        }
        const char *dir = plan_directory(p, pe->directory)->path;
        if (how == HOW_IN_PLACE)
                return g_strdup(dir);
        const char *name = survey_last_component(pe->path);
        return *dir != '\0' ? g_strdup_printf("%s/%s", dir, name) : g_strdup(name);
}

static gboolean becomes_file(const Moult__Entry *e)
{
        return e->type == MOULT__ENTRY_TYPE__ENTRY_FILE || e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK;
}

/* Takes over @physical. */
static void set_merged(struct plan_entry *pe, const Moult__Entry *e, PlanReach reach, char *physical)
{
        pe->how = HOW_MERGE;
        pe->reach = reach;
        g_free(pe->physical);
        pe->physical = physical;
        pe->object = e->type == MOULT__ENTRY_TYPE__ENTRY_FILE;
}

/* The live content is neither the old nor the new one, but the store should have one of them: what is seen is
 * a damaged object, and nobody's change. */
static gboolean is_damaged_object(const struct survey *s, const Moult__Entry *e, const char *physical)
{
        struct target_item item;
        if (s->request->before == NULL || !target_lookup(s->request->before, physical, &item) ||
            item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE || item.entry->digest.len != DIGEST_SIZE)
                return FALSE;
        if (e->digest.len == DIGEST_SIZE && memcmp(e->digest.data, item.entry->digest.data, DIGEST_SIZE) == 0)
                return TRUE;
        for (size_t i = 0; i < e->n_old_digests; i++)
                if (memcmp(e->old_digests[i].data, item.entry->digest.data, DIGEST_SIZE) == 0)
                        return TRUE;
        return FALSE;
}

static gboolean is_merged_now(const struct survey *s, const char *physical, struct target_item *ret)
{
        return s->request->before != NULL && target_lookup(s->request->before, physical, ret);
}

static gboolean is_merged_file(const struct survey *s, const char *physical)
{
        struct target_item item;
        return is_merged_now(s, physical, &item) && item.reach == MOULT__TARGET__REACH__REACH_FILE;
}

/* Puts a decision into the plan: drift policy, then whether the place can be written. Takes over d.reason. */
void survey_conclude(struct survey *s, guint32 index, const struct object_facts *o, struct decision d,
                     PlanHow how)
{
        struct plan_entry *pe = &s->plan->entries[index];
        const Moult__Entry *e = s->plan->manifest->entries[index];
        gboolean is_delete = e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;

        if (pe->directory >= 0) {
                g_autofree char *physical = physical_path(s->plan, pe, how);
                struct target_item item;
                pe->served = is_merged_now(s, physical, &item);
                if (d.action == MOULT__PLAN_ACTION__PLAN_DRIFT && is_damaged_object(s, e, physical)) {
                        g_free(d.reason);
                        d = (struct decision){action_despite_drift(o, is_delete),
                                              g_strdup("its object in the store is damaged")};
                }
        }
        if (d.action == MOULT__PLAN_ACTION__PLAN_DRIFT && s->request->allow_drift) {
                char *text = g_strdup_printf("drift allowed: %s", d.reason);
                g_free(d.reason);
                d = (struct decision){action_despite_drift(o, is_delete), text};
        }
        pe->action = d.action;
        survey_set_reason(pe, d.reason);
        pe->old_inode = o->inode;
        pe->old_dev = o->dev;
        pe->old_size = o->size;
        pe->old_links = S_ISDIR(o->mode) ? 1 : o->links;
        pe->old_ctime = o->ctime;
        pe->old_birth_ns = o->birth_ns;
        if (d.action == MOULT__PLAN_ACTION__PLAN_EQUAL || d.action == MOULT__PLAN_ACTION__PLAN_KEPT) {
                pe->how = HOW_NONE;
                return;
        }
        pe->how = how;
        if (pe->directory < 0) { /* within a carrier, which was judged */
                const struct plan_entry *carrier = &s->plan->entries[pe->carrier];
                if (carrier->how == HOW_MERGE) {
                        set_merged(pe, e, carrier->reach, physical_path(s->plan, pe, how));
                        return;
                }
                const char *stays = classify_stays(o);
                if (stays != NULL)
                        survey_block(pe, g_strdup(stays));
                return;
        }
        const struct plan_directory *dir = plan_directory(s->plan, pe->directory);
        gboolean mounted =
                o->exists && how != HOW_IN_PLACE && o->mount_id != plan_area(s->plan, dir->area)->mount_id;
        struct place_facts place = plan_places_facts(s->places, pe->directory);
        struct parent parent = {0};
        g_autofree char *physical = physical_path(s->plan, pe, how);
        g_autofree char *refusal = NULL;
        PlanReach reach = classify_reach(change_of(how), o, mounted, mounted && is_merged_file(s, physical),
                                         becomes_file(e), &place, e->delivery, &refusal);
        /* Looked up before: no error, no system call. */
        if (reach != REACH_NONE && plan_places_parent(s->places, pe->path, &parent, NULL) &&
            parent.refusal != NULL) {
                reach = REACH_NONE;
                g_free(refusal);
                refusal = g_strdup(parent.refusal);
        }
        if (reach == REACH_NONE) {
                survey_block(pe, g_steal_pointer(&refusal));
                return;
        }
        if (reach != REACH_WRITE) {
                set_merged(pe, e, reach, g_steal_pointer(&physical));
                if (d.action != MOULT__PLAN_ACTION__PLAN_DRIFT)
                        survey_set_reason(pe, pe->reason != NULL
                                                      ? g_strdup_printf("%s; merged: %s", pe->reason, refusal)
                                                      : g_strdup_printf("merged: %s", refusal));
                return;
        }
        if (place.kind == FS_MEMORY && pe->reason == NULL)
                pe->reason =
                        g_strdup_printf("on %s at %s: gone after a reboot", place.fs_type, place.mount_point);
        tell_physical(pe, dir);
}
