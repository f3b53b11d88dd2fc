/* host-service/release/agent_question.h - one TreeQuery, put together from nodes of a tree, within a frame's
 * size. */
#pragma once

#include "host-service/release/build_tree.h"
#include "proto/message.h"

typedef struct AgentQuestion AgentQuestion;

/* @prune, @no_content (char *): borrowed, as are the nodes: all must outlive the question. */
AgentQuestion *agent_question_new(const char *after, gboolean hash, const GPtrArray *prune,
                                  const GPtrArray *no_content);
void agent_question_free(AgentQuestion *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentQuestion, agent_question_free)

/* FALSE: it is full; nothing was added. The first one always fits. */
gboolean agent_question_add(AgentQuestion *q, const struct tree_node *n, gboolean with_digest);
void agent_question_set_until(AgentQuestion *q, const char *until);
const Message *agent_question_message(AgentQuestion *q);
