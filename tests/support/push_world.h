/* tests/support/push_world.h - a host service without its API, in a temporary directory, with fake VMs around
 * it. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/vms.h"
#include "host-service/jobs/push_operation.h"
#include "host-service/push/push_manager.h"
#include "host-service/rollout/rollout_manager.h"
#include "tests/support/fake_agent.h"
#include "tests/support/fake_qmp.h"
#include "tests/support/tempdir.h"

#define WORLD_VMS 12

struct world_vm {
        char *name;
        FakeAgent *agent;
        FakeQmp *qmp; /* or NULL */
};

typedef struct {
        TempDir *dir;
        GPtrArray *log; /* of char * */
        struct host_env *env;
        Catalogue *catalogue; /* these five: NULL while the daemon is down */
        Jobs *jobs;
        PushManager *manager;
        RolloutManager *rollouts;
        TlsIdentity *identity;
        struct push_manager_config config;
        const struct job_kind *more; /* somebody else's, or NULL; registered at each start */
        gpointer more_user;
        struct world_vm vms[WORLD_VMS];
        guint n_vms;
        GBytes *pack;
        ReleaseRecord *release;
} World;

/* The daemon is up; one release "demo 1.0" with the paths etc/a and etc/b, of @pack_size random bytes, is
 * imported. */
World *world_new(gsize pack_size);
void world_free(World *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* A running VM, known to the daemon. */
struct world_vm *world_add_vm(World *w, const char *name, gboolean with_qmp);
/* The daemon dies (nothing is said or written) and is started again. */
void world_kill_daemon(World *w);
void world_start_daemon(World *w);

/* Adds the operation for the VMs (NULL-terminated names). Owned by the caller. */
char *world_push(World *w, const struct push_options *options, const char *const *vms);
/* The same for one VM with default options. */
char *world_push_one(World *w, const char *vm);
char *world_push_over_serial(World *w, const char *vm);

/* Somebody else's connection to the catalogue. */
void world_run_sql(World *w, const char *sql);

/* Runs the main loop until @done; the test's time limit ends it otherwise. */
void world_run(World *w, gboolean (*done)(World *w, gpointer user), gpointer user);
void world_run_until_ended(World *w, const char *operation);
void world_run_until_phase(World *w, struct world_vm *vm, Moult__TransactionPhase phase);
void world_run_until_logged(World *w, const char *line);

/* Until the push to "web-1" is in this state. */
void world_run_until_state(World *w, const char *operation, PushState state);

PushRecord *world_record(World *w, const char *operation, const char *vm);
/* A failed expectation tells the state and the reason. */
void world_expect_state(World *w, const char *operation, const char *vm, PushState state);
OperationState world_operation_state(World *w, const char *operation);
/* Index of the first such line, or -1. */
gint world_logged(const World *w, const char *line);
guint world_count(const World *w, const char *line);
