/* tests/unit/test_guests_hostile.c - a guest that floods, stalls or closes its port never delays another
 * guest's push.
 *
 * Asserted by what happens in which order, not by how long it takes: the good guest's push must end while the
 * bad one is still at it, and only the bad one loses its session. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <errno.h>
#include <glib/gstdio.h>

#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/transport_tls.h"
#include "tests/support/push_world.h"

TestSuite(hostile, .timeout = 110);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define MIB  (1024u * 1024u)

enum badness { NOISE, OLD_FRAMES, HUGE_FRAME, HELLOS, STALL, CLOSE, BADNESS_MAX };

/* A VM whose port is in the hands of the test. */
struct bad_guest {
        GSocketService *service;
        enum badness how;
        int fd;
        guint source;
        guint connections;
        guint64 written;
        guint8 block[65536];
        gsize block_len;
};

/* Each with a nonce of its own: each begins another session. */
static void fill_hellos(struct bad_guest *b)
{
        b->block_len = 0;
        for (guint32 n = 1;; n++) {
                guint8 nonce[16] = {0};
                Message m = MOULT__MESSAGE__INIT;
                Moult__Hello hello = MOULT__HELLO__INIT;
                g_autoptr(GBytes) payload = NULL, frame = NULL;

                memcpy(nonce, &n, sizeof n);
                hello.version_min = hello.version_max = 1;
                hello.role = MOULT__ROLE__ROLE_AGENT;
                hello.nonce = message_blob(nonce, sizeof nonce);
                m.body_case = MOULT__MESSAGE__BODY_HELLO;
                m.hello = &hello;
                payload = message_pack(&m);
                frame = frame_encode(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));
                if (b->block_len + g_bytes_get_size(frame) > sizeof b->block)
                        return;
                memcpy(b->block + b->block_len, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
                b->block_len += g_bytes_get_size(frame);
        }
}

static void fill_block(struct bad_guest *b)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__Ping ping = MOULT__PING__INIT;
        g_autoptr(GBytes) payload = NULL, frame = NULL;

        memset(b->block, 'M', sizeof b->block); /* the first byte of a frame's magic, again and again */
        b->block_len = sizeof b->block;
        m.id = 5;
        m.body_case = MOULT__MESSAGE__BODY_PING;
        m.ping = &ping;
        payload = message_pack(&m);
        frame = frame_encode(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));
        if (b->how == OLD_FRAMES)
                for (b->block_len = 0; b->block_len + g_bytes_get_size(frame) <= sizeof b->block;
                     b->block_len += g_bytes_get_size(frame))
                        memcpy(b->block + b->block_len, g_bytes_get_data(frame, NULL),
                               g_bytes_get_size(frame));
        if (b->how == HELLOS)
                fill_hellos(b);
        if (b->how == HUGE_FRAME) { /* a good header whose payload never ends, then whatever */
                g_autofree guint8 *payload_bytes = g_malloc0(LIMIT_FRAME_PAYLOAD);
                g_autoptr(GBytes) huge = frame_encode(payload_bytes, LIMIT_FRAME_PAYLOAD);

                memcpy(b->block, g_bytes_get_data(huge, NULL), sizeof b->block);
        }
}

static void hang_up(struct bad_guest *b)
{
        g_clear_handle_id(&b->source, g_source_remove);
        if (b->fd >= 0)
                close(b->fd);
        b->fd = -1;
}

static gboolean on_room(gint fd, GIOCondition condition, gpointer user)
{
        struct bad_guest *b = user;
        ssize_t n = send(fd, b->block, b->block_len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN) {
                b->source = 0;
                hang_up(b);
                return G_SOURCE_REMOVE;
        }
        b->written += n > 0 ? (guint64)n : 0;
        return G_SOURCE_CONTINUE;
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        struct bad_guest *b = user;

        hang_up(b);
        b->connections++;
        if (b->how == CLOSE)
                return TRUE;
        b->fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn)), F_DUPFD_CLOEXEC, 3);
        if (b->how != STALL)
                b->source = g_unix_fd_add(b->fd, G_IO_OUT, on_room, b);
        return TRUE;
}

static void bad_guest_add(World *w, struct bad_guest *b, enum badness how)
{
        g_autofree char *path = tempdir_path(w->dir, "bad.a");
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
        const struct guest_view *view = push_manager_guest_view(w->manager);
        VmRecord r = {.name = (char *)"bad", .agent = path};

        memset(b, 0, sizeof *b);
        b->fd = -1;
        b->how = how;
        fill_block(b);
        b->service = g_socket_service_new();
        cr_assert(g_socket_listener_add_address(G_SOCKET_LISTENER(b->service), address, G_SOCKET_TYPE_STREAM,
                                                G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, NULL));
        g_signal_connect(b->service, "incoming", G_CALLBACK(on_incoming), b);
        cr_assert(catalogue_vm_add(w->catalogue, &r, NULL));
        view->ops->vm_changed(view->self, "bad");
}

static void bad_guest_clear(struct bad_guest *b)
{
        hang_up(b);
        g_socket_service_stop(b->service);
        g_socket_listener_close(G_SOCKET_LISTENER(b->service));
        g_object_unref(b->service);
}

static gboolean is_at_it(World *w, gpointer user)
{
        struct bad_guest *b = user;

        return b->how == CLOSE   ? b->connections >= 2
               : b->how == STALL ? b->connections >= 1
                                 : b->written > MIB;
}

ParameterizedTestParameters(hostile, a_bad_guest_does_not_delay_a_good_one)
{
        static enum badness cases[] = {NOISE, OLD_FRAMES, HUGE_FRAME, HELLOS, STALL, CLOSE};

        return cr_make_param_array(enum badness, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(enum badness *how, hostile, a_bad_guest_does_not_delay_a_good_one)
{
        static const char *const names[] = {"bad", "good", NULL};
        g_autoptr(World) w = world_new(2 * MIB);
        struct world_vm *good = world_add_vm(w, "good", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) bad_push = NULL, good_push = NULL;
        struct bad_guest bad;

        bad_guest_add(w, &bad, *how);
        world_run(w, is_at_it, &bad);
        fake_agent_script(good->agent)->fetches = TRUE;
        fake_agent_script(good->agent)->expected = w->pack;
        op = world_push(w, &(struct push_options){0}, names);
        world_run_until_logged(w, "good committed");
        bad_push = world_record(w, op, "bad");
        cr_expect(eq(int, bad_push->state, PUSH_STATE_CONNECT), "the bad guest's push still waits");
        cr_assert(jobs_cancel(w->jobs, op, NULL));
        world_run_until_ended(w, op);
        good_push = world_record(w, op, "good");
        cr_expect(eq(int, good_push->state, PUSH_STATE_DONE));
        cr_expect(eq(u32, world_count(w, "good connected"), 1), "the good guest's session was never touched");
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_PARTIAL));
        bad_guest_clear(&bad);
}

static void send_state(FakeAgent *a, guint8 id_byte, Moult__TransactionPhase phase)
{
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;
        Message m = MOULT__MESSAGE__INIT;
        guint8 id[16];

        memset(id, id_byte, sizeof id);
        s.push_id = message_blob(id, sizeof id);
        s.phase = phase;
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &s;
        if (fake_agent_session(a))
                session_send(fake_agent_session(a), &m);
}

Test(hostile, a_flood_of_messages_costs_a_guest_its_session_and_no_other)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *bad = world_add_vm(w, "bad", FALSE);
        g_autofree char *op = NULL;

        world_add_vm(w, "good", FALSE);
        world_run_until_logged(w, "bad connected");
        world_run_until_logged(w, "good connected");
        for (int i = 0; i < 5000; i++)
                send_state(bad->agent, 9, P(COMMITTED));
        op = world_push_one(w, "good");
        world_run_until_logged(w, "bad closed by host");
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
        cr_expect(eq(int, world_logged(w, "good closed by host"), -1));
}

static gboolean is_connected_again(World *w, gpointer user)
{
        return world_count(w, "bad connected") >= 2;
}

/* Far below the byte rate, and the session itself answers each: its own bound has to hold. */
Test(hostile, a_flood_of_pings_costs_a_guest_its_session_and_no_other)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *bad = world_add_vm(w, "bad", FALSE);
        g_autofree char *op = NULL;

        world_add_vm(w, "good", FALSE);
        world_run_until_logged(w, "bad connected");
        world_run_until_logged(w, "good connected");
        for (int i = 0; i < 2000; i++) {
                Moult__Ping ping = MOULT__PING__INIT;
                Message m = MOULT__MESSAGE__INIT;

                m.body_case = MOULT__MESSAGE__BODY_PING;
                m.ping = &ping;
                session_send(fake_agent_session(bad->agent), &m);
        }
        op = world_push_one(w, "good");
        world_run(w, is_connected_again, NULL);
        world_run_until_ended(w, op);
        cr_expect(eq(int, world_operation_state(w, op), OPERATION_SUCCEEDED));
        cr_expect(eq(u32, world_count(w, "good connected"), 1));
}

Test(hostile, a_guest_cannot_speak_for_another_ones_push)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *bad = world_add_vm(w, "bad", FALSE), *good = world_add_vm(w, "good", FALSE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;
        Message m = MOULT__MESSAGE__INIT;

        fake_agent_script(good->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "bad connected");
        op = world_push_one(w, "good");
        world_run_until_phase(w, good, P(STAGING));
        r = world_record(w, op, "good");
        s.push_id = message_blob(r->push_id, sizeof r->push_id);
        s.phase = P(COMMITTED);
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &s;
        session_send(fake_agent_session(bad->agent), &m);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_expect(not(operation_state_is_final(world_operation_state(w, op))));
        fake_agent_go_on(good->agent);
        world_run_until_ended(w, op);
        cr_expect(eq(u32, fake_agent_commits(good->agent), 1));
}

static void on_fetch(Session *s, const Message *reply, const GError *error, gpointer user)
{
        *(int *)user = error ? error->code : -1;
}

static gboolean is_set(World *w, gpointer user)
{
        return *(int *)user != 0;
}

Test(hostile, a_guest_gets_blocks_of_the_packs_offered_to_it_only)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *other = world_add_vm(w, "other", FALSE), *good = world_add_vm(w, "good", FALSE);
        g_autofree char *op = NULL;
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;
        int refused = 0, served = 0, after = 0;

        fake_agent_script(good->agent)->hold_at = P(STAGING);
        world_run_until_logged(w, "other connected");
        op = world_push_one(w, "good");
        world_run_until_phase(w, good, P(STAGING));
        fetch.manifest_digest = message_blob(w->release->digest, DIGEST_SIZE);
        fetch.length = 10;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        session_request(fake_agent_session(other->agent), &m, 0, on_fetch, &refused);
        world_run(w, is_set, &refused);
        cr_expect(eq(int, refused, MOULT_ERROR_NOT_FOUND));
        session_request(fake_agent_session(good->agent), &m, 0, on_fetch, &served);
        world_run(w, is_set, &served);
        cr_expect(eq(int, served, -1));
        fake_agent_go_on(good->agent);
        world_run_until_ended(w, op);
        session_request(fake_agent_session(good->agent), &m, 0, on_fetch, &after);
        world_run(w, is_set, &after);
        cr_expect(eq(int, after, MOULT_ERROR_NOT_FOUND), "no longer offered");
}

/* Every phase in every order that a liar may choose: no crash, and an end. */
Test(hostile, a_guest_that_lies_about_its_phases_ends_up_somewhere)
{
        g_autoptr(World) w = world_new(MIB);
        struct world_vm *liar = world_add_vm(w, "liar", TRUE);
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;
        g_autoptr(GRand) rand = g_rand_new_with_seed(7);

        fake_agent_script(liar->agent)->hold_at = P(PLANNING);
        op = world_push_one(w, "liar");
        world_run_until_logged(w, "liar offered");
        r = world_record(w, op, "liar");
        for (int i = 0; i < 400 && !operation_state_is_final(world_operation_state(w, op)); i++) {
                Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;
                Message m = MOULT__MESSAGE__INIT;

                s.push_id = message_blob(r->push_id, sizeof r->push_id);
                s.phase = (Moult__TransactionPhase)g_rand_int_range(rand, P(NONE), P(COMMITTED));
                s.bytes_total = 5;
                s.bytes_done = G_MAXUINT64;
                s.entries_blocked = G_MAXUINT32;
                m.body_case = MOULT__MESSAGE__BODY_STATE;
                m.state = &s;
                if (fake_agent_session(liar->agent))
                        session_send(fake_agent_session(liar->agent), &m);
                while (g_main_context_iteration(NULL, FALSE))
                        ;
        }
        fake_agent_go_on(liar->agent);
        world_run_until_ended(w, op);
        cr_expect(eq(u32, fake_qmp_objects(liar->qmp), 0));
}

/* --- over the network
 * ------------------------------------------------------------------------------------------ */

/* A port that was free a moment ago. */
static char *free_endpoint(void)
{
        g_autoptr(GSocketListener) probe = g_socket_listener_new();
        guint16 port = g_socket_listener_add_any_inet_port(probe, NULL, NULL);

        g_socket_listener_close(probe);
        return g_strdup_printf("127.0.0.1:%u", port);
}

struct network {
        char *endpoint;
        const char *endpoints[2];
        TlsIdentity *agent_id;
};

static void world_on_network(World *w, struct network *n)
{
        g_autofree char *host_dir = tempdir_path(w->dir, "host-id"),
                        *agent_dir = tempdir_path(w->dir, "agent-id");

        world_kill_daemon(w);
        g_mkdir(host_dir, 0700);
        g_mkdir(agent_dir, 0700);
        w->identity = tls_identity_load(host_dir, "moultd", NULL);
        n->agent_id = tls_identity_load(agent_dir, "agent", NULL);
        cr_assert(w->identity && n->agent_id);
        n->endpoint = free_endpoint();
        n->endpoints[0] = n->endpoint;
        n->endpoints[1] = NULL;
        w->config.identity = w->identity;
        w->config.tls_endpoints = n->endpoints;
        world_start_daemon(w);
}

static gboolean accept_any(const guint8 fingerprint[static DIGEST_SIZE], gpointer user)
{
        return TRUE;
}

static void call_host(const struct network *n, FakeAgent *a)
{
        g_autoptr(GSocketClient) client = g_socket_client_new();
        g_autoptr(GSocketConnection) conn =
                g_socket_client_connect_to_host(client, n->endpoint, 0, NULL, NULL);
        int fd;

        cr_assert(ne(ptr, conn, NULL));
        fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn)), F_DUPFD_CLOEXEC, 3);
        fake_agent_attach(a, transport_tls_new(fd, FALSE, n->agent_id, "host", accept_any, NULL));
}

static void network_clear(struct network *n)
{
        g_free(n->endpoint);
        tls_identity_free(n->agent_id);
}

static void add_network_vm(World *w, const char *name, const char *token)
{
        g_autofree char *hash = token ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1) : NULL;
        VmRecord r = {.name = (char *)name, .network = TRUE, .token_hash = hash};
        const struct guest_view *view = push_manager_guest_view(w->manager);

        cr_assert(catalogue_vm_add(w->catalogue, &r, NULL));
        view->ops->vm_changed(view->self, name);
}

Test(hostile, a_pinned_agent_is_pushed_to_over_tls_alone)
{
        g_autoptr(World) w = world_new(2 * MIB);
        struct network n;
        g_autoptr(FakeAgent) agent = fake_agent_new("net-1", NULL, w->log);
        const char *vms[] = {"net-1", NULL};
        struct push_options o = {.transport = PUSH_TRANSPORT_TLS};
        g_autofree char *op = NULL;
        g_autoptr(PushRecord) r = NULL;

        world_on_network(w, &n);
        add_network_vm(w, "net-1", NULL);
        cr_assert(catalogue_vm_pin(w->catalogue, "net-1", tls_identity_fingerprint(n.agent_id), NULL));
        fake_agent_script(agent)->fetches = TRUE;
        fake_agent_script(agent)->expected = w->pack;
        op = world_push(w, &o, vms);
        call_host(&n, agent);
        world_run_until_ended(w, op);
        r = world_record(w, op, "net-1");
        cr_expect(eq(int, r->state, PUSH_STATE_DONE), "%s", r->text);
        cr_expect(eq(int, r->source, MOULT__SOURCE_KIND__SOURCE_TLS));
        network_clear(&n);
}

Test(hostile, a_join_token_lets_in_once_and_pins)
{
        g_autoptr(World) w = world_new(MIB);
        struct network n;
        g_autoptr(FakeAgent) agent = fake_agent_new("net-1", NULL, w->log);
        g_autoptr(VmRecord) vm = NULL;

        world_on_network(w, &n);
        add_network_vm(w, "net-1", "open-sesame");
        fake_agent_script(agent)->join_token = "open-sesame";
        call_host(&n, agent);
        world_run_until_logged(w, "net-1 connected");
        while (g_main_context_iteration(NULL, FALSE))
                ;
        vm = catalogue_vm_get(w->catalogue, "net-1", NULL);
        cr_expect(vm->has_pin);
        cr_expect(eq(ptr, vm->token_hash, NULL));
        cr_expect(zero(int, memcmp(vm->pin, tls_identity_fingerprint(n.agent_id), DIGEST_SIZE)));
        network_clear(&n);
}

Test(hostile, a_stranger_is_turned_away_and_the_token_is_still_good)
{
        g_autoptr(World) w = world_new(MIB);
        struct network n;
        g_autoptr(FakeAgent) agent = fake_agent_new("net-1", NULL, w->log);
        g_autoptr(VmRecord) vm = NULL;

        world_on_network(w, &n);
        add_network_vm(w, "net-1", "open-sesame");
        fake_agent_script(agent)->join_token = "guess";
        call_host(&n, agent);
        world_run_until_logged(w, "net-1 closed by host");
        vm = catalogue_vm_get(w->catalogue, "net-1", NULL);
        cr_expect(not(vm->has_pin));
        cr_expect(ne(ptr, vm->token_hash, NULL));
        network_clear(&n);
}
