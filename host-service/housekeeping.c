/* host-service/housekeeping.c - the catalogue's bounds, and the timer that keeps to them. */
#include "host-service/housekeeping.h"

#include "common/events.h"
#include "host-service/catalogue/retention.h"

#define EVERY_MS  (10 * 60 * 1000)
#define PAUSE_MS  20 /* between two steps the loop serves everybody else */
#define STEP_ROWS 500

/* moultd(8) and docs/openapi.yaml tell these numbers. */
static const struct retention kept = {
        .events = 1000000,
        .event_bytes = G_GINT64_CONSTANT(512) << 20,
        .operations = 10000,
        .operation_age_us = 90 * G_TIME_SPAN_DAY,
        .operations_per_guest = 50,
        .plan_age_us = G_TIME_SPAN_DAY,
        .idempotency_age_us = G_TIME_SPAN_DAY,
};

struct Housekeeping {
        const struct host_env *env;
        Catalogue *catalogue;
        GSource *round, *step;
};

static gboolean on_step(gpointer user)
{
        Housekeeping *h = user;
        g_autoptr(GError) error = NULL;
        gboolean more = FALSE;

        if (!catalogue_forget(h->catalogue, &kept, STEP_ROWS, &more, &error)) {
                event_log(EVENT_WARNING, "catalogue-not-pruned", error->message, NULL);
                more = FALSE;
        }
        if (more)
                return G_SOURCE_CONTINUE;
        host_timer_clear(&h->step);
        return G_SOURCE_REMOVE;
}

static gboolean on_round(gpointer user)
{
        Housekeeping *h = user;

        if (!h->step)
                h->step = host_timer_add(h->env, PAUSE_MS, on_step, h);
        return G_SOURCE_CONTINUE;
}

Housekeeping *housekeeping_new(const struct host_env *env, Catalogue *c)
{
        Housekeeping *h = g_new0(Housekeeping, 1);

        h->env = env;
        h->catalogue = c;
        h->round = host_timer_add(env, EVERY_MS, on_round, h);
        on_round(h);
        return h;
}

void housekeeping_free(Housekeeping *h)
{
        if (!h)
                return;
        host_timer_clear(&h->round);
        host_timer_clear(&h->step);
        g_free(h);
}
