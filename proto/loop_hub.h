/* proto/loop_hub.h - many descriptors and times as one source of the main loop.
 *
 * In each turn GLib walks over all sources of a context and hands all descriptors to poll(2), whether one of
 * them is ready or none. A host has a thousand connections, of which a turn concerns one or two. So these are
 * items of a hub: one GSource with one descriptor, an epoll, and the earliest of their times
 * (docs/decisions/0026). A main context has one hub, from its first item to its last.
 *
 * As with poll(2), what is ready and was not taken is told again in the next turn, at the default priority. A
 * descriptor that epoll refuses, a regular file for one, is polled by the loop itself. A time is due once.
 *
 * Thread rule: all calls from the thread that runs the context. Whoever runs the loop from inside of a
 * dispatch hears of no item meanwhile. */
#pragma once

#include <glib.h>

typedef struct LoopHub LoopHub;
typedef struct HubItem HubItem;

/* Part of its owner's struct. Zeroed: not on a loop. */
struct HubItem {
        /* private */
        LoopHub *hub;
        int fd;
        GIOCondition wanted, got;
        gpointer tag;        /* not NULL: the loop polls it, and not epoll */
        GSequenceIter *time; /* NULL: none */
        gint64 time_us;
        gboolean due, is_ready;
        GList ready, polled; /* links in the hub's queues */
        void (*dispatch)(gpointer user);
        gpointer user;
};

/* Onto the thread's default context. @fd stays the caller's, who removes the item before he closes it; -1:
 * only times. Nothing is wanted yet. @dispatch may remove any item, and free its owner. */
void hub_item_add(HubItem *i, int fd, void (*dispatch)(gpointer user), gpointer user);
/* Off the loop: @dispatch is not called any more, also for what this turn has seen. Does nothing to one that
 * is on no loop. */
void hub_item_remove(HubItem *i);
gboolean hub_item_is_on_loop(const HubItem *i);
/* G_IO_HUP and G_IO_ERR are told unasked. 0: the descriptor is not looked at. */
void hub_item_want(HubItem *i, GIOCondition wanted);
GIOCondition hub_item_wanted(const HubItem *i);
/* Of the monotonic clock; replaces the last one. -1: none. */
void hub_item_set_time(HubItem *i, gint64 time_us);

/* For @dispatch: what was seen of the descriptor, and whether the time has come. */
GIOCondition hub_item_got(const HubItem *i);
gboolean hub_item_is_due(const HubItem *i);
