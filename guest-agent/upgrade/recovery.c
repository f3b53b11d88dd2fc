/* guest-agent/upgrade/recovery.c - after a crash: every generation is brought to a state that is whole.
 *
 * docs/upgrade-transaction.md has the table: what the last good record says decides, and everything done here
 * may be interrupted and done again. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "common/remove_tree.h"
#include "guest-agent/upgrade/boots.h"
#include "guest-agent/upgrade/engine.h"
#include "guest-agent/upgrade/merged.h"
#include "guest-agent/upgrade/moment.h"
#include "guest-agent/upgrade/staging_area.h"
#include "proto/limits.h"
#include "proto/message.h"

struct commit_context engine_commit_context(const Upgrade *u, const Generation *g, const Manifest *m,
                                            const Moult__Record__Plan *plan)
{
        return (struct commit_context){
                .root_fd = u->root_fd,
                .generation = g->number,
                .plan = plan,
                .manifest = m,
                .gentle = g->offer != NULL && g->offer->sync_mode == MOULT__SYNC_MODE__SYNC_GENTLE,
        };
}

static char *release_of(const Generation *g)
{
        return g->offer != NULL ? message_string(g->offer->release) : g_strdup("unknown release");
}

/* Staging areas of a generation that is over; its plan goes last, since it says where they are. With @m, what
 * is the guest's own in them is kept, and named in @notes. */
static gboolean clean(Upgrade *u, Generation *g, const Manifest *m, const Moult__Record__Plan *plan,
                      GString *notes, GError **error)
{
        struct commit_context c = engine_commit_context(u, g, m, plan);
        return commit_clean(&c, m != NULL ? notes : NULL, error) &&
               merged_remove_incoming(u, g->number, error) && generation_remove_plan(g, error);
}

/* The tree is whole already: what cannot be removed is no failure of the upgrade or its way back. */
static void clean_or_note(Upgrade *u, Generation *g, const Manifest *m, const Moult__Record__Plan *plan,
                          GString *notes)
{
        g_autoptr(GError) why = NULL;
        if (!clean(u, g, m, plan, notes, &why))
                g_string_append_printf(notes,
                                       "what was kept for generation %" G_GUINT64_FORMAT
                                       " could not be removed (tried again at the next start): %s\n",
                                       g->number, why->message);
}

gboolean recovery_discard(Upgrade *u, Generation *g, JournalStep step, const char *text, GError **error)
{
        Moult__Record__Plan *plan = generation_load_plan(g, NULL); /* torn: nothing was staged yet */
        gboolean ok = plan == NULL || clean(u, g, NULL, plan, NULL, error);
        if (plan != NULL)
                moult__record__plan__free_unpacked(plan, NULL);
        return ok && generation_remove_plan(g, error) && journal_append(g->journal, step, text, error);
}

gboolean recovery_go_back(Upgrade *u, Generation *g, const Manifest *m, const Moult__Record__Plan *plan,
                          gboolean force, const char *why, GString *notes, GError **error)
{
        struct commit_context c = engine_commit_context(u, g, m, plan);
        static const guint8 no_push[16];
        c.force = force;
        /* What is wanted without this generation follows from its record "back". */
        if (!commit_back(&c, notes, error) || !merged_apply(u, notes, error)) {
                g_prefix_error(error,
                               "going back is not complete, and is taken up again at the next start: ");
                return FALSE;
        }
        struct hook_context h = {
                .manifest = m,
                .root = u->root,
                .generation = g->number,
                .push_id = g->offer != NULL && g->offer->push_id.len == 16 ? g->offer->push_id.data : no_push,
                .init_command = u->init_command};
        /* Services that run the new code must let go of it; one that does not come up is told, not fatal. */
        if (!u->before_services)
                units_restart_all(&h, notes);
        if (!journal_append(g->journal, JOURNAL_ROLLED_BACK, why, error))
                return FALSE;
        clean_or_note(u, g, m, plan, notes);
        return TRUE;
}

/* Reads list and plan of a generation that has decided. */
static gboolean load(Generation *g, Manifest **ret_m, Moult__Record__Plan **ret_plan, GError **error)
{
        g_autoptr(Manifest) m = generation_load_manifest(g, error);
        if (m == NULL)
                return FALSE;
        *ret_plan = generation_load_plan(g, error);
        if (*ret_plan == NULL) {
                if (error != NULL && *error == NULL)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                                    "generation %" G_GUINT64_FORMAT " has decided to commit but has no plan",
                                    g->number);
                return FALSE;
        }
        *ret_m = g_steal_pointer(&m);
        return TRUE;
}

/* A generation between its decision and its confirmation: list and plan are read here, where an error stops
 * the engine. Without them nobody could take it back, and it must not be forgotten for that. */
static gboolean take_up(Upgrade *u, Generation **g, GError **error)
{
        if (u->recovered != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "generation %" G_GUINT64_FORMAT
                            " waits to be confirmed too: there should be one at most",
                            u->recovered->number);
                return FALSE;
        }
        if (!load(*g, &u->recovered_manifest, &u->recovered_plan, error)) {
                g_prefix_error(error,
                               "the upgrade is not confirmed, and cannot be taken back without its record "
                               "(%s/generations/%" G_GUINT64_FORMAT "): ",
                               u->state_dir, (*g)->number);
                return FALSE;
        }
        u->recovered = g_steal_pointer(g);
        return TRUE;
}

static void put_down(Upgrade *u, Generation **g)
{
        *g = g_steal_pointer(&u->recovered);
        g_clear_pointer(&u->recovered_manifest, manifest_free);
        moult__record__plan__free_unpacked(g_steal_pointer(&u->recovered_plan), NULL);
}

static gboolean roll_forward(Upgrade *u, const Generation *g, GString *text, GError **error)
{
        g_autoptr(GString) notes = g_string_new(NULL);
        g_autofree char *release = release_of(g);
        struct commit_context c = engine_commit_context(u, g, u->recovered_manifest, u->recovered_plan);
        c.recovering = TRUE;
        c.leave_agent = TRUE; /* who goes on with health tries it, or switches it */
        gboolean ok = commit_forward(&c, notes, error) &&
                      journal_append(g->journal, JOURNAL_SWITCHED, "recovered", error);
        if (ok)
                g_string_append_printf(text,
                                       "generation %" G_GUINT64_FORMAT
                                       " (%s): rolled forward, the tree is all new\n%s",
                                       g->number, release, notes->str);
        return ok;
}

static gboolean finish_back(Upgrade *u, Generation *g, GString *text, GError **error)
{
        g_autoptr(Manifest) m = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        g_autofree char *release = release_of(g);
        Moult__Record__Plan *plan = NULL;
        if (!load(g, &m, &plan, error))
                return FALSE;
        guint8 id[16];
        gboolean force = FALSE;
        const char *text_back = journal_find(g->journal, JOURNAL_BACK)->text;
        gboolean by_command = rollback_record_parse(text_back, id, &force);
        g_autofree char *why = g_strdup(by_command ? ROLLBACK_BY_COMMAND : text_back);
        gboolean ok = recovery_go_back(u, g, m, plan, force, why, notes, error);
        moult__record__plan__free_unpacked(plan, NULL);
        if (ok)
                g_string_append_printf(
                        text, "generation %" G_GUINT64_FORMAT " (%s): rolled back, the tree is all old\n%s",
                        g->number, release, notes->str);
        return ok;
}

/* An instant upgrade whose pack served what was not copied yet, until the machine was restarted. */
static gboolean is_cut_off(const Upgrade *u)
{
        const Generation *g = u->recovered;
        const struct journal_record *r = journal_find(g->journal, JOURNAL_COMMIT);
        struct moment then, now;
        if (g->offer == NULL || !g->offer->instant || u->recovered_plan->merged == 0 ||
            journal_last(g->journal) >= JOURNAL_FILLED)
                return FALSE;
        moment_now(&now);
        return r == NULL || !moment_parse(r->text, &then) || !moment_is_same_boot(&then, &now);
}

#define AGENT_IN_VAIN                                                                                        \
        "the agent that it has brought was started 3 times, and did not live to see it confirmed"
#define CUT_OFF "the machine was restarted before what was visible already was copied: push it again"

static gboolean take_back(Upgrade *u, Generation **g, const char *reason, GString *text, GError **error)
{
        if (*g == NULL)
                put_down(u, g);
        g_autoptr(GError) why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_HEALTH, reason);
        g_autofree char *record = history_error_text(why);
        return journal_append((*g)->journal, JOURNAL_BACK, record, error) && finish_back(u, *g, text, error);
}

static void clean_leftovers(Upgrade *u, Generation *g, GString *text)
{
        /* Before its commit record a generation holds nothing but what we staged, whole or not. */
        g_autoptr(Manifest) m =
                journal_find(g->journal, JOURNAL_COMMIT) != NULL ? generation_load_manifest(g, NULL) : NULL;
        Moult__Record__Plan *plan = generation_load_plan(g, NULL);
        if (plan == NULL)
                return;
        clean_or_note(u, g, m, plan, text);
        moult__record__plan__free_unpacked(plan, NULL);
}

static gboolean recover_one(Upgrade *u, Generation **g, GString *text, GError **error)
{
        g_autofree char *release = release_of(*g);
        if (agent_start_is_one_too_many(u, *g))
                return take_back(u, g, AGENT_IN_VAIN, text, error);
        fault_point("recover");
        switch (journal_last((*g)->journal)) {
        case JOURNAL_NONE:
                return journal_append((*g)->journal, JOURNAL_FAILED, "cancelled: interrupted before it began",
                                      error);
        case JOURNAL_BEGUN:
        case JOURNAL_PLANNED:
        case JOURNAL_STAGED:
                g_string_append_printf(
                        text,
                        "generation %" G_GUINT64_FORMAT " (%s): interrupted before its commit, the tree is "
                        "all old; what was staged is kept in case the same release is offered again\n",
                        (*g)->number, release);
                return TRUE;
        case JOURNAL_COMMIT:
                if (!take_up(u, g, error))
                        return FALSE;
                if (is_cut_off(u))
                        return take_back(u, g, CUT_OFF, text, error);
                if (roll_forward(u, u->recovered, text, error))
                        return TRUE;
                put_down(u, g);
                return FALSE;
        case JOURNAL_SWITCHED:
        case JOURNAL_HEALTH:
        case JOURNAL_FILLING:
        case JOURNAL_FILLED:
        case JOURNAL_ACTIVE:
                if (!take_up(u, g, error))
                        return FALSE;
                if (is_cut_off(u))
                        return take_back(u, g, CUT_OFF, text, error);
                g_string_append_printf(
                        text, "generation %" G_GUINT64_FORMAT " (%s): the tree is all new, not confirmed\n",
                        u->recovered->number, release);
                return TRUE;
        case JOURNAL_BACK:
                return finish_back(u, *g, text, error);
        case JOURNAL_ROLLED_BACK:
        case JOURNAL_REFUSED:
        case JOURNAL_FAILED:
                clean_leftovers(u, *g, text);
                return TRUE;
        case JOURNAL_COMMITTED:
                break;
        }
        return TRUE;
}

/* A file system that is not mounted yet: whoever started us tries again. Anything else needs somebody who
 * looks, and for that the agent must be up. */
static gboolean may_wait(Upgrade *u, const Generation *g, GString *text, GError **why)
{
        if (journal_last(g->journal) != JOURNAL_BACK ||
            g_error_matches(*why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return FALSE;
        g_string_append_printf(text, "generation %" G_GUINT64_FORMAT " is only partly rolled back: %s\n",
                               g->number, (*why)->message);
        g_clear_error(&u->stuck);
        u->stuck = g_steal_pointer(why);
        return TRUE;
}

gboolean recovery_fall_back(Upgrade *u, const GError *why, GString *text, GError **error)
{
        struct wanted w;
        g_autoptr(GString) notes = g_string_new(NULL);
        g_autoptr(Manifest) m = NULL;
        Moult__Record__Plan *plan = NULL;
        if (!merged_wanted(u, &w, error))
                return FALSE;
        guint64 number = w.generation;
        wanted_clear(&w);
        g_autoptr(Generation) g = NULL;
        if (u->recovered != NULL && u->recovered->number == number)
                put_down(u, &g);
        else if (number != 0)
                g = generation_open(u->state_fd, number, error);
        if (g == NULL && number != 0)
                return FALSE;
        if (g == NULL || faccessat(g->dirfd, "plan", F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
                g_string_append_printf(text, "%s; there is no older release to fall back to\n", why->message);
                return TRUE;
        }
        if (!load(g, &m, &plan, error))
                return FALSE;
        g_autofree char *release = release_of(g), *record = history_error_text(why);
        gboolean ok = journal_append(g->journal, JOURNAL_BACK, record, error) &&
                      recovery_go_back(u, g, m, plan, /* force= */ FALSE, record, notes, error);
        moult__record__plan__free_unpacked(plan, NULL);
        if (ok)
                g_string_append_printf(text,
                                       "generation %" G_GUINT64_FORMAT
                                       " (%s): rolled back at the start of the machine: %s\n%s",
                                       g->number, release, why->message, notes->str);
        return ok;
}

/* The committed files are there but cannot be merged. When the machine starts, the release before is better
 * than half of one; in a running one nothing is taken away from under the services: what is merged stays, and
 * the next start tries again. */
static gboolean merge_or_fall_back(Upgrade *u, GString *text, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        if (u->stuck != NULL || merged_apply(u, notes, &why)) {
                g_string_append(text, notes->str);
                return TRUE;
        }
        event_log(EVENT_WARNING, "agent-merge-failed", why->message, NULL);
        if (!u->before_services) {
                g_string_append_printf(text, "the target file system is not merged as it should be: %s\n",
                                       why->message);
                return TRUE;
        }
        return recovery_fall_back(u, why, text, error);
}

gboolean recovery_run(Upgrade *u, GString *text, GError **error)
{
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        g_autoptr(GError) pruning = NULL;
        if (numbers == NULL)
                return FALSE;
        g_clear_error(&u->stuck);
        for (guint i = 0; i < numbers->len; i++) {
                guint64 n = g_array_index(numbers, guint64, i);
                g_autoptr(GError) why = NULL;
                g_autoptr(Generation) g = generation_open(u->state_fd, n, error);
                if (g == NULL)
                        return FALSE;
                if (recover_one(u, &g, text, &why) || may_wait(u, g, text, &why))
                        continue;
                g_propagate_prefixed_error(error, g_steal_pointer(&why),
                                           "recovering generation %" G_GUINT64_FORMAT ": ", n);
                return FALSE;
        }
        if (u->count_boots && u->stuck == NULL && !boots_begin(u, text, error))
                return FALSE;
        if (!merge_or_fall_back(u, text, error))
                return FALSE;
        if (!recovery_prune(u, text, &pruning))
                g_string_append_printf(text, "old ways back: %s (tried again at the next start)\n",
                                       pruning->message);
        return TRUE;
}

static gboolean preview_one(Upgrade *u, Generation **g, gpointer user)
{
        g_autofree char *release = release_of(*g);
        JournalStep last = journal_last((*g)->journal);
        if (last >= JOURNAL_COMMIT && !journal_step_is_final(last))
                g_string_append_printf(user,
                                       "generation %" G_GUINT64_FORMAT
                                       " (%s) is not brought to an end, the last record is \"%s\": the agent "
                                       "goes on with it, or \"moult-agent recover\"\n",
                                       (*g)->number, release, journal_step_name(last));
        return FALSE;
}

gboolean recovery_preview(Upgrade *u, GString *text, GError **error)
{
        return history_each(u, preview_one, text, error);
}

static gboolean read_one(Upgrade *u, guint64 number, GError **error)
{
        g_autoptr(Generation) g = generation_open(u->state_fd, number, error);
        g_autoptr(Manifest) m = NULL;
        Moult__Record__Plan *plan = NULL;
        if (g == NULL)
                return FALSE;
        JournalStep last = journal_last(g->journal);
        if (last < JOURNAL_COMMIT || journal_step_is_final(last))
                return TRUE;
        if (!load(g, &m, &plan, error))
                return FALSE;
        moult__record__plan__free_unpacked(plan, NULL);
        return TRUE;
}

gboolean upgrade_read_through(Upgrade *u, GError **error)
{
        g_autoptr(GArray) numbers =
                u->state_fd >= 0 ? generation_list(u->state_fd, error) : g_array_new(FALSE, FALSE, 8);
        if (numbers == NULL)
                return FALSE;
        for (guint i = 0; i < numbers->len; i++)
                if (!read_one(u, g_array_index(numbers, guint64, i), error))
                        return FALSE;
        return TRUE;
}

static void forget_way_back(Upgrade *u, Generation *g, GString *notes)
{
        g_autoptr(Manifest) m = generation_load_manifest(g, NULL);
        Moult__Record__Plan *plan = generation_load_plan(g, NULL);
        if (plan == NULL)
                return;
        fault_point("prune");
        clean_or_note(u, g, m, plan, notes);
        moult__record__plan__free_unpacked(plan, NULL);
}

/* Its plan says where something of it may still lie. */
static gboolean has_plan(const Generation *g)
{
        return faccessat(g->dirfd, "plan", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

gboolean recovery_prune(Upgrade *u, GString *notes, GError **error)
{
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        guint committed = 0;
        if (numbers == NULL)
                return FALSE;
        for (guint i = numbers->len; i > 0; i--) {
                guint64 n = g_array_index(numbers, guint64, i - 1);
                g_autoptr(Generation) g = generation_open(u->state_fd, n, error);
                if (g == NULL)
                        return FALSE;
                JournalStep last = journal_last(g->journal);
                if (last == JOURNAL_COMMITTED &&
                    (!history_is_way_back(g) || committed++ >= u->keep_generations))
                        forget_way_back(u, g, notes);
                if (numbers->len - i < LIMIT_HISTORY || !journal_step_is_final(last) || has_plan(g))
                        continue;
                g_autofree char *path = g_strdup_printf("generations/%" G_GUINT64_FORMAT, n);
                if (!remove_tree(u->state_fd, path, error))
                        return FALSE;
        }
        merged_collect(u, notes);
        return TRUE;
}
