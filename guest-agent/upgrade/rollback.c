/* guest-agent/upgrade/rollback.c - taking a committed generation back, as a transaction of its own. */
#include <string.h>

#include "common/error.h"
#include "guest-agent/upgrade/engine.h"
#include "proto/message.h"

/* "rolled back by command (HEX)", "rolled back by command (HEX, forced)" */
#define BEFORE_ID ROLLBACK_BY_COMMAND " ("
#define FORCED    ", forced"

char *rollback_record_text(const guint8 push_id[static 16], gboolean force)
{
        GString *s = g_string_new(BEFORE_ID);
        for (int i = 0; i < 16; i++)
                g_string_append_printf(s, "%02x", push_id[i]);
        g_string_append(s, force ? FORCED ")" : ")");
        return g_string_free(s, FALSE);
}

gboolean rollback_record_parse(const char *text, guint8 ret_push_id[static 16], gboolean *ret_force)
{
        guint8 id[16];
        if (!g_str_has_prefix(text, BEFORE_ID))
                return FALSE;
        text += strlen(BEFORE_ID);
        for (int i = 0; i < 16; i++, text += 2) {
                int high = g_ascii_xdigit_value(text[0]),
                    low = high >= 0 ? g_ascii_xdigit_value(text[1]) : -1;
                if (low < 0)
                        return FALSE;
                id[i] = (guint8)(high << 4 | low);
        }
        if (!g_str_equal(text, ")") && !g_str_equal(text, FORCED ")"))
                return FALSE;
        *ret_force = *text == ',';
        memcpy(ret_push_id, id, sizeof id);
        return TRUE;
}

gboolean rollback_is_by_push(const Generation *g, const guint8 push_id[static 16])
{
        const struct journal_record *r = journal_find(g->journal, JOURNAL_BACK);
        guint8 id[16];
        gboolean force;
        return r != NULL && rollback_record_parse(r->text, id, &force) && memcmp(id, push_id, 16) == 0;
}

static Generation *find_generation(Upgrade *u, const struct rollback_target *target, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(Generation) g = history_newest_committed(u, &why);
        if (why != NULL) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        if (g == NULL) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                    "there is no committed generation that could be rolled back");
                return NULL;
        }
        if (target->number != 0 && target->number != g->number) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "generation %" G_GUINT64_FORMAT
                            " is not the newest committed one: roll %" G_GUINT64_FORMAT " back first",
                            target->number, g->number);
                return NULL;
        }
        if (target->of_push != NULL && !generation_is_push(g, target->of_push)) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "generation %" G_GUINT64_FORMAT
                        " was made by another push than the one that is to be taken back: was this machine "
                        "reverted to an older state since? Nothing was touched",
                        g->number);
                return NULL;
        }
        return g_steal_pointer(&g);
}

static gboolean check(const struct commit_context *c, gboolean force, GError **error)
{
        if (!commit_can_go_back(c)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the old files of generation %" G_GUINT64_FORMAT
                            " are not kept any more (or their file system "
                            "is not mounted): push the older release instead",
                            c->generation);
                return FALSE;
        }
        g_autofree char *changed = NULL;
        if (!commit_changed_since(c, &changed, error))
                return FALSE;
        if (changed == NULL || force)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_DRIFT,
                    "changed since the upgrade: %s; nothing was touched. Force the rollback to lose these "
                    "changes",
                    changed);
        return FALSE;
}

struct rolling {
        Upgrade *u;
        Generation *g;
        Manifest *m;
        Moult__Record__Plan *plan;
        Progress *progress;
};

static gboolean prepare(struct rolling *r, const struct rollback_target *target, GError **error)
{
        r->g = find_generation(r->u, target, error);
        if (r->g == NULL)
                return FALSE;
        r->m = generation_load_manifest(r->g, error);
        if (r->m == NULL)
                return FALSE;
        static const guint8 no_digest[DIGEST_SIZE];
        const Moult__Record__Offer *o = r->g->offer;
        progress_release(r->progress, r->m,
                         o != NULL && o->manifest_digest.len == DIGEST_SIZE ? o->manifest_digest.data
                                                                            : no_digest,
                         r->g->number);
        r->plan = generation_load_plan(r->g, error);
        if (r->plan == NULL) {
                if (error == NULL || *error == NULL)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "the old files of generation %" G_GUINT64_FORMAT
                                    " are not kept any more: push the older "
                                    "release instead",
                                    r->g->number);
                return FALSE;
        }
        struct commit_context c = engine_commit_context(r->u, r->g, r->m, r->plan);
        return check(&c, target->force, error);
}

/* The decision. Without it nothing has begun, and the generation is committed as before. */
static gboolean decide(struct rolling *r, const guint8 *push_id, gboolean force, GError **error)
{
        g_autofree char *text = rollback_record_text(push_id, force);
        if (journal_append(r->g->journal, JOURNAL_BACK, text, error))
                return TRUE;
        if (journal_in_doubt(r->g->journal) || journal_last(r->g->journal) == JOURNAL_BACK) {
                g_atomic_int_set(&r->u->unsettled, 1);
                g_prefix_error(error,
                               "the decision to roll back may be recorded or not; the next start of the "
                               "agent settles it, until then nothing is moved: ");
        } else {
                g_prefix_error(error, "the decision to roll back could not be recorded, nothing was moved: ");
        }
        return FALSE;
}

static gboolean roll(struct rolling *r, const guint8 *push_id, gboolean force, GString *notes, GError **error)
{
        if (!decide(r, push_id, force, error))
                return FALSE;
        if (recovery_go_back(r->u, r->g, r->m, r->plan, force, ROLLBACK_BY_COMMAND, notes, error))
                return TRUE;
        g_atomic_int_set(&r->u->unsettled, 1);
        return FALSE;
}

gboolean upgrade_rollback(Upgrade *u, const guint8 push_id[static 16], const struct rollback_target *target,
                          transaction_observer observer, gpointer user, GError **error)
{
        g_assert(!u->read_only);
        if (!engine_claim(u, error))
                return FALSE;
        g_autoptr(GError) why = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        struct rolling r = {.u = u, .progress = progress_new(push_id, observer, user)};
        gboolean ok = prepare(&r, target, &why);
        if (!ok) {
                progress_phase(r.progress, MOULT__TRANSACTION_PHASE__PHASE_REFUSED, moult_error_code(why),
                               why->message);
        } else {
                progress_phase(r.progress, MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK,
                               MOULT_ERROR_UNSPECIFIED, NULL);
                ok = roll(&r, push_id, target->force, notes, &why);
                progress_phase(r.progress,
                               ok ? MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK
                                  : MOULT__TRANSACTION_PHASE__PHASE_FAILED,
                               ok ? MOULT_ERROR_UNSPECIFIED : moult_error_code(why),
                               ok ? g_strchomp(notes->str) : why->message);
        }
        if (why != NULL)
                g_propagate_error(error, g_steal_pointer(&why));
        if (r.plan != NULL)
                moult__record__plan__free_unpacked(r.plan, NULL);
        manifest_free(r.m);
        generation_free(r.g);
        progress_free(r.progress);
        engine_release(u);
        return ok;
}
