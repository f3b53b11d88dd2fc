/* host-service/env.c - what every environment has in common: timers as the host service uses them. */
#include "host-service/env.h"

GSource *host_timer_add(const struct host_env *e, guint delay_ms, GSourceFunc func, gpointer user)
{
        GSource *s = e->clock->timer_new(e->self, delay_ms);

        g_source_set_callback(s, func, user, NULL);
        g_source_attach(s, e->context);
        return s;
}

void host_timer_clear(GSource **timer)
{
        if (*timer) {
                g_source_destroy(*timer);
                g_source_unref(*timer);
                *timer = NULL;
        }
}
