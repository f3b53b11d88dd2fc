/* tests/unit/test_guest_agent_freeze.c - freezes and upgrades keep out of each other's way: a real agent, as
 * a process, and a fake host. What is frozen is nothing: tests/integration/test_freeze.py has real file
 * systems. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "tests/support/agent_rig.h"

TestSuite(agent_freeze, .timeout = 110);

#define PHASE(x)  MOULT__TRANSACTION_PHASE__PHASE_##x
#define PUSH(x)   MOULT__PUSH_ACTION__PUSH_##x
#define FREEZE(x) MOULT__FREEZE_ACTION__FREEZE_##x
#define STATE(x)  MOULT__FREEZE_PHASE__FREEZE_PHASE_##x

static const guint8 freeze_id[16] = "a freeze's name";

/* An agent that freezes nothing, with a pre-freeze hook that waits as long as "gate" is there. */
static AgentRig *rig(const char *fault)
{
        AgentRig *r = agent_rig_new();
        g_autofree char *hooks = tempdir_path(r->dir, "hooks"),
                        *directory = tempdir_path(r->dir, "hooks/pre-freeze.d"),
                        *hook = tempdir_path(r->dir, "hooks/pre-freeze.d/10-wait"),
                        *gate = tempdir_path(r->dir, "gate"), *hold = tempdir_path(r->dir, "hold"),
                        *option = g_strdup_printf("--hooks=%s", hooks),
                        *script = g_strdup_printf("#!/bin/sh\nwhile [ -e %s ]; do sleep 0.05; done\n", gate);

        g_mkdir_with_parents(directory, 0755);
        cr_assert(g_file_set_contents(hook, script, -1, NULL));
        cr_assert(eq(int, chmod(hook, 0755), 0));
        cr_assert(g_file_set_contents(gate, "", -1, NULL));
        agent_rig_option(r, option);
        agent_rig_option(r, "--mountinfo=/dev/null");
        g_setenv("MOULT_FAULT_HOLD", hold, TRUE);
        agent_rig_write(r, "etc/a", "old a");
        agent_rig_release(r, "2", 0, "etc/a", "new a", NULL);
        agent_rig_spawn(r, MOULT_AGENT, fault);
        fake_host_wait_established(r->host);
        return r;
}

static gboolean ask(AgentRig *r, Moult__FreezeAction action)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Freeze f = MOULT__FREEZE__INIT;

        f.freeze_id = message_blob(freeze_id, sizeof freeze_id);
        f.action = action;
        f.lease_ms = action == FREEZE(BEGIN) ? 1000 : 0;
        m.body_case = MOULT__MESSAGE__BODY_FREEZE;
        m.freeze = &f;
        return fake_host_ask(r->host, &m);
}

static void remove_file(AgentRig *r, const char *name)
{
        g_autofree char *path = tempdir_path(r->dir, name);

        cr_assert(eq(int, g_unlink(path), 0));
}

static void stage(AgentRig *r)
{
        Moult__Offer o = MOULT__OFFER__INIT;

        cr_assert(fake_host_offer(r->host, r->push_id, &o));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(PLANNED)));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(STAGE)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(STAGED)));
}

static void wait_thawed(AgentRig *r)
{
        do
                cr_assert(ask(r, FREEZE(QUERY)));
        while (r->host->reply->freeze_state->phase != STATE(THAWED));
}

Test(agent_freeze, a_commit_in_a_freeze_is_busy_and_goes_on_after_it)
{
        g_autoptr(AgentRig) r = rig(NULL);

        stage(r);
        cr_assert(ask(r, FREEZE(BEGIN)));
        cr_expect(eq(int, (int)r->host->reply->freeze_state->phase, STATE(HOOKS)));
        cr_expect(eq(int, fake_host_command(r->host, r->push_id, PUSH(COMMIT)), FALSE));
        cr_expect(g_error_matches(r->host->error, MOULT_ERROR, MOULT_ERROR_BUSY));
        cr_expect(fake_host_command(r->host, r->push_id, PUSH(QUERY)));
        cr_assert(ask(r, FREEZE(THAW)));
        remove_file(r, "gate");
        wait_thawed(r);
        cr_expect(eq(int, r->host->reply->freeze_state->held, 0));
        cr_expect(eq(int, (int)r->host->reply->freeze_state->error, MOULT_ERROR_CANCELLED));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(COMMIT)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(ACTIVE)));
        agent_rig_reap(r, SIGKILL);
}

static gboolean is_held(gpointer user)
{
        g_autofree char *hold = tempdir_path(((AgentRig *)user)->dir, "hold");

        return g_file_test(hold, G_FILE_TEST_EXISTS);
}

static gboolean wake(gpointer user)
{
        return G_SOURCE_CONTINUE;
}

Test(agent_freeze, a_freeze_in_a_commit_is_busy_and_begins_after_it)
{
        g_autoptr(AgentRig) r = rig("switched-all=hold");
        guint timer = g_timeout_add(20, wake, NULL); /* nobody tells us of a file */

        remove_file(r, "gate");
        stage(r);
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(COMMIT)));
        fake_host_wait(is_held, r);
        cr_expect(eq(int, ask(r, FREEZE(BEGIN)), FALSE));
        cr_expect(g_error_matches(r->host->error, MOULT_ERROR, MOULT_ERROR_BUSY));
        remove_file(r, "hold");
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(ACTIVE)));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(CONFIRM)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(COMMITTED)));
        cr_assert(ask(r, FREEZE(BEGIN)));
        wait_thawed(r);
        /* There is nothing to freeze here, and the agent says so. */
        cr_expect(eq(int, r->host->reply->freeze_state->held, 0));
        cr_expect(ne(int, (int)r->host->reply->freeze_state->error, 0));
        g_source_remove(timer);
        agent_rig_reap(r, SIGKILL);
}
