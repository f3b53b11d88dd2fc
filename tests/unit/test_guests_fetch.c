/* tests/unit/test_guests_fetch.c - blocks of a pack for a guest: the right bytes, within bounds, for whoever
 * may. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/guests/fetch.h"
#include "proto/limits.h"
#include "tests/support/memory_transport.h"
#include "tests/support/tempdir.h"

TestSuite(fetch, .timeout = 110);

#define PACK_SIZE (LIMIT_FETCH_BYTES * 12 + 333)

/* Host and agent, with a wire between them that the test moves frames along. */
struct rig {
        TempDir *dir;
        struct host_env *env;
        FetchPack *pack;
        FetchServer *server;
        MemoryTransport *wires[2];
        Session *host, *agent;
        guint refused;
        struct ask {
                gboolean done;
                int error;
                guint64 bytes;
                guint8 sum;
        } asks[32];
};

static FetchPack *lookup(const guint8 *digest, gsize len, gpointer user)
{
        struct rig *r = user;

        return len == DIGEST_SIZE && memcmp(digest, fetch_pack_digest(r->pack), len) == 0 ? r->pack : NULL;
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
}

static void on_gone(Session *s, const GError *why, gpointer user)
{
        cr_fatal("%s", why->message);
}

static void on_host_message(Session *s, const Message *m, gpointer user)
{
        struct rig *r = user;

        cr_assert(eq(int, m->body_case, MOULT__MESSAGE__BODY_FETCH));
        r->refused += !fetch_server_request(r->server, m);
}

static void on_agent_message(Session *s, const Message *m, gpointer user)
{
}

static void on_writable(Session *s, gpointer user)
{
        fetch_server_writable(((struct rig *)user)->server);
}

static const struct session_events host_events = {on_established, on_gone, on_gone, on_host_message,
                                                  on_writable};
static const struct session_events agent_events = {on_established, on_gone, on_gone, on_agent_message, NULL};

/* No pattern: what packs well does not fill a queue. */
static guint8 byte_at(guint64 offset)
{
        guint64 x = (offset + 1) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);

        x = (x ^ x >> 30) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
        return (guint8)(x >> 40);
}

/* One direction of the wire; FALSE if there was nothing. */
static gboolean carry(struct rig *r, int from)
{
        g_autoptr(GBytes) frame = memory_transport_take(r->wires[from]);
        gsize len;
        const void *data;

        if (!frame)
                return FALSE;
        data = g_bytes_get_data(frame, &len);
        memory_transport_feed(r->wires[1 - from], data, len);
        memory_transport_writable(r->wires[from]);
        return TRUE;
}

static void settle(struct rig *r)
{
        gboolean busy = TRUE;

        while (busy) {
                busy = carry(r, 0);
                busy |= carry(r, 1);
        }
}

static void rig_up(struct rig *r)
{
        struct session_hello host = {.role = MOULT__ROLE__ROLE_HOST, .software = "host"};
        struct session_hello agent = {.role = MOULT__ROLE__ROLE_AGENT, .software = "agent"};
        g_autoptr(GError) error = NULL;
        g_autofree char *state = NULL;
        g_autofree guint8 *bytes = g_malloc(PACK_SIZE);
        guint8 digest[DIGEST_SIZE];
        int fd;

        memset(r, 0, sizeof *r);
        r->dir = tempdir_new();
        state = tempdir_path(r->dir, "state");
        r->env = host_env_real_new(state, &error);
        cr_assert(eq(ptr, error, NULL));
        for (guint64 i = 0; i < PACK_SIZE; i++)
                bytes[i] = byte_at(i);
        fd = r->env->store->create(r->env->self, "new", NULL);
        cr_assert(fd_write_all(fd, bytes, PACK_SIZE, "pack", NULL));
        cr_assert(r->env->store->seal(r->env->self, "new", fd, "a.moult", NULL));
        memset(digest, 0x5a, sizeof digest);
        r->pack = fetch_pack_new(r->env, digest, "a.moult", PACK_SIZE);
        for (int i = 0; i < 2; i++)
                r->wires[i] = memory_transport_new();
        r->host = session_new(memory_transport_transport(r->wires[0]), &host, &host_events, r);
        r->agent = session_new(memory_transport_transport(r->wires[1]), &agent, &agent_events, r);
        r->server = fetch_server_new(r->env, r->host, lookup, r);
        session_start(r->host);
        session_start(r->agent);
        memory_transport_set_status(r->wires[0], TRANSPORT_UP);
        memory_transport_set_status(r->wires[1], TRANSPORT_UP);
        settle(r);
        cr_assert(session_is_established(r->host));
        cr_assert(session_is_established(r->agent));
}

static void rig_down(struct rig *r)
{
        fetch_server_free(r->server);
        session_unref(r->host);
        session_unref(r->agent);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        host_env_real_free(r->env); /* joins the workers */
        while (g_main_context_iteration(NULL, FALSE))
                ;
        for (int i = 0; i < 2; i++)
                memory_transport_unref(r->wires[i]);
        fetch_pack_unref(r->pack);
        tempdir_free(r->dir);
}

static void on_data(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct ask *a = user;

        if (error) {
                a->done = TRUE;
                a->error = error->code;
                return;
        }
        for (gsize i = 0; i < reply->data->bytes.len; i++)
                if (reply->data->bytes.data[i] != byte_at(reply->data->offset + i))
                        a->error = -1;
        a->bytes += reply->data->bytes.len;
        a->done = reply->data->last;
}

static void ask_for(struct rig *r, guint n, guint8 digest_byte, guint64 offset, guint32 length)
{
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;
        guint8 digest[DIGEST_SIZE];

        memset(digest, digest_byte, sizeof digest);
        fetch.manifest_digest = message_blob(digest, sizeof digest);
        fetch.offset = offset;
        fetch.length = length;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        cr_assert(session_request(r->agent, &m, 0, on_data, &r->asks[n]) != 0);
}

static void run_until_answered(struct rig *r, guint n)
{
        settle(r);
        while (!r->asks[n].done) {
                g_main_context_iteration(NULL, TRUE);
                settle(r);
        }
}

Test(fetch, gives_exactly_the_bytes_asked_for)
{
        static const struct {
                guint64 offset;
                guint32 length;
        } ranges[] = {{0, 1},
                      {0, LIMIT_FETCH_BYTES},
                      {17, LIMIT_DATA_BYTES + 1},
                      {PACK_SIZE - 1, 1},
                      {PACK_SIZE - 333, 333},
                      {5, LIMIT_DATA_BYTES}};
        struct rig r;

        rig_up(&r);
        for (guint i = 0; i < G_N_ELEMENTS(ranges); i++) {
                ask_for(&r, i, 0x5a, ranges[i].offset, ranges[i].length);
                run_until_answered(&r, i);
                cr_expect(eq(int, r.asks[i].error, 0));
                cr_expect(eq(u64, r.asks[i].bytes, ranges[i].length));
        }
        rig_down(&r);
}

Test(fetch, refuses_other_packs_and_what_lies_outside)
{
        static const struct {
                guint8 digest;
                guint64 offset;
                guint32 length;
                int error;
        } bad[] = {{0x5b, 0, 1, MOULT_ERROR_NOT_FOUND},
                   {0x5a, PACK_SIZE, 1, MOULT_ERROR_CORRUPT},
                   {0x5a, PACK_SIZE - 1, 2, MOULT_ERROR_CORRUPT},
                   {0x5a, G_MAXUINT64, 1, MOULT_ERROR_MALFORMED},
                   {0x5a, G_MAXUINT64 - 10, LIMIT_FETCH_BYTES, MOULT_ERROR_MALFORMED}};
        struct rig r;

        rig_up(&r);
        for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
                ask_for(&r, i, bad[i].digest, bad[i].offset, bad[i].length);
                run_until_answered(&r, i);
                cr_expect(eq(int, r.asks[i].error, bad[i].error));
        }
        cr_expect(eq(u32, r.refused, 3), "the others do not pass the content gate");
        cr_expect(eq(u64, fetch_server_sent(r.server), 0));
        rig_down(&r);
}

Test(fetch, more_requests_than_allowed_are_refused_at_once)
{
        struct rig r;
        guint busy = 0;

        rig_up(&r);
        for (guint i = 0; i < LIMIT_FETCHES_IN_FLIGHT + 5; i++)
                ask_for(&r, i, 0x5a, 0, 100);
        while (carry(&r, 1)) /* all of them arrive before a worker's answer can */
                ;
        for (guint i = 0; i < LIMIT_FETCHES_IN_FLIGHT + 5; i++) {
                run_until_answered(&r, i);
                busy += r.asks[i].error == MOULT_ERROR_BUSY;
        }
        cr_expect(eq(u32, busy, 5));
        rig_down(&r);
}

static gboolean has_work(struct rig *r, gsize *last)
{
        gsize now = session_queued(r->host);
        gboolean grew = now != *last;

        *last = now;
        return grew;
}

Test(fetch, a_guest_that_does_not_take_its_data_holds_a_bounded_amount)
{
        struct rig r;
        gsize last = 0;

        rig_up(&r);
        for (guint i = 0; i < LIMIT_FETCHES_IN_FLIGHT; i++)
                ask_for(&r, i, 0x5a, i * LIMIT_FETCH_BYTES, LIMIT_FETCH_BYTES);
        while (carry(&r, 1))
                ;
        /* Each read is one turn of the loop with something to do; the wire to the guest stands still. */
        while (session_queued(r.host) < LIMIT_SEND_LOW)
                g_main_context_iteration(NULL, TRUE);
        while (g_main_context_iteration(NULL, FALSE) || has_work(&r, &last))
                ;
        cr_expect(le(sz, session_queued(r.host), LIMIT_SEND_LOW + LIMIT_FETCH_BYTES + 4096));
        cr_expect(session_is_established(r.host));
        run_until_answered(&r, LIMIT_FETCHES_IN_FLIGHT - 1); /* it comes back, and gets the rest */
        for (guint i = 0; i < LIMIT_FETCHES_IN_FLIGHT; i++)
                cr_expect(eq(u64, r.asks[i].bytes, LIMIT_FETCH_BYTES));
        rig_down(&r);
}

Test(fetch, requests_of_a_conversation_that_is_over_are_forgotten)
{
        struct rig r;

        rig_up(&r);
        for (guint i = 0; i < 4; i++)
                ask_for(&r, i, 0x5a, 0, LIMIT_FETCH_BYTES);
        while (carry(&r, 1))
                ;
        fetch_server_reset(r.server); /* one is being read, three wait */
        ask_for(&r, 5, 0x5a, 7, 9);
        run_until_answered(&r, 5);
        cr_expect(eq(u64, r.asks[5].bytes, 9));
        cr_expect(eq(u64, r.asks[0].bytes, 0));
        cr_expect(eq(u64, fetch_server_sent(r.server), 9));
        rig_down(&r);
}

Test(fetch, a_pack_that_cannot_be_read_is_an_error_for_the_guest_not_for_us)
{
        struct rig r;
        FetchPack *missing;
        guint8 digest[DIGEST_SIZE];

        rig_up(&r);
        memset(digest, 0x5a, sizeof digest);
        missing = fetch_pack_new(r.env, digest, "gone.moult", 4096);
        fetch_pack_unref(r.pack);
        r.pack = missing;
        ask_for(&r, 0, 0x5a, 0, 4096);
        run_until_answered(&r, 0);
        cr_expect(eq(int, r.asks[0].error, MOULT_ERROR_NOT_FOUND));
        rig_down(&r);
}
