/* host-service/guests/metered.h - a transport that ends when its peer sends more than a budget allows.
 *
 * It stands between a guest's byte stream and its session, so that noise, pings and frames of an old
 * conversation are counted as well: whatever costs us time is bytes first. What a guest has to say unasked is
 * small (ten states a second, requests for blocks). What it was asked for (a page of its plan) is credited
 * beforehand. When the budget is used up the session sees a closed transport. The budget is small because
 * small frames are dear: a flood of them costs the loop a few seconds in a sanitizer build before it is cut
 * off, and is not heard again for as long. */
#pragma once

#include "host-service/env.h"

/* Bytes per second that a guest may send for long, and at once. */
#define GUEST_BYTES_RATE  (512u * 1024u)
#define GUEST_BYTES_BURST (2u * 1024u * 1024u)

/* Takes over @inner. @env must outlive it. */
Transport *metered_transport_new(const struct host_env *env, Transport *inner);
/* An answer of up to @bytes was asked for. @t: of metered_transport_new(), still alive. */
void metered_transport_credit(Transport *t, gsize bytes);
/* TRUE if @error is this file's: the peer flooded us. */
gboolean metered_error_is_flood(const GError *error);
