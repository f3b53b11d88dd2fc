/* proto/fd_watch.h - a descriptor on the loop: what every transport over one does in the same way.
 *
 * One GSource watches the descriptor for the conditions that its owner wants, and has a ready time for the
 * owner's timer (g_source_set_ready_time). The owner is a struct that embeds this one; handlers that run
 * during a dispatch may end it, so it is counted: one reference is the owner's, one is held by each dispatch
 * that runs. */
#pragma once

#include <gio/gio.h>

typedef struct FdWatch FdWatch;
struct FdWatch {
        int fd;          /* -1: shut */
        GSource *source; /* NULL: not started, or shut */
        /* private */
        gpointer tag; /* NULL: not in the poll set */
        GIOCondition wanted;
        int refs;
        void (*dispatch)(gpointer owner);
        void (*destroy)(gpointer owner); /* the last reference has gone */
        gpointer owner;
};

/* Takes over @fd and makes it non-blocking. */
void fd_watch_init(FdWatch *w, int fd, void (*dispatch)(gpointer owner), void (*destroy)(gpointer owner),
                   gpointer owner);
/* Onto the thread's default context. @ready_time_us: of the monotonic clock; -1 for none. */
void fd_watch_start(FdWatch *w, const char *name, gint64 ready_time_us);
/* 0: out of the poll set. */
void fd_watch_want(FdWatch *w, GIOCondition conditions);
gboolean fd_watch_is_polled(const FdWatch *w);
/* What was seen; 0 outside of a dispatch. */
GIOCondition fd_watch_got(const FdWatch *w);
/* Out of the loop, and closed. The struct stays. */
void fd_watch_shut(FdWatch *w);
void fd_watch_unref(FdWatch *w);
