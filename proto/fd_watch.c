/* proto/fd_watch.c - a descriptor on the loop. */
#include "proto/fd_watch.h"

#include <glib-unix.h>
#include <unistd.h>

typedef struct {
        GSource base;
        FdWatch *watch;
} FdSource;

void fd_watch_init(FdWatch *w, int fd, void (*dispatch)(gpointer owner), void (*destroy)(gpointer owner),
                   gpointer owner)
{
        *w = (FdWatch){.fd = fd, .refs = 1, .dispatch = dispatch, .destroy = destroy, .owner = owner};
        g_unix_set_fd_nonblocking(fd, TRUE, NULL); /* fails only for a descriptor that is not open */
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer user)
{
        FdWatch *w = ((FdSource *)source)->watch;

        w->refs++;
        w->dispatch(w->owner);
        fd_watch_unref(w);
        return G_SOURCE_CONTINUE;
}

void fd_watch_start(FdWatch *w, const char *name, gint64 ready_time_us)
{
        static GSourceFuncs funcs = {.dispatch = source_dispatch};
        g_autoptr(GMainContext) context = g_main_context_ref_thread_default();

        w->source = g_source_new(&funcs, sizeof(FdSource));
        ((FdSource *)w->source)->watch = w;
        g_source_set_static_name(w->source, name);
        g_source_set_ready_time(w->source, ready_time_us);
        g_source_attach(w->source, context);
}

void fd_watch_want(FdWatch *w, GIOCondition conditions)
{
        if (conditions == 0) {
                if (w->tag)
                        g_source_remove_unix_fd(w->source, w->tag);
                w->tag = NULL;
        } else if (!w->tag) {
                w->tag = g_source_add_unix_fd(w->source, w->fd, conditions);
        } else if (conditions != w->wanted) {
                g_source_modify_unix_fd(w->source, w->tag, conditions);
        }
        w->wanted = conditions;
}

gboolean fd_watch_is_polled(const FdWatch *w)
{
        return w->tag != NULL;
}

GIOCondition fd_watch_got(const FdWatch *w)
{
        return w->tag ? g_source_query_unix_fd(w->source, w->tag) : 0;
}

void fd_watch_shut(FdWatch *w)
{
        if (w->source) {
                g_source_destroy(w->source);
                g_clear_pointer(&w->source, g_source_unref);
                w->tag = NULL;
        }
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
