/* host-service/release/ask_ahead.h - questions to an agent, several under way, and their answers in the order
 * of the questions.
 *
 * Theory of operation: guest and host would wait for each other if one question were asked after the other.
 * At most asker->width of them are with the asker, each in a thread; as many again wait here, answered or
 * not, so that one that takes long does not stop the others. That bounds what the guest has to do at once,
 * and what its answers take of memory: ASK_AHEAD_FACTOR * width frames. */
#pragma once

#include "proto/message.h"

struct agent_tree_asker;
typedef struct AskAhead AskAhead;

#define ASK_AHEAD_FACTOR 2u

/* @asker must outlive it. With a width of 0 or 1 there is no thread: a question is asked when its answer is
 * taken. */
AskAhead *ask_ahead_new(const struct agent_tree_asker *asker);
/* Waits for what is under way; what was not asked yet is not. */
void ask_ahead_free(AskAhead *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AskAhead, ask_ahead_free)

/* The rest: by one thread. */
gboolean ask_ahead_has_room(const AskAhead *a);
/* Only where there is room. @question is copied. */
void ask_ahead_push(AskAhead *a, const Message *question);
/* The answer to the oldest question that was pushed and not taken; the caller frees. Blocks. NULL with
 * @error: that of the asker. */
Message *ask_ahead_take(AskAhead *a, GError **error);
