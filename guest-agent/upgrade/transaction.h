/* guest-agent/upgrade/transaction.h - one upgrade as a transaction over several file systems.
 *
 * docs/upgrade-transaction.md has the state machine, the journal and the proof sketch. In short: nothing live
 * is touched before one fsync'ed journal record; before it a crash rolls back, after it a crash rolls
 * forward, idempotently, because each exchange can be recognised by inode number as done or not done.
 *
 * Everything here blocks and runs in a worker thread (the daemon) or in main (`moult-agent apply`). Progress
 * is reported through the observer; cancellation through GCancellable until the commit record is written. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/merge.h"
#include "shm/pack_reader.h"
#include "proto/channel.pb-c.h"

#define UPGRADE_KEEP_GENERATIONS 2 /* unless configured */

/* The program that runs this engine: the one thing of a release that is tried before it is switched
 * (docs/upgrade-transaction.md, "A release that brings a new agent"). */
struct upgrade_own_program {
        dev_t dev; /* of the object that runs; inode 0: no program is special */
        ino_t inode;
        /* Runs the program behind @fd as the daemon would be. FALSE: it is not fit to be the agent. Called in
         * the transaction's thread; blocks. NULL: nothing is tried. */
        gboolean (*try_it)(int fd, gpointer user, GError **error);
        gpointer user;
};

struct upgrade_config {        /* filled once from the configuration; const from then on */
        const char *root;      /* "/" in a guest */
        const char *state_dir; /* "/var/lib/moult": journal, generations, kept packs' lists */
        unsigned workers;      /* staging threads; 0: number of CPUs, at least 2, at most 8 */
        Moult__SyncMode sync_mode;
        unsigned keep_generations; /* ways back that are kept; 0: UPGRADE_KEEP_GENERATIONS */
        gboolean idle_io;          /* ioprio idle for staging threads */
        const char *init_command;  /* NULL: found by looking (systemctl, else service) */
        gboolean before_services;  /* the machine starts: no unit runs yet, so recovery restarts none */
        gboolean hooks_inside;     /* the root is a machine that does not run: hooks.h, "inside" */
        gboolean count_boots;      /* and somebody will say upgrade_boot_is_good() when it is up */
        /* Instant mode: where servers of merges find the pack; its pack_record_dir is not used. */
        struct merge_source source;
        struct upgrade_own_program own;
};

typedef struct Upgrade Upgrade; /* the engine: owns state_dir (lock file), knows the history */
typedef struct Transaction Transaction;

struct transaction_request {
        guint8 push_id[16];
        gboolean allow_drift;
        gboolean dry_run;             /* plan only: nothing is written, not even to the state directory */
        const char *const *selection; /* NULL or NULL-terminated list of paths */
        guint64 confirm_timeout_ms;
        Moult__SyncMode sync_mode;
        unsigned workers;
        MergeMethod merge; /* forced for what cannot be written */
        gboolean instant;  /* what is merged is switched first, served from the pack, and staged afterwards */
        /* Instant: where the pack can be had, best first, for an agent that is started again meanwhile. */
        const Moult__SourceKind *sources;
        gsize n_sources;
        gboolean strict_window;
};

/* Called from the transaction's thread and from staging threads (serialised by the engine). @s is valid
 * during the call. Coalesced: at most every 100 ms within a phase. */
typedef void (*transaction_observer)(const Moult__TransactionState *s, gpointer user);

/* Opens the state directory (created 0700), takes its lock (BUSY if another agent has it) and recovers: what
 * was staged without a commit record is kept for resumption, a transaction with one is rolled forward, a
 * begun rollback is finished. What recovery did is in *ret_recovered (text for log and history; NULL if there
 * was nothing to do). NOT_FOUND: a file system that recovery needs is not mounted; try again. */
Upgrade *upgrade_open(const struct upgrade_config *config, char **ret_recovered, GError **error);
/* Why a begun rollback could not be finished (some files are the new ones still), or NULL. Nothing else can
 * begin meanwhile; each attempt, and each start, tries again. */
const char *upgrade_stuck(const Upgrade *u);
/* For history and dry runs: nothing is recovered, removed, created or locked, and another agent may be at
 * work. What is not whole, and would be recovered, is in *ret_unsettled (NULL: nothing). */
Upgrade *upgrade_open_read_only(const struct upgrade_config *config, char **ret_unsettled, GError **error);
/* For an agent that is tried: reads what recovery would have to, the records, lists and plans of all that is
 * not at its end. */
gboolean upgrade_read_through(Upgrade *u, GError **error);
void upgrade_free(Upgrade *u);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Upgrade, upgrade_free)

/* A transaction that recovery rolled forward: phase COMMITTING (the switch is done, transaction_commit() goes
 * on with health) or ACTIVE (waits for confirm). Owned by the caller; NULL if none, or if it was taken
 * already. */
Transaction *upgrade_recovered_transaction(Upgrade *u, transaction_observer observer, gpointer user);
/* Newest first; freed with upgrade_history_free(). */
Moult__History *upgrade_history(Upgrade *u, unsigned max, GError **error);
void upgrade_history_free(Moult__History *h);
/* Removes what an interrupted staging left, which upgrade_open() keeps for resumption. *ret_text (may be NULL
 * afterwards) says what was removed. */
gboolean upgrade_forget_interrupted(Upgrade *u, char **ret_text, GError **error);
/* The services are up. If this start was counted (boots.h) for the newest committed generation, its health
 * hooks decide whether it was a good one; HEALTH: roll it back. May be called beside another engine,
 * read-only. */
gboolean upgrade_boot_is_good(Upgrade *u, GError **error);
/* Of the newest committed generation (0: there is none): how many starts of the machine were begun with it,
 * and whether one was good. May be called beside another engine, read-only. */
gboolean upgrade_boot_count(Upgrade *u, guint64 *ret_generation, guint *ret_begun, gboolean *ret_good,
                            GError **error);
/* State of a finished or running push from the history (idempotent commands after a restart), or NULL. */
Moult__TransactionState *upgrade_find_push(Upgrade *u, const guint8 push_id[static 16]);

/* @pack: a reference is taken. One transaction at a time: BUSY else. */
Transaction *transaction_new(Upgrade *u, PackReader *pack, const struct transaction_request *request,
                             transaction_observer observer, gpointer user, GError **error);
void transaction_free(Transaction *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Transaction, transaction_free)

/* Each step is legal in one phase only (WRONG_STATE else) and leaves the transaction in the phase it names,
 * or in a final phase with @error set. */
gboolean transaction_plan(Transaction *t, GCancellable *c, GError **error);  /* -> PLANNED or REFUSED */
gboolean transaction_stage(Transaction *t, GCancellable *c, GError **error); /* -> STAGED */
/* Pre hooks, switch, post hooks, restarts, health, and in instant mode the copying -> ACTIVE, or ROLLED_BACK.
 * @c ends the copying only: CANCELLED, and the phase stays COMMITTING: transaction_abort() takes it back, the
 * next start of the agent goes on with it. So it is with WRONG_STATE, for which see transaction_give_pack().
 */
gboolean transaction_commit(Transaction *t, GCancellable *c, GError **error);
gboolean transaction_confirm(Transaction *t, GError **error); /* -> COMMITTED */
gboolean transaction_abort(Transaction *t, const GError *why,
                           GError **error); /* before commit: forget; ACTIVE: roll back */

/* The present state; owned by the caller: transaction_state_free(). Thread-safe. */
Moult__TransactionState *transaction_state(Transaction *t);
void transaction_state_free(Moult__TransactionState *s);
/* As requested; of a recovered transaction: what its record says. 0: the requester left it open. */
guint64 transaction_confirm_timeout_ms(const Transaction *t);
/* In phase ACTIVE: how long it may still wait for its confirmation, if that is @timeout_ms in all. The time
 * counts since it became active, also while no agent runs; after a reboot there is the full time once more,
 * but only after the first. */
guint64 transaction_confirm_left_ms(Transaction *t, guint64 timeout_ms);

/* An instant upgrade that recovery found before all of it was copied: its pack, and where it was offered. */
struct transaction_pack {
        guint8 manifest_digest[32];
        guint64 size;
        Moult__SourceKind sources[8];
        gsize n_sources;
        gboolean strict_window;
};
/* FALSE without @error: it needs none. */
gboolean transaction_wants_pack(Transaction *t, struct transaction_pack *ret, GError **error);
/* Without one transaction_commit() fails with WRONG_STATE, unless all is local. @source: a reference is
 * taken. */
gboolean transaction_give_pack(Transaction *t, PackSource *source, GError **error);
/* In phase COMMITTING: how long the copying may be without bytes, if that is @timeout_ms in all. The time
 * counts since an agent of this boot last found that it had got on. */
guint64 transaction_fill_left_ms(Transaction *t, guint64 timeout_ms);
/* It copies now: may be interrupted at any time. Any thread. */
gboolean transaction_is_filling(const Transaction *t);
/* Plan items [first, first+count), after transaction_plan(). The page points into the transaction. */
guint transaction_plan_size(const Transaction *t);
const Moult__PlanItem *transaction_plan_item(const Transaction *t, guint i);

/* Which generation a rollback takes back. */
struct rollback_target {
        guint64 number;        /* 0: the newest committed one */
        const guint8 *of_push; /* NULL, or 16 bytes: only if this push has made it */
        gboolean force;        /* although files changed since */
};
/* Takes it back. It must be the newest committed one, of that push, and its old files kept: REFUSED else;
 * files changed since: DRIFT unless forced. Journalled like a commit. */
gboolean upgrade_rollback(Upgrade *u, const guint8 push_id[static 16], const struct rollback_target *target,
                          transaction_observer observer, gpointer user, GError **error);
