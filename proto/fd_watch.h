/* proto/fd_watch.h - a descriptor on the loop: what every transport over one does in the same way.
 *
 * An item of the loop's hub watches the descriptor for the conditions that its owner wants, and has a time
 * for the owner's timer. The owner is a struct that embeds this one; handlers that run during a dispatch may
 * end it, so it is counted: one reference is the owner's, one is held by each dispatch that runs. */
#pragma once

#include <gio/gio.h>

#include "proto/loop_hub.h"

typedef struct FdWatch FdWatch;
struct FdWatch {
        int fd; /* -1: shut */
        /* private */
        HubItem item;
        int refs;
        void (*dispatch)(gpointer owner);
        void (*destroy)(gpointer owner); /* the last reference has gone */
        gpointer owner;
};

/* Takes over @fd and makes it non-blocking. */
void fd_watch_init(FdWatch *w, int fd, void (*dispatch)(gpointer owner), void (*destroy)(gpointer owner),
                   gpointer owner);
/* Onto the thread's default context. @ready_time_us: as of fd_watch_set_time(). */
void fd_watch_start(FdWatch *w, gint64 ready_time_us);
/* 0: out of the poll set. */
void fd_watch_want(FdWatch *w, GIOCondition conditions);
/* One dispatch at this time of the monotonic clock; replaces the last one. -1: none. */
void fd_watch_set_time(FdWatch *w, gint64 ready_time_us);
gboolean fd_watch_is_polled(const FdWatch *w);
/* For dispatch: what was seen, and whether the time has come. */
GIOCondition fd_watch_got(const FdWatch *w);
gboolean fd_watch_is_due(const FdWatch *w);
/* Out of the loop, and closed. The struct stays. */
void fd_watch_shut(FdWatch *w);
void fd_watch_unref(FdWatch *w);
