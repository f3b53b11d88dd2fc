/* guest-agent/look_answers.h - the host's questions for which the machine must be looked at, in a thread of
 * their own: a look at a large tree, or at a disk that hangs, must not hold up an upgrade. */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/peers.h"

typedef struct LookAnswers LookAnswers;

/* @config must outlive it. */
LookAnswers *look_answers_new(const struct agent_config *config);
void look_answers_free(LookAnswers *a);
/* Takes over @ticket; copies what it needs of @m (TREE_QUERY, TREE_READ or FACTS_QUERY). @phase: of the push
 * in hand. */
void look_answers_reply(LookAnswers *a, struct ticket *ticket, const Message *m,
                        Moult__TransactionPhase phase);
