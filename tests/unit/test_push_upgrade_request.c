/* tests/unit/test_push_upgrade_request.c - a guest asks for files (U1). */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/push_world.h"

TestSuite(push_upgrade_request, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

static void ask_upgrade(struct world_vm *vm, const char *const *paths, session_reply_func done, gpointer user)
{
        Moult__UpgradeRequest request = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData data[8];
        Message m = MOULT__MESSAGE__INIT;

        request.paths = data;
        for (; *paths; paths++)
                data[request.n_paths++] = message_bytes(*paths);
        m.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        m.upgrade_request = &request;
        session_request(fake_agent_session(vm->agent), &m, 0, done, user);
}

struct answer {
        gboolean done;
        int error;
        char text[512];
};

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct answer *a = user;

        a->done = TRUE;
        a->error = error ? error->code : 0;
        g_strlcpy(a->text, error ? error->message : "", sizeof a->text);
}

static gboolean is_answered(World *w, gpointer user)
{
        return ((struct answer *)user)->done;
}

static char *newest_operation(World *w)
{
        struct operation_filter f = {.state = -1};
        g_autoptr(GPtrArray) list = catalogue_operation_list(w->catalogue, &f, NULL);

        return list->len ? g_strdup(((OperationRecord *)list->pdata[0])->id) : NULL;
}

Test(push_upgrade_request, a_guest_that_asks_for_files_gets_the_release_that_has_them)
{
        static const char *const paths[] = {"/etc/b", "etc/a", "/etc/a", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer first = {0}, again = {0};
        g_autofree char *op = NULL, *same = NULL;
        g_autoptr(VmRecord) known = NULL;
        g_autoptr(PushRecord) r = NULL;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "web-1 connected");
        ask_upgrade(vm, paths, on_answer, &first);
        world_run(w, is_answered, &first);
        cr_expect(eq(int, first.error, 0), "%s", first.text);
        op = newest_operation(w);
        ask_upgrade(vm, paths, on_answer, &again);
        world_run(w, is_answered, &again);
        same = newest_operation(w);
        cr_expect(eq(str, op, same), "the same request is not pushed twice");
        world_run_until_phase(w, vm, P(STAGING));
        fake_agent_go_on(vm->agent);
        world_run_until_ended(w, op);
        r = world_record(w, op, "web-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE));
        cr_assert(eq(u32, g_strv_length(r->options.selection), 2));
        cr_expect(eq(str, r->options.selection[0], "etc/a"));
        cr_expect(eq(str, r->options.selection[1], "etc/b"));
        known = catalogue_vm_get(w->catalogue, "web-1", NULL);
        cr_expect(eq(str, known->last_release, "demo 1.0 (selected files)"));
}

Test(push_upgrade_request, files_that_no_release_has_are_named)
{
        static const char *const paths[] = {"/etc/a", "/no/such", "/nor/this", NULL};
        static const char *const evil[] = {"/etc/../shadow", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer missing = {0}, refused = {0};

        world_run_until_logged(w, "web-1 connected");
        ask_upgrade(vm, paths, on_answer, &missing);
        world_run(w, is_answered, &missing);
        cr_expect(eq(int, missing.error, MOULT_ERROR_NOT_FOUND));
        cr_expect(ne(ptr, strstr(missing.text, "/no/such, /nor/this"), NULL), "%s", missing.text);
        cr_expect(eq(ptr, strstr(missing.text, "/etc/a"), NULL));
        ask_upgrade(vm, evil, on_answer, &refused);
        world_run(w, is_answered, &refused);
        cr_expect(eq(int, refused.error, MOULT_ERROR_MALFORMED));
}

/* Releases that have one file each; the agent holds the first push, so that all of them wait. */
Test(push_upgrade_request, a_guest_holds_no_more_than_four_unfinished_pushes_of_its_own)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        struct answer a;

        fake_agent_script(vm->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "web-1 connected");
        for (guint8 i = 1; i <= 5; i++) {
                g_autofree char *name = g_strdup_printf("r%u", i), *path = g_strdup_printf("opt/%u", i);
                const char *const paths[] = {path, NULL};
                ReleaseRecord r = {.name = name, .version = (char *)"1", .file = name, .entries = 1};

                memset(r.digest, i, sizeof r.digest);
                cr_assert(catalogue_release_add(w->catalogue, &r, paths, NULL));
                a = (struct answer){0};
                ask_upgrade(vm, paths, on_answer, &a);
                world_run(w, is_answered, &a);
                cr_expect(eq(int, a.error, i <= 4 ? 0 : MOULT_ERROR_BUSY), "request %u: %s", i, a.text);
        }
        cr_expect(ne(ptr, strstr(a.text, "ask again"), NULL), "%s", a.text);
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, "web-1"), 4));
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, NULL), 0));
        g_free(world_push_one(w, "web-1"));
        cr_expect(eq(i64, catalogue_operation_count_open(w->catalogue, NULL), 1));
}

Test(push_upgrade_request, a_guest_that_asks_too_often_is_told_to_wait)
{
        static const char *const paths[] = {"/no/such", NULL};
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *vm = world_add_vm(w, "web-1", FALSE);
        int last = 0;

        world_run_until_logged(w, "web-1 connected");
        for (int i = 0; i < 20 && last != MOULT_ERROR_BUSY; i++) {
                struct answer a = {0};

                ask_upgrade(vm, paths, on_answer, &a);
                world_run(w, is_answered, &a);
                last = a.error;
        }
        cr_expect(eq(int, last, MOULT_ERROR_BUSY));
}
