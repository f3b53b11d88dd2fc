/* host-service/guests/budget.c - a token bucket. */
#include "host-service/guests/budget.h"

gboolean budget_take(struct budget *b, guint64 n, gint64 now_us)
{
        gint64 elapsed_us = b->updated_us ? now_us - b->updated_us : 0;

        if (elapsed_us > 0) {
                /* A minute's worth fills any bucket of ours; more would only risk the product. */
                guint64 add = (guint64)MIN(elapsed_us, 60 * G_USEC_PER_SEC) * b->rate / G_USEC_PER_SEC;

                if (add > 0) {
                        b->tokens = MIN(b->burst, b->tokens + add);
                        b->updated_us = now_us;
                }
        } else if (!b->updated_us) {
                b->updated_us = now_us;
        }
        if (n > b->tokens)
                return FALSE;
        b->tokens -= n;
        return TRUE;
}
