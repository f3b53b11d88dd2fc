/* tests/unit/test_push_push_snapshot.c - a push that has a snapshot taken before it. Who takes it is played
 * here.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/push_world.h"

TestSuite(push_snapshot, .timeout = 110);

#define MIB (1024u * 1024u)

/* Takes them when told to. */
struct taker {
        guint started, resumed;
        char *id, *request; /* of the last one */
};

static void on_start(const OperationRecord *op, gpointer user)
{
        struct taker *t = user;

        t->started++;
        g_free(t->id);
        g_free(t->request);
        t->id = g_strdup(op->id);
        t->request = g_strdup(op->request);
}

static void on_resume(const OperationRecord *op, gpointer user)
{
        struct taker *t = user;

        t->resumed++;
        (void)op;
}

static void on_cancel(const OperationRecord *op, gpointer user)
{
        (void)op;
        (void)user;
}

static const struct job_kind snapshot_kind = {"snapshot-create", on_start, on_resume, on_cancel};

static World *world(struct taker *t, guint concurrent)
{
        World *w = world_new(MIB);

        world_kill_daemon(w);
        w->more = &snapshot_kind;
        w->more_user = t;
        w->config.concurrent = concurrent;
        world_start_daemon(w);
        return w;
}

static void clear(struct taker *t)
{
        g_free(t->id);
        g_free(t->request);
}

static char *push(World *w, const char *first, const char *second, gboolean dry_run)
{
        const char *vms[] = {first, second, NULL};

        return world_push(
                w, &(struct push_options){.confirm_timeout_ms = 1000, .snapshot = TRUE, .dry_run = dry_run},
                vms);
}

static gboolean has_started(World *w, gpointer user)
{
        const struct taker *t = user;

        (void)w;
        return t->started > 0;
}

static gboolean has_resumed(World *w, gpointer user)
{
        const struct taker *t = user;

        (void)w;
        return t->resumed > 0;
}

static gboolean on_passed(gpointer user)
{
        *(gboolean *)user = TRUE;
        return G_SOURCE_REMOVE;
}

static gboolean has_passed(World *w, gpointer user)
{
        (void)w;
        return *(gboolean *)user;
}

/* Long enough for what must not happen; on a slow machine it would be missed, and nothing else. */
static void pass_time(World *w)
{
        gboolean passed = FALSE;

        g_timeout_add(1000, on_passed, &passed);
        world_run(w, has_passed, &passed);
}

static guint offered(struct world_vm *vm)
{
        Moult__SourceKind sources[4];

        return fake_agent_offered(vm->agent, sources);
}

Test(push_snapshot, is_taken_before_anything_is_said_to_the_guest_and_named)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 0);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = push(w, "web-1", NULL, FALSE);
        g_autoptr(PushRecord) before = NULL;
        g_autoptr(PushRecord) after = NULL;

        world_run(w, has_started, &t);
        before = world_record(w, op, "web-1");
        cr_expect(eq(int, before->state, PUSH_STATE_CONNECT));
        cr_expect(eq(str, before->snapshot, t.id));
        cr_expect(g_str_has_suffix(before->snapshot_name, "-before-push"), "%s", before->snapshot_name);
        cr_expect(ne(ptr, strstr(t.request, "\"vm\":\"web-1\""), NULL), "%s", t.request);
        cr_expect(ne(ptr, strstr(t.request, before->snapshot_name), NULL), "%s", t.request);
        cr_expect(eq(u32, offered(vm), 0));
        jobs_finish(w->jobs, t.id, OPERATION_SUCCEEDED, NULL, NULL);
        world_run_until_ended(w, op);
        after = world_record(w, op, "web-1");
        cr_expect(eq(int, after->state, PUSH_STATE_DONE), "%s", after->text);
        cr_expect(eq(str, after->snapshot, t.id));
        cr_expect(eq(u32, offered(vm), 1));
        cr_expect(eq(u32, t.started, 1));
        clear(&t);
}

Test(push_snapshot, that_fails_is_the_end_of_the_push)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 0);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = push(w, "web-1", NULL, FALSE);
        g_autoptr(GError) why = g_error_new(MOULT_ERROR, MOULT_ERROR_NO_SPACE, "the disk is full");
        g_autoptr(PushRecord) r = NULL;

        world_run(w, has_started, &t);
        jobs_finish(w->jobs, t.id, OPERATION_FAILED, NULL, why);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_FAILED));
        cr_expect(eq(int, r->error, MOULT_ERROR_NO_SPACE));
        cr_expect(
                eq(str, r->text,
                   (char *)"the push was not begun, since no snapshot could be taken before it: the disk is "
                           "full"));
        cr_expect(eq(u32, offered(vm), 0));
        clear(&t);
}

Test(push_snapshot, outlives_the_daemon)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 0);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = push(w, "web-1", NULL, FALSE);

        world_run(w, has_started, &t);
        world_kill_daemon(w);
        world_start_daemon(w);
        world_run(w, has_resumed, &t);
        cr_expect(eq(u32, offered(vm), 0));
        jobs_finish(w->jobs, t.id, OPERATION_SUCCEEDED, NULL, NULL);
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_DONE);
        cr_expect(eq(u32, t.started, 1));
        cr_expect(eq(u32, offered(vm), 1));
        clear(&t);
}

Test(push_snapshot, takes_a_place)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 1);
        g_autofree char *op = NULL;

        world_add_vm(w, "web-1", FALSE);
        world_add_vm(w, "web-2", FALSE);
        op = push(w, "web-1", "web-2", FALSE);
        for (guint n = 1; n <= 2; n++) {
                world_run(w, has_started, &t);
                pass_time(w);
                cr_expect(eq(u32, t.started, 1));
                t.started = 0;
                jobs_finish(w->jobs, t.id, OPERATION_SUCCEEDED, NULL, NULL);
        }
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
        clear(&t);
}

Test(push_snapshot, is_not_taken_for_a_dry_run)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 0);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        world_add_vm(w, "web-1", FALSE);
        op = push(w, "web-1", NULL, TRUE);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(ptr, r->snapshot, NULL));
        cr_expect(eq(u32, t.started, 0));
        clear(&t);
}

Test(push_snapshot, is_not_waited_for_when_the_push_is_cancelled)
{
        struct taker t = {0};
        g_autoptr(World) w = world(&t, 0);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        g_autofree char *op = push(w, "web-1", NULL, FALSE);

        world_run(w, has_started, &t);
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        world_expect_state(w, op, "web-1", PUSH_STATE_CANCELLED);
        cr_expect(eq(u32, offered(vm), 0));
        clear(&t);
}
