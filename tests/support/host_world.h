/* tests/support/host_world.h - a host environment for one test: a real directory, a clock and randomness that
 * the test sets. */
#pragma once

#include "host-service/catalogue/catalogue.h"
#include "host-service/env.h"
#include "tests/support/tempdir.h"

typedef struct {
        struct host_env env;
        struct host_env *real;
        TempDir *dir;
        gint64 wall_us, monotonic_us; /* moved by the test only */
        guint8 next_random;           /* bytes count up from here */
} HostWorld;

/* Its state is in DIR/state. Aborts the test on failure. */
HostWorld *host_world_new(void);
void host_world_free(HostWorld *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostWorld, host_world_free)

/* Opens the catalogue; aborts the test on failure. */
Catalogue *host_world_catalogue(HostWorld *w);
/* Runs the loop until nothing is ready. */
void host_world_settle(HostWorld *w);
/* A VM with these two sockets' paths made from its name. */
void host_world_add_vm(Catalogue *c, const char *name);
/* A release row without a pack; its digest is @digest 32 times, it has a million entries. */
void host_world_add_release(Catalogue *c, const char *name, const char *version, guint8 digest,
                            gint64 created_us, const char *const *paths);
/* "type type ..." of the events after @after. */
char *host_world_events(Catalogue *c, gint64 after);
