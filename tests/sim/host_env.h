/* tests/sim/host_env.h - host-service/env.h, simulated. */
#pragma once

#include "host-service/env.h"
#include "tests/sim/vault.h"
#include "tests/sim/vm.h"

struct host_surroundings {
        struct host_env env;
        World *w;
        const Vault *vault;
        const GPtrArray *vms; /* of Vm */
        VaultManner manner;
        gboolean broken; /* the store cannot be read */
        wire_effect_func effect;
        gpointer user;
};

/* Fills @s->env; the other members are the caller's. */
void host_env_fill(struct host_surroundings *s, const char *vfs);
