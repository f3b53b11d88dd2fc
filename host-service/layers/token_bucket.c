/* host-service/layers/token_bucket.c - a rate limit. */
#include "host-service/layers/token_bucket.h"

#define WAIT_MAX_MS 1000u /* then the clock is looked at again */
/* Whose product has room: */
#define RATE_MAX    (G_GINT64_CONSTANT(100) * 1000 * 1000 * 1000)
#define LOOK_MAX_US (60 * G_USEC_PER_SEC)

void token_bucket_init(struct token_bucket *b, guint64 rate, gint64 now_us)
{
        *b = (struct token_bucket){.rate = MIN(rate, RATE_MAX), .at_us = now_us};
        b->tokens = (gint64)b->rate;
}

void token_bucket_spend(struct token_bucket *b, gsize bytes)
{
        __atomic_add_fetch(&b->spent, (gint64)bytes, __ATOMIC_RELAXED);
}

guint token_bucket_wait_ms(struct token_bucket *b, gint64 now_us)
{
        gint64 rate = (gint64)b->rate, passed_us = CLAMP(now_us - b->at_us, 0, LOOK_MAX_US), debt;

        if (rate == 0)
                return 0;
        b->at_us = now_us;
        b->tokens = MIN(b->tokens + rate * passed_us / G_USEC_PER_SEC, rate);
        b->tokens -= __atomic_exchange_n(&b->spent, 0, __ATOMIC_RELAXED);
        if (b->tokens >= 0)
                return 0;
        debt = -b->tokens;
        return debt >= rate ? WAIT_MAX_MS : (guint)(debt * 1000 / rate + 1);
}
