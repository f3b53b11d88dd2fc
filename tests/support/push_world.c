/* tests/support/push_world.c - a host service without its API, with fake VMs around it. */
#include "tests/support/push_world.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define PADDED (UINT64_C(4) << 20)

static void must(gboolean ok, const GError *error, const char *what)
{
        if (!ok)
                g_error("%s: %s", what, error ? error->message : "failed");
}

static void make_release(World *w, gsize pack_size)
{
        static const char *const paths[] = {"etc/a", "etc/b", NULL};
        g_autoptr(GError) error = NULL;
        guint8 *bytes = g_malloc(pack_size);
        ReleaseRecord r = {
                .name = (char *)"demo", .version = (char *)"1.0", .file = (char *)"demo-1.0.moult"};
        scoped_fd int fd = w->env->store->create(w->env->self, "new", &error);

        must(fd >= 0, error, "store");
        for (gsize i = 0; i < pack_size; i++)
                bytes[i] = (guint8)((i * 2654435761u) >> 13);
        w->pack = g_bytes_new_take(bytes, pack_size);
        must(fd_write_all(fd, bytes, pack_size, "pack", &error), error, "pack");
        must(ftruncate(fd, PADDED) == 0, NULL, "pack");
        must(w->env->store->seal(w->env->self, "new", fd, r.file, &error), error, "seal");
        memset(r.digest, 0xab, sizeof r.digest);
        r.size = pack_size;
        r.padded_size = PADDED;
        r.entries = 2000; /* as many items of a plan are kept */
        must(catalogue_release_add(w->catalogue, &r, paths, &error), error, "release");
        w->release = catalogue_release_by_digest(w->catalogue, r.digest, &error);
        must(w->release != NULL, error, "release");
}

void world_start_daemon(World *w)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *state = tempdir_path(w->dir, "state");

        w->env = host_env_real_new(state, &error);
        must(w->env != NULL, error, "environment");
        w->catalogue = catalogue_open(w->env, &error);
        must(w->catalogue != NULL, error, "catalogue");
        w->jobs = jobs_new(w->env, w->catalogue);
        w->manager = push_manager_new(w->env, w->catalogue, w->jobs, &w->config, &error);
        must(w->manager != NULL, error, "manager");
        w->rollouts = rollout_manager_new(w->env, w->catalogue, w->jobs, w->manager);
        if (w->more)
                jobs_register(w->jobs, w->more, w->more_user);
        must(jobs_begin(w->jobs, &error), error, "jobs");
        push_manager_begin(w->manager);
}

void world_kill_daemon(World *w)
{
        g_clear_pointer(&w->rollouts, rollout_manager_free);
        g_clear_pointer(&w->manager, push_manager_free);
        g_clear_pointer(&w->jobs, jobs_free);
        g_clear_pointer(&w->catalogue, catalogue_close);
        /* What workers and idle sources still hold comes back now. */
        while (g_main_context_iteration(NULL, FALSE))
                ;
        g_clear_pointer(&w->env, host_env_real_free);
}

World *world_new(gsize pack_size)
{
        World *w = g_new0(World, 1);

        w->dir = tempdir_new();
        w->log = g_ptr_array_new_with_free_func(g_free);
        w->config.patience_ms = 20000;
        world_start_daemon(w);
        make_release(w, pack_size);
        return w;
}

void world_free(World *w)
{
        if (!w)
                return;
        world_kill_daemon(w);
        for (guint i = 0; i < w->n_vms; i++) {
                fake_agent_free(w->vms[i].agent);
                fake_qmp_free(w->vms[i].qmp);
                g_free(w->vms[i].name);
        }
        tls_identity_free(w->identity);
        release_record_free(w->release);
        g_bytes_unref(w->pack);
        g_ptr_array_unref(w->log);
        tempdir_free(w->dir);
        g_free(w);
}

struct world_vm *world_add_vm(World *w, const char *name, gboolean with_qmp)
{
        struct world_vm *vm = &w->vms[w->n_vms++];
        g_autofree char *agent_name = g_strconcat(name, ".a", NULL),
                        *qmp_name = g_strconcat(name, ".q", NULL);
        g_autofree char *agent = tempdir_path(w->dir, agent_name), *qmp = tempdir_path(w->dir, qmp_name);
        VmRecord r = {.name = (char *)name, .agent = agent, .qmp = with_qmp ? qmp : NULL};
        g_autoptr(GError) error = NULL;

        g_assert(w->n_vms <= WORLD_VMS);
        vm->name = g_strdup(name);
        vm->agent = fake_agent_new(name, agent, w->log);
        vm->qmp = with_qmp ? fake_qmp_new(name, qmp, w->log) : NULL;
        must(catalogue_vm_add(w->catalogue, &r, &error), error, "vm");
        push_manager_guest_view(w->manager)->ops->vm_changed(push_manager_guest_view(w->manager)->self, name);
        return vm;
}

char *world_push(World *w, const struct push_options *options, const char *const *vms)
{
        g_autoptr(GError) error = NULL;
        char *id = push_operation_add(w->env, w->catalogue, w->jobs, options->rollback ? NULL : w->release,
                                      vms, options, &error);

        must(id != NULL, error, "push");
        return id;
}

char *world_push_one(World *w, const char *vm)
{
        const char *vms[] = {vm, NULL};

        return world_push(w, &(struct push_options){.confirm_timeout_ms = 1000}, vms);
}

void world_run(World *w, gboolean (*done)(World *w, gpointer user), gpointer user)
{
        while (!done(w, user))
                g_main_context_iteration(NULL, TRUE);
}

static gboolean has_ended(World *w, gpointer user)
{
        return operation_state_is_final(world_operation_state(w, user));
}

void world_run_until_ended(World *w, const char *operation)
{
        world_run(w, has_ended, (gpointer)operation);
}

struct phase_wait {
        struct world_vm *vm;
        Moult__TransactionPhase phase;
};

static gboolean has_phase(World *w, gpointer user)
{
        struct phase_wait *wait = user;

        return fake_agent_phase(wait->vm->agent) == wait->phase;
}

void world_run_until_phase(World *w, struct world_vm *vm, Moult__TransactionPhase phase)
{
        struct phase_wait wait = {vm, phase};

        world_run(w, has_phase, &wait);
}

static gboolean has_line(World *w, gpointer user)
{
        return world_logged(w, user) >= 0;
}

void world_run_until_logged(World *w, const char *line)
{
        world_run(w, has_line, (gpointer)line);
}

PushRecord *world_record(World *w, const char *operation, const char *vm)
{
        g_autoptr(GError) error = NULL;
        PushRecord *r = catalogue_push_get(w->catalogue, operation, vm, &error);

        must(r != NULL, error, "record");
        return r;
}

OperationState world_operation_state(World *w, const char *operation)
{
        g_autoptr(GError) error = NULL;
        OperationRecord *r = catalogue_operation_get(w->catalogue, operation, &error);
        OperationState s;

        must(r != NULL, error, "operation");
        s = r->state;
        operation_record_free(r);
        return s;
}

gint world_logged(const World *w, const char *line)
{
        for (guint i = 0; i < w->log->len; i++)
                if (g_str_equal(w->log->pdata[i], line))
                        return (gint)i;
        return -1;
}

guint world_count(const World *w, const char *line)
{
        guint n = 0;

        for (guint i = 0; i < w->log->len; i++)
                n += g_str_equal(w->log->pdata[i], line);
        return n;
}

char *world_push_over_serial(World *w, const char *vm)
{
        const char *vms[] = {vm, NULL};

        return world_push(w, &(struct push_options){.transport = PUSH_TRANSPORT_SERIAL}, vms);
}

void world_run_sql(World *w, const char *sql)
{
        g_autofree char *state = tempdir_path(w->dir, "state");
        g_autofree char *path = g_build_filename(state, "catalogue.db", NULL);
        sqlite3 *db = NULL;

        cr_assert(eq(int, sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK));
        cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK), "%s", sqlite3_errmsg(db));
        sqlite3_close(db);
}

struct push_wait {
        const char *operation;
        PushState state;
};

static gboolean is_in_state(World *w, gpointer user)
{
        const struct push_wait *wait = user;
        g_autoptr(PushRecord) r = world_record(w, wait->operation, "web-1");

        return r->state == wait->state;
}

void world_run_until_state(World *w, const char *operation, PushState state)
{
        struct push_wait wait = {operation, state};

        world_run(w, is_in_state, &wait);
}

void world_expect_state(World *w, const char *operation, const char *vm, PushState state)
{
        g_autoptr(PushRecord) r = world_record(w, operation, vm);

        cr_expect(eq(int, r->state, state), "%s is %s: %s", vm, push_state_name(r->state),
                  r->text ? r->text : "");
}
