/* tests/unit/test_guest_agent_run.c - the daemon as a process: killed in every phase, stopped, started twice.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "guest-agent/cli/command.h"
#include "tests/support/agent_rig.h"

TestSuite(agent_run, .timeout = 110);

#define PHASE(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define PUSH(x)  MOULT__PUSH_ACTION__PUSH_##x
#define FILLER   (4u * 1024u * 1024u)

/* -1: killed. */
static int exit_of(int wait_status)
{
        return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
}

static AgentRig *rig(void)
{
        AgentRig *r = agent_rig_new();

        agent_rig_write(r, "etc/a", "old a");
        agent_rig_release(r, "2", FILLER, "etc/a", "new a", "etc/c", "new c", NULL);
        return r;
}

static void expect_file(AgentRig *r, const char *path, const char *content)
{
        g_autofree char *text = agent_rig_read(r, path);

        cr_expect(eq(str, text, (char *)content));
}

static void connect_agent(AgentRig *r, const char *fault)
{
        int before = r->host->established;

        agent_rig_spawn(r, MOULT_AGENT, fault);
        while (r->host->established == before)
                g_main_context_iteration(NULL, TRUE);
}

/* What a host does that does not know what became of its push: asks, and goes on from what is true. */
static void drive(AgentRig *r, Moult__TransactionPhase until)
{
        Moult__Offer o = MOULT__OFFER__INIT;

        for (;;) {
                Moult__TransactionPhase phase;

                cr_assert(fake_host_command(r->host, r->push_id, PUSH(QUERY)));
                phase = r->host->reply->state->phase;
                if (phase == until)
                        return;
                if (phase == PHASE(NONE))
                        cr_assert(fake_host_offer(r->host, r->push_id, &o));
                else if (phase == PHASE(PLANNED))
                        cr_assert(fake_host_command(r->host, r->push_id, PUSH(STAGE)));
                else if (phase == PHASE(STAGED))
                        cr_assert(fake_host_command(r->host, r->push_id, PUSH(COMMIT)));
                else if (phase == PHASE(ACTIVE))
                        cr_assert(fake_host_command(r->host, r->push_id, PUSH(CONFIRM)));
                else
                        cr_assert(ne(int, (int)phase, PHASE(FAILED)));
                g_main_context_iteration(NULL, TRUE);
        }
}

Test(agent_run, a_push_ends_committed_although_the_agent_is_killed_in_every_phase)
{
        static const Moult__TransactionPhase phases[] = {PHASE(PLANNED), PHASE(STAGED), PHASE(ACTIVE),
                                                         PHASE(COMMITTED)};
        g_autoptr(AgentRig) r = rig();

        for (size_t i = 0; i < G_N_ELEMENTS(phases); i++) {
                connect_agent(r, NULL);
                drive(r, phases[i]);
                expect_file(r, "etc/a", phases[i] >= PHASE(ACTIVE) ? "new a" : "old a");
                agent_rig_reap(r, SIGKILL);
                expect_file(r, "etc/a", phases[i] >= PHASE(ACTIVE) ? "new a" : "old a");
        }
        connect_agent(r, NULL);
        drive(r, PHASE(COMMITTED));
        expect_file(r, "etc/a", "new a");
        expect_file(r, "etc/c", "new c");
}

static gboolean has_fetched(gpointer user)
{
        return ((FakeHost *)user)->fetches >= 2;
}

Test(agent_run, stops_cleanly_in_the_middle_of_staging_and_goes_on_at_the_next_start)
{
        g_autoptr(AgentRig) r = rig();
        int status;

        connect_agent(r, NULL);
        drive(r, PHASE(PLANNED));
        r->host->fetches = 0;
        r->host->silent = TRUE;
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(STAGE)));
        fake_host_wait(has_fetched, r->host);
        status = agent_rig_reap(r, SIGTERM);
        cr_expect(zero(int, exit_of(status)));
        expect_file(r, "etc/a", "old a");
        r->host->silent = FALSE;
        connect_agent(r, NULL);
        drive(r, PHASE(COMMITTED));
        expect_file(r, "etc/a", "new a");
}

Test(agent_run, idle_it_stops_cleanly_and_serves_again)
{
        g_autoptr(AgentRig) r = rig();

        for (int i = 0; i < 2; i++) {
                connect_agent(r, NULL);
                int status = agent_rig_reap(r, i ? SIGINT : SIGTERM);
                cr_expect(zero(int, exit_of(status)));
        }
}

Test(agent_run, a_hangup_reads_the_configuration_again_and_keeps_the_session)
{
        g_autoptr(AgentRig) r = rig();

        connect_agent(r, NULL);
        drive(r, PHASE(PLANNED));
        int before = r->host->lost;
        kill(r->pid, SIGHUP);
        drive(r, PHASE(COMMITTED));
        cr_expect(eq(int, r->host->lost, before));
}

Test(agent_run, a_second_agent_on_the_same_state_goes_away_and_the_first_stays)
{
        g_autoptr(AgentRig) r = rig();
        GPid first;

        connect_agent(r, NULL);
        first = r->pid;
        agent_rig_spawn(r, MOULT_AGENT, NULL);
        int status = agent_rig_reap(r, 0);
        cr_expect(eq(int, exit_of(status), AGENT_EXIT_BUSY));
        r->pid = first;
        drive(r, PHASE(COMMITTED));
}

Test(agent_run, a_wrong_option_is_a_usage_error)
{
        g_autoptr(AgentRig) r = rig();

        agent_rig_option(r, "--workers=all");
        agent_rig_spawn(r, MOULT_AGENT, NULL);
        int status = agent_rig_reap(r, 0);
        cr_expect(eq(int, exit_of(status), AGENT_EXIT_USAGE));
}
