/* tests/unit/test_guest_agent_source_session.c - a pack read over a session, by several threads, from a host
 * that may be wrong, slow, or gone. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/peers.h"
#include "guest-agent/source_session.h"
#include "guest-agent/worker.h"
#include "proto/limits.h"
#include "tests/support/fake_host.h"
#include "tests/support/tempdir.h"
#include "proto/transport_fd.h"

TestSuite(source_session, .timeout = 90);

#define PACK_SIZE (5u * 1024u * 1024u + 123u)

struct bench {
        TempDir *dir;
        FakeHost *host;
        Peers *peers;
        PackSource *source;
};

static void no_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
}
static void no_lost(Peer *p, const GError *why, gpointer user)
{
}
static void no_message(Peer *p, const Message *m, gpointer user)
{
}
static void no_writable(Peer *p, gpointer user)
{
}

static void connect_agent(struct bench *b)
{
        static const struct peer_link link = {NULL, no_lost};
        GSocketClient *client = g_socket_client_new();
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(b->host->path);
        g_autoptr(GSocketConnection) c =
                g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);

        g_object_unref(client);
        cr_assert(ne(ptr, c, NULL));
        peers_add(b->peers,
                  transport_fd_new(dup(g_socket_get_fd(g_socket_connection_get_socket(c))), "virtio-serial",
                                   "host", FALSE),
                  MOULT__ROLE__ROLE_HOST, MOULT__SOURCE_KIND__SOURCE_SERIAL, NULL, &link, b);
        while (!peers_host(b->peers, MOULT__SOURCE_KIND__SOURCE_SERIAL))
                g_main_context_iteration(NULL, TRUE);
}

static struct bench bench_new(void)
{
        static const struct peers_events events = {no_established, no_lost, no_message, no_writable};
        static const struct session_hello hello = {.role = MOULT__ROLE__ROLE_AGENT, .software = "agent"};
        struct bench b = {.dir = tempdir_new()};
        g_autofree char *path = tempdir_path(b.dir, "host.sock");

        b.host = fake_host_new(path);
        b.host->pack = g_malloc(PACK_SIZE);
        b.host->pack_size = PACK_SIZE;
        for (gsize i = 0; i < PACK_SIZE; i++)
                b.host->pack[i] = (guint8)(i * 2654435761u >> 13);
        memset(b.host->digest, 7, sizeof b.host->digest);
        b.peers = peers_new(&hello, &events, NULL);
        connect_agent(&b);
        b.source = source_session_new(b.peers, MOULT__SOURCE_KIND__SOURCE_SERIAL, b.host->digest, PACK_SIZE);
        return b;
}

static void bench_free(struct bench *b)
{
        pack_source_unref(b->source);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        peers_free(b->peers);
        fake_host_free(b->host);
        tempdir_free(b->dir);
}

/* One read in a thread of its own, as staging does it. */
struct read_job {
        PackSource *source;
        uint64_t offset;
        size_t len;
        guint8 *buf;
        GCancellable *cancellable;
        gboolean ok, done;
        GError *error;
        GThread *thread;
};

static void wake(gpointer job)
{
        ((struct read_job *)job)->done = TRUE;
}

static gpointer read_thread(gpointer user)
{
        struct read_job *j = user;

        j->ok = pack_source_read(j->source, j->offset, j->buf, j->len, j->cancellable, &j->error);
        main_context_post(NULL, wake, j);
        return NULL;
}

static struct read_job *start_read(struct bench *b, uint64_t offset, size_t len)
{
        struct read_job *j = g_new0(struct read_job, 1);

        *j = (struct read_job){.source = b->source,
                               .offset = offset,
                               .len = len,
                               .buf = g_malloc(len),
                               .cancellable = g_cancellable_new()};
        j->thread = g_thread_new("read", read_thread, j);
        return j;
}

static void wait_read(struct read_job *j)
{
        while (!j->done)
                g_main_context_iteration(NULL, TRUE);
        g_thread_join(j->thread);
}

static void free_read(struct read_job *j)
{
        g_clear_error(&j->error);
        g_object_unref(j->cancellable);
        g_free(j->buf);
        g_free(j);
}

Test(source_session, gives_exactly_the_bytes_that_several_threads_ask_for)
{
        struct bench b = bench_new();
        struct read_job *jobs[6] = {
                start_read(&b, 0, PACK_SIZE),     start_read(&b, 1, 1),
                start_read(&b, PACK_SIZE - 1, 1), start_read(&b, 4096, LIMIT_FETCH_BYTES),
                start_read(&b, 777, 3000000),     start_read(&b, PACK_SIZE - 300000, 300000),
        };

        for (int i = 0; i < 6; i++) {
                wait_read(jobs[i]);
                cr_assert(jobs[i]->ok, "%s", jobs[i]->error ? jobs[i]->error->message : "");
                cr_expect(zero(int, memcmp(jobs[i]->buf, b.host->pack + jobs[i]->offset, jobs[i]->len)));
                free_read(jobs[i]);
        }
        bench_free(&b);
}

Test(source_session, fails_when_the_host_hangs_up_in_the_middle)
{
        struct bench b = bench_new();

        b.host->hang_up_after = 2;
        struct read_job *j = start_read(&b, 0, PACK_SIZE);
        wait_read(j);
        cr_expect(not(j->ok));
        cr_expect(eq(int, (int)moult_error_code(j->error), MOULT_ERROR_IO));
        cr_expect(not(source_session_is_refused(b.source)));
        free_read(j);
        bench_free(&b);
}

Test(source_session, fails_at_once_without_a_session)
{
        struct bench b = bench_new();

        fake_host_vanish(b.host);
        while (peers_host(b.peers, MOULT__SOURCE_KIND__SOURCE_SERIAL))
                g_main_context_iteration(NULL, TRUE);
        struct read_job *j = start_read(&b, 0, 10);
        wait_read(j);
        cr_expect(not(j->ok));
        free_read(j);
        bench_free(&b);
}

Test(source_session, refuses_data_that_was_not_asked_for)
{
        struct bench b = bench_new();

        b.host->wrong_data = TRUE;
        struct read_job *j = start_read(&b, 0, 4096);
        wait_read(j);
        cr_expect(not(j->ok));
        cr_expect(eq(int, (int)moult_error_code(j->error), MOULT_ERROR_MALFORMED));
        free_read(j);
        bench_free(&b);
}

Test(source_session, tells_a_refusal_from_silence)
{
        struct bench b = bench_new();

        b.host->refuse = MOULT_ERROR_NOT_FOUND;
        struct read_job *j = start_read(&b, 0, 4096);
        wait_read(j);
        cr_expect(not(j->ok));
        cr_expect(source_session_is_refused(b.source));
        free_read(j);
        bench_free(&b);
}

static gboolean has_fetched(gpointer user)
{
        return ((FakeHost *)user)->fetches > 0;
}

Test(source_session, gives_up_at_once_when_cancelled_and_survives_the_late_answer)
{
        struct bench b = bench_new();

        b.host->silent = TRUE;
        struct read_job *j = start_read(&b, 0, 4096);
        fake_host_wait(has_fetched, b.host);
        g_cancellable_cancel(j->cancellable);
        wait_read(j);
        cr_expect(not(j->ok));
        cr_expect(g_error_matches(j->error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
        free_read(j);

        /* The slots that the abandoned fetches held are free again: far more reads than may be in flight
         * work. */
        b.host->silent = FALSE;
        for (unsigned i = 0; i < 2 * LIMIT_FETCHES_IN_FLIGHT; i++) {
                j = start_read(&b, i, 100);
                wait_read(j);
                cr_expect(j->ok);
                free_read(j);
        }
        bench_free(&b);
}

Test(source_session, is_left_for_a_better_source)
{
        struct bench b = bench_new();

        b.host->silent = TRUE;
        struct read_job *j = start_read(&b, 0, 4096);
        fake_host_wait(has_fetched, b.host);
        source_session_supersede(b.source);
        wait_read(j);
        cr_expect(not(j->ok));
        cr_expect(eq(int, (int)moult_error_code(j->error), MOULT_ERROR_IO));
        free_read(j);
        bench_free(&b);
}
