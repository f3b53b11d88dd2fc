/* host-service/store/share_task.h - what the jobs of the shared store have in common; private to them.
 *
 * A job's task begins with struct share_task. It lives on the loop until share_task_finish() or
 * share_task_hand_over(); its steps run in worker threads, through share_task_transfer() or the environment's
 * worker with the task's cancellable. */
#pragma once

#include "host-service/catalogue/json.h"
#include "host-service/jobs/job_task.h"
#include "host-service/store/chunk_index.h"
#include "host-service/store/share.h"
#include "host-service/store/transfer.h"

#define SHARE_PARALLEL 4 /* objects under way at once */

struct Share {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        Releases *releases;
        ObjectStore *objects;
        GPtrArray *tasks; /* of struct share_task */
};

struct share_task {
        Share *owner;
        void (*clear)(struct share_task *t); /* frees what the job added */
        struct job_task job;
        char *what; /* for the log: "pushing app 1" */
        Transfer *transfer;
        gint64 done, total; /* progress; done: atomic */
};

/* A task of @size bytes, zeroed but for its beginning; the Share's. @what is taken. */
gpointer share_task_new(Share *s, const OperationRecord *op, gsize size, void (*clear)(struct share_task *t),
                        char *what);
/* The request of an operation; owned. */
JsonObject *share_request(const OperationRecord *op);
/* FALSE: there is no shared store, and the task has ended. */
gboolean share_task_has_store(struct share_task *t);
void share_task_count(struct share_task *t, gint64 n); /* any thread */
/* As transfer_start(); @step and @done get the task, and @done finds t->transfer cleared. */
void share_task_transfer(struct share_task *t, guint count, guint parallel, transfer_step_func step,
                         transfer_done_func done);
/* The operation ends: @result is taken, NULL: none; @why: it has failed, or was cancelled. @t is gone. */
void share_task_finish(struct share_task *t, JsonObject *result, const GError *why);
/* The operation goes on as somebody else's. @t is gone. */
void share_task_hand_over(struct share_task *t);
/* For struct job_kind. */
void share_cancel(const OperationRecord *op, gpointer share);

/* A release on its way, in either direction. */
struct release_task {
        struct share_task task;
        char *name, *version;
        GArray *refs;              /* of struct chunk_ref */
        GArray *unique;            /* of guint: the first ref of each chunk */
        GArray *same;              /* of guint, for each ref: the next one of the same chunk; 0: none */
        gint64 moved, moved_bytes; /* atomic */
};
/* As share_task_new(); @verb ("pushing"). */
gpointer release_task_new(Share *s, const OperationRecord *op, gsize size,
                          void (*clear)(struct share_task *t), const char *verb);
void release_task_clear(struct release_task *t);
/* Each chunk of the release once, and where else it stands. */
void release_task_find_unique(struct release_task *t);
gsize release_task_ref_len(const struct release_task *t, guint ref);
void release_task_count_moved(struct release_task *t, gsize bytes); /* any thread */
/* {"release", "version", "store", "chunks", "moved", "moved_bytes"} */
JsonObject *release_task_counts(const struct release_task *t);

extern const struct job_kind share_push_kind, share_pull_kind, share_check_kind, share_gc_kind;
