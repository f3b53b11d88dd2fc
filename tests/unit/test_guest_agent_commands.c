/* tests/unit/test_guest_agent_commands.c - the guest's own commands: over the real socket, to a real agent.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/cli/client.h"
#include "guest-agent/cli/state_out.h"
#include "tests/support/agent_rig.h"

TestSuite(agent_commands, .timeout = 60);

#define PHASE(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define PUSH(x)  MOULT__PUSH_ACTION__PUSH_##x

static Client *connect_command(AgentRig *r)
{
        g_autofree char *socket = tempdir_path(r->dir, "run/agent.sock");
        struct client_options options = {.socket = socket};
        g_autoptr(GError) error = NULL;
        Client *c = client_connect(&options, &error);

        cr_assert(ne(ptr, c, NULL), "%s", error ? error->message : "");
        return c;
}

static Message *ask(Client *c, Moult__Message__BodyCase body, void *content, GError **error)
{
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = body;
        m.status_query = content; /* all members of the union are pointers */
        return client_ask(c, &m, 20000, error);
}

static void commit_release(AgentRig *r)
{
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_write(r, "etc/a", "old a");
        agent_rig_release(r, "2", 0, "etc/a", "new a", NULL);
        cr_assert(fake_host_offer(r->host, r->push_id, &o));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(PLANNED)));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(STAGE)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(STAGED)));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(COMMIT)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(ACTIVE)));
        cr_assert(fake_host_command(r->host, r->push_id, PUSH(CONFIRM)));
        cr_assert(fake_host_wait_phase(r->host, r->push_id, PHASE(COMMITTED)));
}

/* Maps a file of the tree. */
static void *map_file(AgentRig *r, const char *path)
{
        g_autofree char *inside = g_build_filename("root", path, NULL);
        int fd = openat(r->dir->fd, inside, O_RDONLY | O_CLOEXEC);
        void *p = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0);

        cr_assert(fd >= 0 && p != MAP_FAILED);
        close(fd);
        return p;
}

static Message *ask_stale(FakeHost *h, ProtobufCBinaryData push_id)
{
        Moult__StaleQuery query = MOULT__STALE_QUERY__INIT;
        Message m = MOULT__MESSAGE__INIT;

        query.push_id = push_id;
        m.body_case = MOULT__MESSAGE__BODY_STALE_QUERY;
        m.stale_query = &query;
        return fake_host_ask(h, &m) ? h->reply : NULL;
}

/* The agent passes over itself, and is this process here: a child holds the file. */
Test(agent_commands, the_host_is_told_who_still_runs_old_files)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        const Moult__StaleReport *report;
        Message *reply;
        pid_t child;
        gboolean found = FALSE;

        agent_rig_write(r, "etc/a", "old a");
        map_file(r, "etc/a");
        child = fork();
        if (child == 0)
                for (;;)
                        pause();
        agent_rig_start(r);
        reply = ask_stale(r->host, message_blob(r->push_id, 16));
        cr_expect(eq(ptr, reply, NULL));
        cr_expect(eq(int, r->host->error->code, MOULT_ERROR_NOT_FOUND));
        commit_release(r);
        for (int i = 0; i < 2; i++) { /* asking again is another look, and changes nothing */
                reply = ask_stale(r->host, i ? message_blob(NULL, 0) : message_blob(r->push_id, 16));
                cr_assert(ne(ptr, reply, NULL), "%s", r->host->error->message);
                cr_assert(eq(int, (int)reply->body_case, MOULT__MESSAGE__BODY_STALE_REPORT));
                report = reply->stale_report;
                found = FALSE;
                for (size_t p = 0; p < report->n_processes; p++) {
                        cr_expect(ne(u32, report->processes[p]->pid, (guint32)getpid()));
                        found |= report->processes[p]->pid == (guint32)child;
                }
                cr_expect(found);
                cr_expect(zero(sz, report->n_restarts));
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
}

Test(agent_commands, the_socket_is_roots_alone)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        g_autofree char *socket = tempdir_path(r->dir, "run/agent.sock");
        struct stat st;

        agent_rig_start(r);
        cr_assert(zero(int, stat(socket, &st)));
        cr_expect(eq(uint, st.st_mode & S_IFMT, S_IFSOCK));
        cr_expect(eq(uint, st.st_mode & 07777, 0600));
        agent_rig_stop(r);
        cr_expect(lt(int, stat(socket, &st), 0));
}

Test(agent_commands, status_tells_links_release_and_push)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        Moult__StatusQuery query = MOULT__STATUS_QUERY__INIT;

        agent_rig_start(r);
        g_autoptr(Client) c = connect_command(r);
        g_autoptr(Message) before = ask(c, MOULT__MESSAGE__BODY_STATUS_QUERY, &query, NULL);
        cr_assert(ne(ptr, before, NULL));
        cr_expect(eq(u32, before->status->sessions, 1));
        cr_expect(eq(ptr, before->status->current, NULL));
        cr_expect(eq(sz, before->status->release.len, 0));

        commit_release(r);
        g_autoptr(Message) after = ask(c, MOULT__MESSAGE__BODY_STATUS_QUERY, &query, NULL);
        cr_assert(ne(ptr, after, NULL));
        g_autofree char *release = message_string(after->status->release);
        cr_expect(eq(str, release, (char *)"test 2"));
        cr_assert(ne(ptr, after->status->current, NULL));
        cr_expect(eq(int, (int)after->status->current->phase, PHASE(COMMITTED)));
}

Test(agent_commands, history_and_rollback_give_the_old_files_back)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        Moult__HistoryQuery query = MOULT__HISTORY_QUERY__INIT;
        Moult__RollbackGeneration body = MOULT__ROLLBACK_GENERATION__INIT;
        static const guint8 id[16] = "command rollback";

        agent_rig_start(r);
        commit_release(r);
        g_autoptr(Client) c = connect_command(r);
        g_autoptr(Message) history = ask(c, MOULT__MESSAGE__BODY_HISTORY_QUERY, &query, NULL);
        cr_assert(ne(ptr, history, NULL));
        cr_assert(eq(sz, history->history->n_items, 1));
        cr_expect(history->history->items[0]->can_roll_back);

        body.push_id = message_blob(id, sizeof id);
        Message *state = ask(c, MOULT__MESSAGE__BODY_ROLLBACK, &body, NULL);
        cr_assert(ne(ptr, state, NULL));
        while (state->state->phase == PHASE(ROLLING_BACK)) {
                message_free(state);
                state = client_next_state(c, NULL);
                cr_assert(ne(ptr, state, NULL));
        }
        cr_expect(eq(int, (int)state->state->phase, PHASE(ROLLED_BACK)));
        cr_expect(zero(int, state_out_exit(state->state, PHASE(ROLLED_BACK))));
        message_free(state);
        g_autofree char *text = agent_rig_read(r, "etc/a");
        cr_expect(eq(str, text, (char *)"old a"));
}

Test(agent_commands, request_reaches_the_host_and_its_answer_comes_back)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        Moult__UpgradeRequest body = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData path = message_bytes("/usr/bin/openssl");
        g_autoptr(GError) error = NULL;

        body.paths = &path;
        body.n_paths = 1;
        agent_rig_start(r);
        g_autoptr(Client) c = connect_command(r);
        cr_expect(eq(ptr, ask(c, MOULT__MESSAGE__BODY_UPGRADE_REQUEST, &body, &error), NULL));
        cr_assert(ne(ptr, error, NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_NOT_FOUND));
        cr_expect(eq(str, error->message, (char *)"no release has these files"));

        r->host->accept_requests = TRUE;
        g_autoptr(Message) ack = ask(c, MOULT__MESSAGE__BODY_UPGRADE_REQUEST, &body, NULL);
        cr_assert(ne(ptr, ack, NULL));
        cr_expect(eq(int, (int)ack->body_case, MOULT__MESSAGE__BODY_ACK));
        cr_assert(eq(sz, r->host->request->upgrade_request->n_paths, 1));
        cr_expect(zero(int, memcmp(r->host->request->upgrade_request->paths[0].data, path.data, path.len)));

        fake_host_vanish(r->host);
        g_clear_error(&error);
        Message *gone = ask(c, MOULT__MESSAGE__BODY_UPGRADE_REQUEST, &body, &error);
        cr_expect(eq(ptr, gone, NULL), "nobody is there to ask");
        cr_expect(ne(ptr, error, NULL));
}

Test(agent_commands, a_command_may_not_do_what_only_the_host_may)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        Moult__Offer offer = MOULT__OFFER__INIT;
        Moult__PushCommand command = MOULT__PUSH_COMMAND__INIT;
        Moult__SourceKind serial = MOULT__SOURCE_KIND__SOURCE_SERIAL;
        g_autoptr(GError) error = NULL;

        agent_rig_start(r);
        agent_rig_release(r, "2", 0, "etc/a", "new a", NULL);
        g_autoptr(Client) c = connect_command(r);
        offer.push_id = message_blob(r->push_id, 16);
        offer.manifest_digest = message_blob(r->host->digest, 32);
        offer.pack_size = r->host->pack_size;
        offer.sources = &serial;
        offer.n_sources = 1;
        cr_expect(eq(ptr, ask(c, MOULT__MESSAGE__BODY_OFFER, &offer, &error), NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_WRONG_STATE));
        g_clear_error(&error);
        command.push_id = message_blob(r->push_id, 16);
        command.action = PUSH(ABORT);
        cr_expect(eq(ptr, ask(c, MOULT__MESSAGE__BODY_COMMAND, &command, &error), NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_WRONG_STATE));
}

Test(agent_commands, too_many_callers_are_turned_away_and_the_others_are_served)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        g_autofree char *socket = tempdir_path(r->dir, "run/agent.sock");
        struct client_options options = {.socket = socket};
        Client *callers[8];
        Moult__StatusQuery query = MOULT__STATUS_QUERY__INIT;
        g_autoptr(GError) error = NULL;

        agent_rig_start(r);
        for (size_t i = 0; i < G_N_ELEMENTS(callers); i++)
                callers[i] = connect_command(r);
        cr_expect(eq(ptr, client_connect(&options, &error), NULL));
        g_autoptr(Message) status = ask(callers[7], MOULT__MESSAGE__BODY_STATUS_QUERY, &query, NULL);
        cr_expect(ne(ptr, status, NULL));
        for (size_t i = 0; i < G_N_ELEMENTS(callers); i++)
                client_free(callers[i]);
        /* The agent sees that they hung up, and takes the next one. */
        g_autoptr(Client) next = NULL;
        while (!next)
                next = client_connect(&options, NULL);
        g_autoptr(Message) again = ask(next, MOULT__MESSAGE__BODY_STATUS_QUERY, &query, NULL);
        cr_expect(ne(ptr, again, NULL));
}

Test(agent_commands, without_a_daemon_the_error_says_what_to_do)
{
        struct client_options options = {.socket = (char *)"/nonexistent/agent.sock"};
        g_autoptr(GError) error = NULL;

        cr_expect(eq(ptr, client_connect(&options, &error), NULL));
        cr_expect(ne(ptr, strstr(error->message, "systemctl start moult-agent"), NULL));
}
