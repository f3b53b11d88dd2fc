/* host-service/layers/token_bucket.h - so many bytes a second, on the average; up to those of a second at
 * once.
 *
 * What an object costs is known when it was sent. So the bucket may be in debt, and nothing is begun until it
 * is out of it. */
#pragma once

#include <glib.h>

struct token_bucket {
        guint64 rate; /* bytes per second; 0: no limit */
        gint64 spent; /* atomic: bytes since the last look */
        /* private */
        gint64 tokens, at_us;
};

void token_bucket_init(struct token_bucket *b, guint64 rate, gint64 now_us);
void token_bucket_spend(struct token_bucket *b, gsize bytes); /* any thread */
/* Milliseconds until something may be begun; 0: now. @now_us: of a monotonic clock. */
guint token_bucket_wait_ms(struct token_bucket *b, gint64 now_us);
