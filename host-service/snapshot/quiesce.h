/* host-service/snapshot/quiesce.h - a freeze of one guest, from the host's side. docs/snapshots.md,
 * *Quiesce*.
 *
 * Theory of operation: as with pushes, every command is answered with what is true, and repeated until that
 * is what is wanted or the time is over. The guest thaws by itself when the lease ends, so nothing here has
 * to be right for a guest to come back; what it has to be right for is the grade. */
#pragma once

#include "host-service/guest_view.h"
#include "host-service/env.h"

typedef struct Quiesce Quiesce;

struct quiesce_result {
        gboolean held;    /* frozen from before quiesce_begin() was done until quiesce_end() was called */
        gint64 frozen_us; /* how long */
        guint hooks;      /* that ran */
        char *why;        /* it is not better; for people; NULL: nothing to say. Borrowed */
};

/* Once, from the loop. begin: frozen, or (@error) it is not, and needs no end. */
typedef void (*quiesce_begun_func)(const GError *error, gpointer user);
typedef void (*quiesce_ended_func)(const struct quiesce_result *result, gpointer user);

/* All must outlive the Quiesce. */
Quiesce *quiesce_new(const struct host_env *env, const struct guest_view *guests, const char *vm);
/* What is frozen thaws when its lease is over. Callbacks do not run any more. */
void quiesce_free(Quiesce *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Quiesce, quiesce_free)
/* UNSUPPORTED: no agent that can; TIMEOUT; BUSY; HOOK and whatever the guest says. */
void quiesce_begin(Quiesce *q, quiesce_begun_func done, gpointer user);
void quiesce_end(Quiesce *q, quiesce_ended_func done, gpointer user);
