/* guest-agent/push_state.h - copies of the one message that tells what is true of a push. */
#pragma once

#include <glib.h>

#include "proto/channel.pb-c.h"

void push_state_free(Moult__TransactionState *s);
/* Texts that are longer than the other side takes are cut. */
Moult__TransactionState *push_state_copy(const Moult__TransactionState *s);
gboolean push_phase_is_final(Moult__TransactionPhase phase);
