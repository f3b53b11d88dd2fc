/* proto/refusal.h - the content gate for messages: pure, NULL or the reason. */
#pragma once

#include "proto/channel.pb-c.h"

/* A reason is a constant that names the field ("fetch.length: ..."). It says nothing of when a message is
 * legal: that is the state gate's (proto/legality.h). */
const char *message_refusal(const Moult__Message *m);
