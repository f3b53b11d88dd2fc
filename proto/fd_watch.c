/* proto/fd_watch.c - a descriptor on the loop. */
#include "proto/fd_watch.h"

#include <glib-unix.h>
#include <unistd.h>

void fd_watch_init(FdWatch *w, int fd, void (*dispatch)(gpointer owner), void (*destroy)(gpointer owner),
                   gpointer owner)
{
        *w = (FdWatch){.fd = fd, .refs = 1, .dispatch = dispatch, .destroy = destroy, .owner = owner};
        g_unix_set_fd_nonblocking(fd, TRUE, NULL); /* fails only for a descriptor that is not open */
}

static void on_ready(gpointer user)
{
        FdWatch *w = user;

        w->refs++;
        w->dispatch(w->owner);
        fd_watch_unref(w);
}

void fd_watch_start(FdWatch *w, gint64 ready_time_us)
{
        hub_item_add(&w->item, w->fd, on_ready, w);
        hub_item_set_time(&w->item, ready_time_us);
}

void fd_watch_want(FdWatch *w, GIOCondition conditions)
{
        hub_item_want(&w->item, conditions);
}

void fd_watch_set_time(FdWatch *w, gint64 ready_time_us)
{
        hub_item_set_time(&w->item, ready_time_us);
}

gboolean fd_watch_is_polled(const FdWatch *w)
{
        return hub_item_wanted(&w->item) != 0;
}

GIOCondition fd_watch_got(const FdWatch *w)
{
        return hub_item_got(&w->item);
}

gboolean fd_watch_is_due(const FdWatch *w)
{
        return hub_item_is_due(&w->item);
}

void fd_watch_shut(FdWatch *w)
{
        hub_item_remove(&w->item);
        if (w->fd >= 0) {
                close(w->fd);
                w->fd = -1;
        }
}

void fd_watch_unref(FdWatch *w)
{
        if (--w->refs == 0)
                w->destroy(w->owner);
}
