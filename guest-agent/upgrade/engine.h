/* guest-agent/upgrade/engine.h - what the parts of the engine share; transaction.h is what others see. */
#pragma once

#include "fuse-overlay/merge.h"
#include "guest-agent/upgrade/commit.h"
#include "guest-agent/upgrade/generation.h"
#include "guest-agent/upgrade/hooks.h"
#include "guest-agent/upgrade/plan.h"
#include "guest-agent/upgrade/progress.h"
#include "guest-agent/upgrade/transaction.h"

struct Upgrade {
        char *root, *state_dir, *init_command;
        unsigned workers, keep_generations;
        gboolean idle_io, before_services, count_boots, hooks_inside;
        gboolean read_only;
        struct upgrade_own_program own;
        struct merge_source source;     /* instant mode: where packs are; strings owned, no record_dir */
        char *targetfs;                 /* the program, as found at the start */
        Merger *merger;                 /* engine_merger() */
        int root_fd, state_fd, lock_fd; /* read-only: state_fd is -1 if there is no state directory yet */
        gint busy;                      /* atomic: a transaction or a rollback is under way */
        gint unsettled; /* atomic: one ended in the middle; only recovery at the next start may go on */
        GError *stuck;  /* why a way back that was decided is not complete; only recovery sets it */
        /* To be gone on with, all three or none; taken by upgrade_recovered_transaction(). */
        Generation *recovered;
        Manifest *recovered_manifest;
        Moult__Record__Plan *recovered_plan;
};

/* BUSY if somebody has it. WRONG_STATE if an earlier upgrade is not at its end: a way back that is stuck is
 * tried again here. */
gboolean engine_claim(Upgrade *u, GError **error);
void engine_release(Upgrade *u);

/* The merger, made when it is needed for the first time: most machines never merge anything. Owned by the
 * engine. */
Merger *engine_merger(Upgrade *u, GError **error);

/* --- recovery.c --- */

/* Brings every generation to a state that is whole. Appends what was done to @text. TRUE with u->stuck set: a
 * way back is not complete and does not get better by starting again. NOT_FOUND: a file system is missing. */
gboolean recovery_run(Upgrade *u, GString *text, GError **error);
/* Says in @text what recovery_run() would have to do with. */
gboolean recovery_preview(Upgrade *u, GString *text, GError **error);
/* Removes what a generation without commit record left, and closes its record with @step and @text. */
gboolean recovery_discard(Upgrade *u, Generation *g, JournalStep step, const char *text, GError **error);
/* Removes ways back older than keep_generations, and records beyond LIMIT_HISTORY. @notes gets what was kept
 * or could not be removed. */
gboolean recovery_prune(Upgrade *u, GString *notes, GError **error);
/* The machine starts, and the newest release cannot be had, or does not get it healthy: it is rolled back,
 * with the reason in its record. Where nothing older is kept, @text says so. */
gboolean recovery_fall_back(Upgrade *u, const GError *why, GString *text, GError **error);
/* From the record "back" to "rolled-back": files, units, cleaning. @notes gets what was left alone. */
gboolean recovery_go_back(Upgrade *u, Generation *g, const Manifest *m, const Moult__Record__Plan *plan,
                          gboolean force, const char *why, GString *notes, GError **error);
struct commit_context engine_commit_context(const Upgrade *u, const Generation *g, const Manifest *m,
                                            const Moult__Record__Plan *plan);

/* --- transaction_agent.c --- */

/* The daemon starts with @g between its decision and its confirmation. Each start of the agent that @g has
 * brought is counted, durably. TRUE: it was started AGENT_STARTS_MAX times before, in vain; take it back. */
#define AGENT_STARTS_MAX 3
gboolean agent_start_is_one_too_many(Upgrade *u, Generation *g);

/* --- rollback.c --- */

#define ROLLBACK_BY_COMMAND "rolled back by command"
/* The text of a "back" by command: who asked for it, and how. In the journal, and not in a file of its own:
 * its space is there on a full disk. The caller frees. */
char *rollback_record_text(const guint8 push_id[static 16], gboolean force);
/* FALSE, and nothing set, for any other text. Pure. */
gboolean rollback_record_parse(const char *text, guint8 ret_push_id[static 16], gboolean *ret_force);
/* The generation was taken back by command, under this push id. */
gboolean rollback_is_by_push(const Generation *g, const guint8 push_id[static 16]);

/* --- history.c --- */

/* The text of "committed" for an upgrade that found everything equal: it is no way back of its own. */
#define HISTORY_NOTHING_CHANGED "nothing changed"
gboolean history_is_way_back(const Generation *g);
/* The newest generation that can be gone back from: committed, with a change; NULL without @error if there is
 * none. */
Generation *history_newest_committed(Upgrade *u, GError **error);
/* Calls @each from the newest generation on, until it says TRUE. */
gboolean history_each(Upgrade *u, gboolean (*each)(Upgrade *u, Generation **g, gpointer user), gpointer user,
                      GError **error);
Moult__TransactionPhase history_phase(JournalStep step);
/* "CODE: TEXT" in a journal record <-> error. */
char *history_error_text(const GError *error);
MoultError history_error_parse(const char *record_text, const char **ret_text);

/* --- floor.c --- */
gboolean floor_read(Upgrade *u, guint64 *ret, GError **error);
/* If it is to be raised to @floor: the new file, in the generation's directory @dirfd, so that on a disk that
 * is full by then the confirmation needs no more than a rename. */
gboolean floor_prepare(Upgrade *u, int dirfd, guint64 floor, GError **error);
gboolean floor_raise(Upgrade *u, int dirfd, guint64 floor, GError **error);
