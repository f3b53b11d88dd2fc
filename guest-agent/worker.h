/* guest-agent/worker.h - one thread, or a few, that do blocking work, so that the main loop never blocks.
 *
 * A thread exists only while there is work (and a few seconds after). Results come back as calls from the
 * main context in which the worker was made. */
#pragma once

#include <glib.h>

typedef struct Worker Worker;
typedef void (*worker_func)(gpointer job);

/* @threads: 1 does the work in order. */
Worker *worker_new(unsigned threads);
/* Waits for the queued work, and for what its `done` pushes. */
void worker_free(Worker *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Worker, worker_free)

/* @run in a thread, begun after what was pushed before; then @done (may be NULL) from the main context. */
void worker_push(Worker *w, worker_func run, worker_func done, gpointer job);
/* Jobs pushed whose `done` has not run. Main thread. */
unsigned worker_pending(const Worker *w);

/* Calls @func(@data) once from @context's loop, never from here (g_main_context_invoke() may). Any thread. */
void main_context_post(GMainContext *context, worker_func func, gpointer data);
