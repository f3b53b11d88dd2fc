/* guest-agent/stale_answers.h - the daemon's side of "who still runs old code": looks in the engine's turn,
 * and restarts once for each push that asked for it.
 *
 * Everything blocking runs in the engine's worker, so no restart of these meets those of another upgrade. The
 * restarts are queued together with the confirmation: a question that comes as soon as the host hears of the
 * commit finds them done. A look that is repeated repeats no restart, but tells of them again. */
#pragma once

#include "guest-agent/operation.h"
#include "guest-agent/peers.h"
#include "guest-agent/worker.h"

typedef struct StaleAnswers StaleAnswers;

/* @engine and @upgrade must outlive it, and @engine must have no jobs left when it is freed. */
StaleAnswers *stale_answers_new(Worker *engine, Upgrade *upgrade);
void stale_answers_free(StaleAnswers *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleAnswers, stale_answers_free)

/* After what is queued: if @op is committed by then, and wants it, its stale units are restarted. */
void stale_answers_restart(StaleAnswers *a, Operation *op);
/* Takes over @ticket. @push_id: 16 bytes, or none for the newest committed generation. */
void stale_answers_reply(StaleAnswers *a, struct ticket *ticket, ProtobufCBinaryData push_id);
