/* proto/transport.c - the calls through a transport's operations table. */
#include "proto/transport.h"

void transport_set_events(Transport *t, const struct transport_events *events, gpointer user)
{
        t->events = events;
        t->user = user;
}

void transport_start(Transport *t)
{
        t->ops->start(t);
}

void transport_send(Transport *t, GBytes *frame)
{
        t->ops->send(t, frame);
}

gsize transport_queued(Transport *t)
{
        return t->ops->queued(t);
}

const char *transport_name(Transport *t)
{
        return t->ops->instance_name ? t->ops->instance_name(t) : t->ops->name;
}

void transport_free(Transport *t)
{
        if (t)
                t->ops->free(t);
}
