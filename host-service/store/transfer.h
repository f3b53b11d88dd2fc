/* host-service/store/transfer.h - many objects to or from the shared store, some at once, each tried again
 * while that makes sense.
 *
 * Theory of operation: a step is one object, in a worker thread, once. What fails because the store is
 * absent, slow, busy or garbled (TIMEOUT, CORRUPT) is tried again after a pause that doubles, from 0.25 s to
 * 30 s, and of which a random half is taken off, so that hosts do not come back together. While an object
 * waits, its place is taken: a store that is down is not asked for all the others. Pauses and chance are the
 * environment's. Any other failure, or the last attempt's, ends the whole. */
#pragma once

#include "host-service/env.h"

#define TRANSFER_ATTEMPTS 8 /* of one object: about a minute of a store that is down */

typedef struct Transfer Transfer;

/* In a worker thread; several at once, each with another @index. */
typedef gboolean (*transfer_step_func)(guint index, gpointer user, GCancellable *cancellable, GError **error);
/* From the loop, exactly once; the transfer is gone then. */
typedef void (*transfer_done_func)(const GError *error, gpointer user);

/* @what: for the log ("pushing app 1"). @user must live until @done. */
Transfer *transfer_start(const struct host_env *env, const char *what, guint count, guint parallel,
                         transfer_step_func step, transfer_done_func done, gpointer user);
/* From the loop, before each object is begun: 0, or for how many milliseconds none may be (then it is asked
 * again). Attempts after the first are not held up. */
typedef guint (*transfer_pace_func)(gpointer user);
/* At once after transfer_start(). */
void transfer_set_pace(Transfer *t, transfer_pace_func pace);
/* @done follows with CANCELLED, as soon as the threads have stopped. */
void transfer_cancel(Transfer *t);
/* Pure: milliseconds before attempt @attempt (from 1: the second one); @chance any number. */
guint transfer_pause_ms(guint attempt, guint32 chance);
