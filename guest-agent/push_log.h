/* guest-agent/push_log.h - what is logged of an operation's way. */
#pragma once

#include "guest-agent/operation.h"

/* "PHASE_STAGED" */
const char *push_phase_name(Moult__TransactionPhase phase);
/* In hexadecimal; the caller frees. */
char *push_id_text(const guint8 id[static 16]);
/* Event agent-phase. */
void push_log_phase(Operation *op, Moult__TransactionPhase phase);
