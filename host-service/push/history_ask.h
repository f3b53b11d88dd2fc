/* host-service/push/history_ask.h - asking guests for their history, with an answer for every question. */
#pragma once

#include "host-service/env.h"
#include "host-service/guest_view.h"
#include "proto/session.h"

typedef struct HistoryAsks HistoryAsks;

HistoryAsks *history_asks_new(const struct host_env *env);
/* Every question still open is answered: CANCELLED. */
void history_asks_free(HistoryAsks *a);
/* @s NULL: the guest is not connected; TIMEOUT, from the loop. */
void history_asks_add(HistoryAsks *a, Session *s, guint count, guint timeout_ms, guest_history_func done,
                      gpointer user);
