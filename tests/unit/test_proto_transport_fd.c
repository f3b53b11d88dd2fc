/* tests/unit/test_proto_transport_fd.c - a descriptor that goes away and comes back is never polled in a
 * loop. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "proto/limits.h"
#include "proto/transport.h"
#include "proto/transport_fd.h"
#include "tests/support/tempdir.h"

TestSuite(transport_fd, .timeout = 60);

struct end {
        Transport *transport;
        int up, away, closed, writable, events;
        guint64 received;
        gsize largest;
        GString *text; /* the first bytes */
        char *why;
        gboolean free_at_bytes, free_at_away;
};

static void on_bytes(gpointer user, const void *data, size_t len)
{
        struct end *e = user;

        e->events++;
        e->received += len;
        e->largest = MAX(e->largest, len);
        if (e->text->len < 100)
                g_string_append_len(e->text, data, (gssize)MIN(len, 100));
        if (e->free_at_bytes)
                g_clear_pointer(&e->transport, transport_free);
}

static void on_writable(gpointer user)
{
        struct end *e = user;

        e->writable++;
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        struct end *e = user;

        e->up += status == TRANSPORT_UP;
        e->away += status == TRANSPORT_AWAY;
        e->closed += status == TRANSPORT_CLOSED;
        if (error) {
                g_free(e->why);
                e->why = g_strdup(error->message);
        }
        if (status == TRANSPORT_AWAY && e->free_at_away)
                g_clear_pointer(&e->transport, transport_free);
}

static const struct transport_events events = {on_bytes, on_writable, on_status};

static void start(struct end *e, int fd, gboolean reopens)
{
        e->text = g_string_new(NULL);
        e->transport = transport_fd_new(fd, "virtio-serial", "the port", reopens);
        transport_set_events(e->transport, &events, e);
        transport_start(e->transport);
        cr_expect(zero(int, e->up)); /* the first event comes from the loop */
}

static void clear(struct end *e)
{
        transport_free(e->transport);
        g_string_free(e->text, TRUE);
        g_free(e->why);
}

static void socket_pair(int fds[2])
{
        cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
}

#define RUN_UNTIL(condition)                                                                                 \
        while (!(condition))                                                                                 \
        g_main_context_iteration(NULL, TRUE)

/* All that is ready now; fails if that has no end. */
static void run_until_idle(void)
{
        for (int i = 0; i < 1000; i++)
                if (!g_main_context_iteration(NULL, FALSE))
                        return;
        cr_fail("the loop spins");
}

Test(transport_fd, what_was_sent_before_the_end_is_delivered_before_it)
{
        struct end e = {0};
        int fds[2];

        socket_pair(fds);
        start(&e, fds[0], FALSE);
        RUN_UNTIL(e.up);
        cr_assert(eq(int, (int)write(fds[1], "last words", 10), 10));
        close(fds[1]);
        RUN_UNTIL(e.closed);
        cr_expect(eq(str, e.text->str, "last words"));
        cr_expect(ne(ptr, strstr(e.why, "the port"), NULL), "%s", e.why);
        cr_expect(zero(int, e.away));
        clear(&e);
}

Test(transport_fd, a_read_is_bounded_so_that_others_get_their_turn)
{
        struct end e = {0};
        int fds[2], size = 1 << 20;
        g_autofree guint8 *block = g_malloc0((gsize)size);
        ssize_t written;

        socket_pair(fds);
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        start(&e, fds[0], FALSE);
        RUN_UNTIL(e.up);
        written = send(fds[1], block, (gsize)size, MSG_DONTWAIT);
        cr_assert(gt(int, (int)written, 64 * 1024));
        RUN_UNTIL(e.received == (guint64)written);
        cr_expect(le(sz, e.largest, 64 * 1024));
        cr_expect(gt(int, e.events, 1));
        close(fds[1]);
        clear(&e);
}

Test(transport_fd, a_peer_that_does_not_read_is_waited_for_without_spinning)
{
        struct end e = {0};
        gsize size = LIMIT_SEND_LOW * 2, got = 0;
        g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(size), size);
        g_autofree guint8 *block = g_malloc(1 << 16);
        int fds[2];

        socket_pair(fds);
        start(&e, fds[0], FALSE);
        RUN_UNTIL(e.up);
        transport_send(e.transport, big);
        cr_expect(eq(sz, transport_queued(e.transport), size));
        run_until_idle();
        cr_expect(gt(sz, transport_queued(e.transport), LIMIT_SEND_LOW));
        cr_expect(zero(int, e.writable));
        while (got < size) {
                ssize_t n = recv(fds[1], block, 1 << 16, MSG_DONTWAIT);

                if (n > 0)
                        got += (gsize)n;
                run_until_idle();
        }
        cr_expect(eq(int, e.writable, 1));
        cr_expect(zero(sz, transport_queued(e.transport)));
        close(fds[1]);
        clear(&e);
}

Test(transport_fd, a_write_to_a_peer_that_left_closes_and_is_no_signal)
{
        struct end e = {0};
        g_autoptr(GBytes) b = g_bytes_new_static("x", 1);
        int fds[2];

        socket_pair(fds);
        start(&e, fds[0], FALSE);
        RUN_UNTIL(e.up);
        shutdown(fds[1], SHUT_RD);
        transport_send(e.transport, b);
        RUN_UNTIL(e.closed);
        close(fds[1]);
        clear(&e);
}

Test(transport_fd, away_drops_what_was_queued_and_leaves_the_poll_set)
{
        struct end e = {0};
        gsize size = LIMIT_SEND_LOW * 2;
        g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(size), size);
        int fds[2];

        socket_pair(fds);
        start(&e, fds[0], TRUE);
        RUN_UNTIL(e.up);
        transport_send(e.transport, big);
        run_until_idle();
        cr_expect(gt(sz, transport_queued(e.transport), 0));
        close(fds[1]);
        RUN_UNTIL(e.away);
        cr_expect(zero(sz, transport_queued(e.transport)));
        run_until_idle(); /* HUP is there all the time */
        transport_send(e.transport, big);
        cr_expect(zero(sz, transport_queued(e.transport))); /* nobody to send to */
        cr_expect(zero(int, e.closed));
        cr_expect(eq(int, e.away, 1));
        clear(&e);
}

/* A FIFO behaves as a virtio port does: HUP while no writer has it open, alive again when one comes. */
Test(transport_fd, a_port_whose_host_comes_back_is_up_again)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *path = tempdir_path(dir, "port");
        struct end e = {0};
        int reader, writer;

        cr_assert(zero(int, mkfifo(path, 0600)));
        reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        writer = open(path, O_WRONLY | O_CLOEXEC);
        start(&e, reader, TRUE);
        RUN_UNTIL(e.up == 1);
        for (int round = 1; round <= 2; round++) {
                cr_assert(eq(int, (int)write(writer, "hello", 5), 5));
                RUN_UNTIL(e.received == (guint64)round * 5);
                close(writer);
                RUN_UNTIL(e.away == round);
                run_until_idle();
                writer = open(path, O_WRONLY | O_CLOEXEC);
                RUN_UNTIL(e.up == round + 1); /* by its own timer */
        }
        cr_expect(zero(int, e.closed));
        close(writer);
        clear(&e);
}

Test(transport_fd, a_port_without_a_host_at_the_start_says_away)
{
        struct end e = {0};
        int fds[2];

        socket_pair(fds);
        close(fds[1]);
        start(&e, fds[0], TRUE);
        RUN_UNTIL(e.away || e.up);
        RUN_UNTIL(e.away);
        run_until_idle();
        cr_expect(zero(int, e.closed));
        clear(&e);
}

Test(transport_fd, owner_may_free_in_each_event)
{
        struct end a = {.free_at_bytes = TRUE}, b = {.free_at_away = TRUE};
        int fds[4];

        socket_pair(fds);
        socket_pair(fds + 2);
        start(&a, fds[0], TRUE);
        start(&b, fds[2], TRUE);
        RUN_UNTIL(a.up && b.up);
        cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
        close(fds[1]);
        close(fds[3]);
        RUN_UNTIL(a.received == 1 && b.away);
        run_until_idle();
        cr_expect(zero(int, a.away)); /* freed before the end was seen */
        cr_expect(eq(ptr, a.transport, NULL));
        cr_expect(eq(ptr, b.transport, NULL));
        clear(&a);
        clear(&b);
}
