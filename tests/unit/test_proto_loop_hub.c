/* tests/unit/test_proto_loop_hub.c - many descriptors are one to the loop, and yet each is heard as poll(2)
 * would tell it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/loop_hub.h"
#include "tests/support/tempdir.h"

TestSuite(loop_hub, .timeout = 60);

#define NEVER_US (g_get_monotonic_time() + 3600 * (gint64)G_USEC_PER_SEC)

/* An item with a descriptor of its own, and what happened to it. */
struct end {
        HubItem item;
        int fd;
        guint events, due, order;
        GIOCondition got;
        gboolean takes; /* what is there */
        void (*then)(struct end *e, gpointer user);
        gpointer user;
};

static guint order; /* of dispatches */

static void on_event(gpointer user)
{
        struct end *e = user;
        guint8 buf[64];

        e->events++;
        e->order = ++order;
        e->got = hub_item_got(&e->item);
        e->due += hub_item_is_due(&e->item) ? 1 : 0;
        if (e->takes && (e->got & G_IO_IN))
                cr_assert(ge(sz, (size_t)read(e->fd, buf, sizeof buf), 1));
        if (e->then)
                e->then(e, e->user); /* may free it */
}

static struct end *add(int fd, GIOCondition wanted)
{
        struct end *e = g_new0(struct end, 1);

        e->fd = fd;
        hub_item_add(&e->item, fd, on_event, e);
        if (wanted)
                hub_item_want(&e->item, wanted);
        return e;
}

static void drop(struct end *e)
{
        hub_item_remove(&e->item);
        if (e->fd >= 0)
                close(e->fd);
        g_free(e);
}

static int counter(guint64 value)
{
        int fd = eventfd((unsigned)value, EFD_CLOEXEC | EFD_NONBLOCK);

        cr_assert(ge(int, fd, 0));
        return fd;
}

static void turn(void)
{
        g_main_context_iteration(NULL, FALSE);
}

static void turns(guint n)
{
        while (n-- > 0)
                turn();
}

/* --- what it is for --- */

static int polled_by_the_loop(void)
{
        GMainContext *context = g_main_context_default();
        GPollFD fds[256];
        gint priority, timeout;
        int n;

        cr_assert(g_main_context_acquire(context));
        g_main_context_prepare(context, &priority);
        n = g_main_context_query(context, priority, &timeout, fds, G_N_ELEMENTS(fds));
        g_main_context_check(context, priority, fds, n);
        g_main_context_release(context);
        return n;
}

Test(loop_hub, a_hundred_descriptors_are_one_to_the_loop)
{
        struct end *ends[100];
        int before = polled_by_the_loop();

        for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
                ends[i] = add(counter(0), G_IO_IN);
        cr_expect(eq(int, polled_by_the_loop(), before + 1));
        for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
                drop(ends[i]);
        cr_expect(eq(int, polled_by_the_loop(), before));
}

/* --- as poll(2) tells it --- */

Test(loop_hub, what_was_not_taken_is_told_again)
{
        struct end *e = add(counter(1), G_IO_IN);

        turns(3);
        cr_expect(eq(u32, e->events, 3));
        cr_expect(eq(int, (int)e->got, G_IO_IN));
        e->takes = TRUE;
        turns(3);
        cr_expect(eq(u32, e->events, 4));
        drop(e);
}

Test(loop_hub, what_is_wanted_can_change)
{
        int pair[2];
        struct end *e;

        cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0));
        e = add(pair[0], G_IO_IN);
        turn();
        cr_expect(eq(u32, e->events, 0));
        hub_item_want(&e->item, G_IO_IN | G_IO_OUT);
        turn();
        cr_expect(eq(u32, e->events, 1));
        cr_expect(eq(int, (int)e->got, G_IO_OUT));
        hub_item_want(&e->item, G_IO_IN);
        turn();
        cr_expect(eq(u32, e->events, 1));
        drop(e);
        close(pair[1]);
}

/* A port without a host says so as long as that lasts: who wants nothing must not hear it. */
Test(loop_hub, a_hang_up_is_told_unasked_but_not_to_who_wants_nothing)
{
        int pair[2];
        struct end *e;

        cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0));
        e = add(pair[0], 0);
        close(pair[1]);
        turns(3);
        cr_expect(eq(u32, e->events, 0));
        cr_expect(not(g_main_context_pending(NULL)));
        hub_item_want(&e->item, G_IO_PRI);
        turn();
        cr_expect(eq(u32, e->events, 1));
        cr_expect(eq(int, (int)(e->got & G_IO_HUP), G_IO_HUP));
        hub_item_want(&e->item, 0);
        turns(3);
        cr_expect(eq(u32, e->events, 1));
        cr_expect(not(g_main_context_pending(NULL))); /* nor is the loop woken for nothing */
        drop(e);
}

Test(loop_hub, a_regular_file_which_epoll_refuses_is_always_ready)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *path = tempdir_path(dir, "file");
        struct end *e = add(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), G_IO_IN);

        turns(2);
        cr_expect(eq(u32, e->events, 2));
        cr_expect(eq(int, (int)e->got, G_IO_IN));
        hub_item_want(&e->item, G_IO_OUT);
        turn();
        cr_expect(eq(int, (int)e->got, G_IO_OUT));
        hub_item_want(&e->item, 0);
        turns(2);
        cr_expect(eq(u32, e->events, 3));
        hub_item_want(&e->item, G_IO_IN);
        drop(e); /* while it is polled */
        turn();
}

Test(loop_hub, two_items_on_one_descriptor_both_hear)
{
        int fd = counter(1);
        struct end *a = add(fd, G_IO_IN), *b = add(fd, G_IO_IN);

        turn();
        cr_expect(eq(u32, a->events, 1));
        cr_expect(eq(u32, b->events, 1));
        b->fd = -1;
        drop(b);
        turn();
        cr_expect(eq(u32, a->events, 2));
        drop(a);
}

Test(loop_hub, without_an_epoll_the_loop_polls_each)
{
        struct end *e, *other;
        int fd = counter(1), last;
        struct rlimit limit;

        turn(); /* the loop has what it needs */
        last = dup(fd);
        close(last);
        cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &limit), 0));
        limit.rlim_cur = (rlim_t)last;
        cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
        e = add(fd, G_IO_IN);
        other = add(-1, 0);
        hub_item_set_time(&other->item, 0);
        turn();
        cr_expect(eq(u32, e->events, 1));
        cr_expect(eq(u32, other->due, 1));
        drop(e);
        drop(other);
}

/* --- items that go --- */

static void then_drop(struct end *e, gpointer user)
{
        drop(e);
        *(guint *)user += 1;
}

Test(loop_hub, an_item_may_go_in_its_own_dispatch)
{
        guint dropped = 0;

        for (guint i = 0; i < 3; i++) {
                struct end *e = add(counter(1), G_IO_IN);

                e->then = then_drop;
                e->user = &dropped;
        }
        turns(2);
        cr_expect(eq(u32, dropped, 3));
}

static void then_drop_other(struct end *e, gpointer user)
{
        struct end **other = user;

        if (*other)
                drop(g_steal_pointer(other));
}

/* Both are seen in one turn; the first takes the second away, or the other way round. */
Test(loop_hub, an_item_that_an_earlier_one_removed_is_not_dispatched)
{
        struct end *a = add(counter(1), G_IO_IN), *b = add(counter(1), G_IO_IN);
        struct end *a_again = a, *b_again = b;

        a->then = b->then = then_drop_other;
        a->user = &b_again;
        b->user = &a_again;
        turn();
        cr_assert(ne(int, a_again == NULL, b_again == NULL));
        cr_expect(eq(u32, (a_again ? a_again : b_again)->events, 1));
        drop(a_again ? a_again : b_again);
}

static void then_want_nothing(struct end *e, gpointer user)
{
        struct end *other = user;

        hub_item_want(&other->item, 0);
}

Test(loop_hub, what_is_not_wanted_any_more_is_not_told_in_the_same_turn)
{
        struct end *a = add(counter(1), G_IO_IN), *b = add(counter(1), G_IO_IN);

        a->then = b->then = then_want_nothing;
        a->user = b;
        b->user = a;
        turn();
        cr_expect(eq(u32, a->events + b->events, 1));
        drop(a);
        drop(b);
}

struct swap {
        struct end *old, *new;
        int number;
};

/* Closes the other one's descriptor and opens one that gets its number, with nothing to read. */
static void then_swap(struct end *e, gpointer user)
{
        struct swap *s = user;

        s->number = s->old->fd;
        drop(s->old);
        s->new = add(counter(0), G_IO_IN);
        e->then = NULL;
}

Test(loop_hub, a_new_descriptor_with_an_old_number_hears_nothing_of_the_old_one)
{
        struct end *first = add(-1, 0);
        struct swap s = {.old = add(counter(0), G_IO_IN)};
        guint64 one = 1;

        first->then = then_swap;
        first->user = &s;
        hub_item_set_time(&first->item, 0);
        turn();
        cr_assert(eq(int, s.new->fd, s.number));
        turn();
        cr_expect(eq(u32, s.new->events, 0));
        cr_assert(eq(int, (int)write(s.new->fd, &one, sizeof one), sizeof one));
        turn();
        cr_expect(eq(u32, s.new->events, 1));
        drop(s.new);
        drop(first);
}

Test(loop_hub, an_old_number_in_the_same_batch_is_of_no_concern_to_the_new_one)
{
        struct end *a = add(counter(1), G_IO_IN), *b = add(counter(1), G_IO_IN);
        struct swap of_a = {.old = b}, of_b = {.old = a};

        a->then = b->then = then_swap;
        a->user = &of_a;
        b->user = &of_b;
        turn();
        cr_assert(ne(int, of_a.new == NULL, of_b.new == NULL));
        cr_expect(eq(u32, (of_a.new ? of_a.new : of_b.new)->events, 0));
        drop(of_a.new ? of_a.new : of_b.new);
        drop(of_a.new ? a : b);
}

Test(loop_hub, the_hub_begins_anew_after_its_last_item)
{
        for (guint i = 0; i < 3; i++) {
                struct end *e = add(counter(1), G_IO_IN);

                turn();
                cr_expect(eq(u32, e->events, 1));
                drop(e);
        }
}

/* --- times --- */

Test(loop_hub, a_time_is_due_once)
{
        struct end *e = add(-1, 0);

        hub_item_set_time(&e->item, g_get_monotonic_time());
        turns(3);
        cr_expect(eq(u32, e->events, 1));
        cr_expect(eq(u32, e->due, 1));
        cr_expect(eq(int, (int)e->got, 0));
        drop(e);
}

Test(loop_hub, times_come_in_their_order_and_not_before)
{
        struct end *late = add(-1, 0), *soon = add(-1, 0), *never = add(-1, 0), *not = add(-1, 0);
        gint64 now = g_get_monotonic_time();

        hub_item_set_time(&never->item, NEVER_US);
        hub_item_set_time(&late->item, now + 60000);
        hub_item_set_time(&not ->item, now + 30000);
        hub_item_set_time(&not ->item, -1);
        hub_item_set_time(&soon->item, NEVER_US);
        hub_item_set_time(&soon->item, now + 30000);
        while (late->due == 0)
                g_main_context_iteration(NULL, TRUE); /* nothing else wakes it */
        cr_expect(ge(i64, g_get_monotonic_time(), now + 60000));
        cr_expect(eq(u32, soon->due, 1));
        cr_expect(lt(u32, soon->order, late->order));
        cr_expect(eq(u32, never->events + not ->events, 0));
        drop(late);
        drop(soon);
        drop(never);
        drop(not );
}

Test(loop_hub, an_event_before_the_time_leaves_the_time)
{
        struct end *e = add(counter(1), G_IO_IN);

        e->takes = TRUE;
        hub_item_set_time(&e->item, NEVER_US);
        turn();
        cr_expect(eq(u32, e->events, 1));
        cr_expect(eq(u32, e->due, 0));
        hub_item_set_time(&e->item, 0);
        turn();
        cr_expect(eq(u32, e->due, 1));
        cr_expect(eq(int, (int)e->got, 0));
        drop(e);
}

/* --- the loop's other sources --- */

static gboolean count_up(gpointer user)
{
        *(guint *)user += 1;
        return G_SOURCE_CONTINUE;
}

static void then_again(struct end *e, gpointer user)
{
        hub_item_set_time(&e->item, 0);
}

Test(loop_hub, items_that_are_always_ready_leave_the_others_their_turn)
{
        struct end *ready = add(counter(1), G_IO_IN), *due = add(-1, 0);
        guint same = 0, lower = 0;
        guint id = g_idle_add_full(G_PRIORITY_DEFAULT, count_up, &same, NULL);
        guint idle = g_idle_add(count_up, &lower);

        due->then = then_again;
        hub_item_set_time(&due->item, 0);
        turns(5);
        cr_expect(eq(u32, ready->events, 5));
        cr_expect(eq(u32, due->events, 5));
        cr_expect(eq(u32, same, 5));
        cr_expect(eq(u32, lower, 0)); /* of lower priority, as with any source */
        drop(ready);
        drop(due);
        turn(); /* `same` keeps the idle one away still */
        g_source_remove(id);
        turn();
        cr_expect(eq(u32, lower, 1));
        g_source_remove(idle);
}

static gboolean note_order(gpointer user)
{
        *(guint *)user = ++order;
        return G_SOURCE_REMOVE;
}

Test(loop_hub, a_source_of_higher_priority_goes_first)
{
        struct end *e = add(counter(1), G_IO_IN);
        guint first = 0;

        g_idle_add_full(G_PRIORITY_HIGH, note_order, &first, NULL);
        turns(2);
        cr_expect(eq(u32, e->events, 1));
        cr_expect(lt(u32, first, e->order));
        drop(e);
}

/* More than are asked for at a time. */
Test(loop_hub, of_many_that_are_always_ready_each_gets_its_turn)
{
        struct end *ends[300];
        guint all = 0;

        for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
                ends[i] = add(counter(1), G_IO_IN);
        turns(50);
        for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
                cr_expect(ge(u32, ends[i]->events, 5), "%u: %u", i, ends[i]->events);
                all += ends[i]->events;
                drop(ends[i]);
        }
        cr_expect(ge(u32, all, 50 * 64));
}

/* --- contexts --- */

Test(loop_hub, each_context_has_its_own)
{
        g_autoptr(GMainContext) other = g_main_context_new();
        struct end *here = add(counter(1), G_IO_IN), *there;

        g_main_context_push_thread_default(other);
        there = add(counter(1), G_IO_IN);
        g_main_context_pop_thread_default(other);
        turn();
        cr_expect(eq(u32, here->events, 1));
        cr_expect(eq(u32, there->events, 0));
        g_main_context_iteration(other, FALSE);
        cr_expect(eq(u32, here->events, 1));
        cr_expect(eq(u32, there->events, 1));
        drop(there);
        drop(here);
}

/* A context may be freed before its items, and the next one may get its address. */
Test(loop_hub, a_context_that_goes_takes_no_item_of_the_next_with_it)
{
        struct end *old = NULL, *e;

        for (guint i = 0; i < 20; i++) {
                GMainContext *context = g_main_context_new();

                g_main_context_push_thread_default(context);
                e = add(counter(1), G_IO_IN);
                g_main_context_iteration(context, FALSE);
                cr_expect(eq(u32, e->events, 1));
                g_main_context_pop_thread_default(context);
                g_main_context_unref(context);
                if (old)
                        drop(old);
                old = e;
        }
        drop(old);
}
