/* host-service/release/agent_contents.h - the contents of a machine's files, fetched from its agent.
 *
 * Pieces of the files that are expected next are asked for while the one before is still being used
 * (ask_ahead.h); what is opened out of that order is asked for by itself. Each file is compared with the
 * digest that the agent gave when it listed it. */
#pragma once

#include "host-service/release/ask_ahead.h"
#include "host-service/release/build_tree.h"

typedef struct AgentContents AgentContents;

/* @name: of the machine, for errors. Takes over @ahead, with nothing pending. */
AgentContents *agent_contents_new(const char *name, AskAhead *ahead);
/* For build_tree_new(); its self is the AgentContents, freed by the tree. */
extern const struct build_tree_source agent_contents_source;
