/* host-service/guests/budget.h - how much a guest may ask of us: a token bucket. Pure: time is an argument.
 */
#pragma once

#include <glib.h>

struct budget {
        guint64 rate;  /* tokens that come back each second */
        guint64 burst; /* most that are saved up */
        guint64 tokens;
        gint64 updated_us; /* 0: never used yet, the bucket is full */
};

static inline struct budget budget_new(guint64 rate, guint64 burst)
{
        return (struct budget){.rate = rate, .burst = burst, .tokens = burst};
}

/* Takes @n tokens. FALSE: not that many are left; none is taken. */
gboolean budget_take(struct budget *b, guint64 n, gint64 now_us);
