/* tests/sim/history.h - one run: a seed becomes a host, VMs, an operator and faults, and goes on until all is
 * quiet. */
#pragma once

#include "tests/sim/vault.h"

struct history_options {
        const Vault *vault;
        GBytes *template; /* of host_template_new() */
        gboolean trace;
        gint only; /* one Fault class only; -1: as the seed says; -2: none */
};

struct history_result {
        char *failure; /* NULL: every invariant held */
        char *digest;
        gint64 simulated_us;
        guint operations;
};

void history_run(guint64 seed, const struct history_options *options, struct history_result *ret);
void history_result_clear(struct history_result *r);
