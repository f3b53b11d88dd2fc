/* host-service/push/guest_ask.h - asking guests for what the API wants to know, with an answer for every
 * question. */
#pragma once

#include "host-service/env.h"
#include "host-service/guest_view.h"
#include "proto/session.h"

typedef struct GuestAsks GuestAsks;

GuestAsks *guest_asks_new(const struct host_env *env);
/* Every question still open is answered: CANCELLED. */
void guest_asks_free(GuestAsks *a);
/* @s NULL: the guest is not connected; TIMEOUT, from the loop. */
void guest_asks_add(GuestAsks *a, Session *s, const Message *question, guint timeout_ms,
                    guest_answer_func done, gpointer user);
/* The same for the guest's history. */
void guest_asks_add_history(GuestAsks *a, Session *s, guint count, guint timeout_ms, guest_history_func done,
                            gpointer user);
