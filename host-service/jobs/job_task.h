/* host-service/jobs/job_task.h - what every job has that works for a while: it shows how far it is, can be
 * cancelled, and ends once.
 *
 * Part of its owner's struct; all calls from the loop. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/jobs/jobs.h"

struct job_task {
        char *id;                  /* of the operation */
        GCancellable *cancellable; /* for what works */
        /* private */
        Catalogue *catalogue;
        Jobs *jobs;
        gboolean asked, leaving; /* cancelled by a client; by the daemon's end */
        GSource *timer;
        const gint64 *done, *total;
        gint64 shown;
};

void job_task_init(struct job_task *t, Catalogue *c, Jobs *j, const char *id);
void job_task_clear(struct job_task *t);
/* From now on, twice a second, the operation's row tells @done of @total, in whatever unit the job has. @done
 * is read atomically; both must stay until job_task_hide() or job_task_clear(). */
void job_task_show(struct job_task *t, const struct host_env *env, const gint64 *done, const gint64 *total);
void job_task_hide(struct job_task *t);
/* A client asks for it. */
void job_task_cancel(struct job_task *t);
/* The daemon goes down: cancelled by that, the operation does not end. The next daemon begins it anew. */
void job_task_leave(struct job_task *t);
/* The operation ends. @result is taken, NULL: none. @why: it has failed, or was cancelled. */
void job_task_report(struct job_task *t, JsonObject *result, const GError *why);
