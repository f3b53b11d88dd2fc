/* guest-agent/upgrade/transaction_parts.h - what the files of the transaction share; transaction.h is what
 * others see. */
#pragma once

#include "common/error.h"
#include "guest-agent/upgrade/engine.h"
#include "guest-agent/upgrade/stage.h"

struct Transaction {
        Upgrade *u;
        PackReader *pack;       /* NULL: recovered */
        Manifest *own_manifest; /* recovered: from the generation's record */
        const Manifest *manifest;
        Generation *g; /* NULL: dry run */
        Plan *plan;
        Moult__Record__Plan *record;
        /* What is merged now, and what will be (each NULL: nothing), with the method of each of its merges.
         */
        Target *before, *target;
        GArray *methods; /* MergeMethod */
        MergeMethod merge_forced;
        gboolean instant;   /* merged first, copied after the switch */
        Prepared *prepared; /* the new mounts, not to be seen yet */
        int incoming_fd;    /* where files are staged that become objects; -1 */
        int *area_fds;
        guint n_areas;
        Moult__PlanItem **items;
        guint n_items;
        guint8 push_id[16];
        gboolean allow_drift, dry_run, gentle;
        gboolean recovered;
        gint filling;     /* atomic */
        gboolean resumed; /* an interrupted staging of the same pack is gone on with */
        GStrv selection;
        unsigned workers;
        Progress *progress;
};

/* --- transaction.c --- */

gboolean transaction_run_staging(Transaction *t, Plan *p, StageWhat what, GCancellable *c, GError **error);

gboolean transaction_require_phase(Transaction *t, Moult__TransactionPhase want, const char *what,
                                   GError **error);
gboolean transaction_run_hooks(Transaction *t, Moult__HookStage stage, GError **error);
gboolean transaction_run_restarts(Transaction *t, GError **error);
/* The plan's present form, durable. */
gboolean transaction_record_plan(Transaction *t, GError **error);
void transaction_close_areas(Transaction *t);

/* --- transaction_merge.c: the part of the target file system in each step --- */

/* Before the survey: what is merged now. */
gboolean transaction_load_merged(Transaction *t, GError **error);
/* After it: the new target, its merges and methods; what cannot be merged becomes blocked. */
gboolean transaction_plan_merges(Transaction *t, GError **error);
gboolean transaction_open_incoming(Transaction *t, GError **error);
/* Before staging: what the store has already, and unhurt, is not fetched again. */
gboolean transaction_skip_objects(Transaction *t, GCancellable *c, GError **error);
/* After it: staged files become objects, the target is on record, the new mounts are made. */
gboolean transaction_prepare_merges(Transaction *t, GCancellable *c, GError **error);
/* The staged file @name becomes the object of @e; @path: for messages. */
gboolean transaction_take_object(ObjectStore *store, const Moult__Entry *e, int dirfd, const char *name,
                                 const char *path, GError **error);
/* One mount operation for each place. */
gboolean transaction_switch_merges(Transaction *t, GString *notes, GError **error);
void transaction_free_merges(Transaction *t);

/* --- transaction_fill.c --- */

/* Instant mode, after the switch: what is not in the store yet is staged, and the merges are switched to what
 * is local. CANCELLED: interrupted by @c. Nothing to do in the ordinary mode. */
gboolean transaction_fill(Transaction *t, GCancellable *c, GError **error);
/* WRONG_STATE: it would need its pack, which nobody has given. */
gboolean transaction_can_fill(Transaction *t, GError **error);

/* --- transaction_agent.c --- */

/* The plan's record names the entry that replaces the program which runs now. */
void transaction_mark_agent(const Transaction *t, Moult__Record__Plan *record);
/* After health: the new agent is tried, and comes to its place. Nothing to do in other releases. HEALTH: it
 * is not fit. */
gboolean transaction_switch_agent(Transaction *t, GError **error);

/* --- transaction_deadline.c --- */

/* The record "active", with the time from which on it waits. */
gboolean transaction_record_active(Transaction *t, GError **error);

/* --- transaction_ends.c: each takes over @why, passes it on in @error, and returns FALSE --- */

/* Before the commit record: everything staged is removed, nothing live was touched. */
gboolean transaction_give_up(Transaction *t, Moult__TransactionPhase phase, JournalStep step, GError *why,
                             GError **error);
gboolean transaction_fail(Transaction *t, GError *why, GError **error);
gboolean transaction_refuse(Transaction *t, GError *why, GError **error);
/* After the commit record: everything goes back. */
gboolean transaction_go_back(Transaction *t, GError *why, GError **error);
