/* tests/sim/operator.h - who operates the host: adds pushes, rollbacks and rollouts, cancels them, remembers
 * what was promised.
 *
 * What he was told (an operation's id, an event) has to be true for ever after: checked here while the run
 * goes on. */
#pragma once

#include "tests/sim/host.h"

typedef struct Operator Operator;

struct operator_config {
        guint operations; /* pushes and rollbacks that are added in all */
        guint rollouts;   /* likewise */
        gint64 during_us; /* within so long */
        guint concurrent; /* the host's budgets */
        guint64 concurrent_bytes;
        void (*moment)(gboolean failed, gpointer user); /* a rollout, or a push of one, has another state */
        gpointer user;
};

/* @vms: of Vm. The VMs are added to the catalogue as soon as the host is up. */
Operator *operator_new(World *w, Host *h, const GPtrArray *vms, const struct operator_config *config);
void operator_free(Operator *o);
/* He has nothing more to ask for. */
gboolean operator_is_done(const Operator *o);
/* For each id (char *) that he was given. */
void operator_each_operation(const Operator *o, GFunc func, gpointer user);
guint operator_count(const Operator *o);
/* Reads what the host has told since the last time. The host is up. */
void operator_read_events(Operator *o);
/* After a start: what was told before is still there. The host is up. */
void operator_compare_events(Operator *o);
