/* proto/loop_hub.c - many descriptors and times as one source of the main loop. */
#include "proto/loop_hub.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64 /* descriptors in a turn; epoll hands out the others first in the next */

/* poll's words are epoll's. */
G_STATIC_ASSERT((int)G_IO_IN == EPOLLIN && (int)G_IO_PRI == EPOLLPRI && (int)G_IO_OUT == EPOLLOUT);
G_STATIC_ASSERT((int)G_IO_ERR == EPOLLERR && (int)G_IO_HUP == EPOLLHUP);

struct LoopHub {
        GSource base;
        GMainContext *context; /* the key in `hubs`; it owns us, not we it */
        int epoll_fd;          /* -1: there is none, the loop polls all descriptors itself */
        guint items;
        GSequence *times; /* of HubItem with a time; earliest first */
        GQueue ready;     /* of HubItem: told in this turn */
        GQueue polled;    /* of HubItem: those with a tag */
};

static GMutex hubs_lock;
static GHashTable *hubs; /* GMainContext -> LoopHub */

/* --- the source --- */

static gint64 earliest_us(const LoopHub *h)
{
        GSequenceIter *first = g_sequence_get_begin_iter(h->times);

        return g_sequence_iter_is_end(first) ? G_MAXINT64 : ((HubItem *)g_sequence_get(first))->time_us;
}

/* Not g_source_set_ready_time(): that wakes the loop, with a system call, which runs already. */
static gboolean prepare(GSource *source, gint *timeout_ms)
{
        gint64 earliest = earliest_us((LoopHub *)source);
        gint64 wait_us = earliest == G_MAXINT64 ? earliest : earliest - g_source_get_time(source);

        *timeout_ms = earliest == G_MAXINT64 ? -1 : (gint)CLAMP((wait_us + 999) / 1000, 0, G_MAXINT);
        return wait_us <= 0;
}

static gboolean check(GSource *source)
{
        return earliest_us((LoopHub *)source) <= g_source_get_time(source);
}

static void mark_ready(LoopHub *h, HubItem *i)
{
        if (i->is_ready)
                return;
        i->is_ready = TRUE;
        i->got = 0;
        i->due = FALSE;
        g_queue_push_tail_link(&h->ready, &i->ready);
}

static void unmark_ready(LoopHub *h, HubItem *i)
{
        if (!i->is_ready)
                return;
        i->is_ready = FALSE;
        g_queue_unlink(&h->ready, &i->ready);
}

static void clear_time(HubItem *i)
{
        g_clear_pointer(&i->time, g_sequence_remove);
}

static void collect_descriptors(LoopHub *h)
{
        struct epoll_event events[BATCH];
        int n = h->epoll_fd >= 0 ? epoll_wait(h->epoll_fd, events, BATCH, 0) : 0;

        for (int e = 0; e < n; e++) { /* -1 is EINTR: the next turn */
                HubItem *i = events[e].data.ptr;

                mark_ready(h, i);
                i->got = (GIOCondition)events[e].events;
        }
        for (GList *l = h->polled.head; l; l = l->next) {
                HubItem *i = l->data;
                GIOCondition got = g_source_query_unix_fd(&h->base, i->tag);

                if (got == 0)
                        continue;
                mark_ready(h, i);
                i->got = got;
        }
}

static void collect_due(LoopHub *h)
{
        gint64 now_us = g_source_get_time(&h->base);

        while (earliest_us(h) <= now_us) {
                HubItem *i = g_sequence_get(g_sequence_get_begin_iter(h->times));

                clear_time(i);
                mark_ready(h, i);
                i->due = TRUE;
        }
}

/* An earlier one in the turn may have removed an item, or changed what it wants. */
static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer user)
{
        LoopHub *h = (LoopHub *)source;

        collect_descriptors(h);
        collect_due(h);
        while (h->ready.head) {
                HubItem *i = h->ready.head->data;

                unmark_ready(h, i);
                i->got &= i->wanted ? i->wanted | G_IO_HUP | G_IO_ERR | G_IO_NVAL : 0;
                if (i->got != 0 || i->due)
                        i->dispatch(i->user); /* may free it */
        }
        return G_SOURCE_CONTINUE;
}

static void finalize(GSource *source)
{
        LoopHub *h = (LoopHub *)source;

        g_sequence_free(h->times);
        if (h->epoll_fd >= 0)
                close(h->epoll_fd);
}

/* --- which hub --- */

static LoopHub *hub_new(GMainContext *context)
{
        static GSourceFuncs funcs = {
                .prepare = prepare, .check = check, .dispatch = dispatch, .finalize = finalize};
        LoopHub *h = (LoopHub *)g_source_new(&funcs, sizeof(LoopHub));

        h->context = context;
        h->times = g_sequence_new(NULL);
        h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (h->epoll_fd >= 0)
                g_source_add_unix_fd(&h->base, h->epoll_fd, G_IO_IN);
        g_source_set_static_name(&h->base, "moult hub");
        g_source_attach(&h->base, context);
        return h;
}

static LoopHub *hub_take(void)
{
        g_autoptr(GMainContext) context = g_main_context_ref_thread_default();
        LoopHub *h;

        g_mutex_lock(&hubs_lock);
        if (!hubs)
                hubs = g_hash_table_new(NULL, NULL);
        h = g_hash_table_lookup(hubs, context);
        if (!h || g_source_is_destroyed(&h->base)) { /* that of another context, which lived here before */
                h = hub_new(context);
                g_hash_table_replace(hubs, context, h);
        }
        h->items++;
        g_mutex_unlock(&hubs_lock);
        return h;
}

static void hub_give(LoopHub *h)
{
        if (--h->items > 0)
                return;
        g_mutex_lock(&hubs_lock);
        if (g_hash_table_lookup(hubs, h->context) == h)
                g_hash_table_remove(hubs, h->context);
        g_mutex_unlock(&hubs_lock);
        g_source_destroy(&h->base);
        g_source_unref(&h->base);
}

/* --- items --- */

void hub_item_add(HubItem *i, int fd, void (*func)(gpointer user), gpointer user)
{
        g_assert(!i->hub);
        *i = (HubItem){.hub = hub_take(), .fd = fd, .dispatch = func, .user = user};
        i->ready.data = i->polled.data = i;
}

void hub_item_remove(HubItem *i)
{
        LoopHub *h = i->hub;

        if (!h)
                return;
        hub_item_want(i, 0);
        clear_time(i);
        unmark_ready(h, i);
        i->hub = NULL;
        hub_give(h);
}

gboolean hub_item_is_on_loop(const HubItem *i)
{
        return i->hub != NULL;
}

static gboolean tell_epoll(HubItem *i, GIOCondition wanted)
{
        struct epoll_event e = {.events = (guint32)wanted, .data.ptr = i};
        int op = wanted == 0 ? EPOLL_CTL_DEL : i->wanted == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

        return i->hub->epoll_fd >= 0 && epoll_ctl(i->hub->epoll_fd, op, i->fd, &e) == 0;
}

static void tell_loop(HubItem *i, GIOCondition wanted)
{
        LoopHub *h = i->hub;

        if (wanted == 0) {
                g_source_remove_unix_fd(&h->base, i->tag);
                g_queue_unlink(&h->polled, &i->polled);
                i->tag = NULL;
        } else if (i->tag) {
                g_source_modify_unix_fd(&h->base, i->tag, wanted);
        } else {
                i->tag = g_source_add_unix_fd(&h->base, i->fd, wanted);
                g_queue_push_tail_link(&h->polled, &i->polled);
        }
}

void hub_item_want(HubItem *i, GIOCondition wanted)
{
        if (wanted == i->wanted)
                return;
        g_assert(i->fd >= 0);
        /* That it does not go when it should (EBADF) is of no harm: the kernel has forgotten it already. */
        if (i->tag || (!tell_epoll(i, wanted) && wanted != 0))
                tell_loop(i, wanted);
        i->wanted = wanted;
}

GIOCondition hub_item_wanted(const HubItem *i)
{
        return i->wanted;
}

static gint compare_times(gconstpointer a, gconstpointer b, gpointer user)
{
        gint64 ta = ((const HubItem *)a)->time_us, tb = ((const HubItem *)b)->time_us;

        return (ta > tb) - (ta < tb);
}

void hub_item_set_time(HubItem *i, gint64 time_us)
{
        if (i->time && i->time_us == time_us)
                return;
        clear_time(i);
        i->time_us = time_us;
        if (time_us >= 0)
                i->time = g_sequence_insert_sorted(i->hub->times, i, compare_times, NULL);
}

GIOCondition hub_item_got(const HubItem *i)
{
        return i->got;
}

gboolean hub_item_is_due(const HubItem *i)
{
        return i->due;
}
