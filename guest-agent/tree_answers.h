/* guest-agent/tree_answers.h - the host's questions about the tree, in a thread of their own: a look at a
 * large tree must not hold up an upgrade. */
#pragma once

#include "guest-agent/peers.h"

typedef struct TreeAnswers TreeAnswers;

/* @root: the tree. */
TreeAnswers *tree_answers_new(const char *root);
void tree_answers_free(TreeAnswers *a);
/* Takes over @ticket; copies what it needs of @m (TREE_QUERY or TREE_READ). */
void tree_answers_reply(TreeAnswers *a, struct ticket *ticket, const Message *m);
