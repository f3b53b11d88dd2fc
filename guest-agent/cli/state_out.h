/* guest-agent/cli/state_out.h - a transaction's state in words, and as an exit status. */
#pragma once

#include "guest-agent/cli/command.h"
#include "proto/channel.pb-c.h"

/* One or two lines; no newline at the end. */
char *state_out_text(const Moult__TransactionState *s);
/* The exit status of an operation that ended like this. @wanted: the phase that is success. */
int state_out_exit(const Moult__TransactionState *s, Moult__TransactionPhase wanted);
/* Prints @m as one line of JSON. */
void state_out_json(const ProtobufCMessage *m);
