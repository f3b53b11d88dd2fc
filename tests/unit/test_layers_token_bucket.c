/* tests/unit/test_layers_token_bucket.c - a rate limit against a clock that the test moves. */
#include "host-service/layers/token_bucket.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(token_bucket, .timeout = 10);

#define S G_USEC_PER_SEC

Test(token_bucket, a_second_at_once_then_the_rate)
{
        struct token_bucket b;

        token_bucket_init(&b, 1000, 0);
        token_bucket_spend(&b, 1000);
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 0), 0), "up to those of a second");
        token_bucket_spend(&b, 500);
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 0), 501));
        cr_expect(eq(u32, token_bucket_wait_ms(&b, S / 4), 251));
        cr_expect(eq(u32, token_bucket_wait_ms(&b, S / 2), 0));
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 100 * S), 0));
        token_bucket_spend(&b, 2500);
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 100 * S), 1000), "what was not used does not pile up");
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 101 * S), 501),
                  "a debt is paid by all the time that passed");
}

Test(token_bucket, no_rate_is_no_limit_and_a_large_one_does_not_overflow)
{
        struct token_bucket b;

        token_bucket_init(&b, 0, 0);
        token_bucket_spend(&b, G_MAXINT32);
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 0), 0));
        token_bucket_init(&b, G_MAXUINT64, 0);
        token_bucket_spend(&b, G_MAXINT32);
        cr_expect(eq(u32, token_bucket_wait_ms(&b, G_MAXINT64), 0));
        cr_expect(eq(u32, token_bucket_wait_ms(&b, 5), 0), "a clock that goes back");
}
