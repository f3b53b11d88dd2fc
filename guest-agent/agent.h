/* guest-agent/agent.h - the daemon, put together: engine, links, methods.
 *
 * Everything runs in the main loop but what blocks (guest-agent/worker.h). The engine is opened first, which
 * also recovers what a crash left; only then do the links come up, so that every answer is true. */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/own_program.h"

typedef struct Agent Agent;

struct agent_events {
        void (*ready)(gpointer user); /* recovered, links are up */
        void (*failed)(const GError *error,
                       gpointer user);  /* cannot work: another agent runs, no state directory */
        void (*stopped)(gpointer user); /* after agent_stop(): may be freed */
        /* The path of this program leads to another one, whose turn it is: free the agent, then execute it.
         */
        void (*successor)(gpointer user);
};

/* Takes over @config. @own must outlive it; NULL: the agent's own program is a file like any other. */
Agent *agent_new(struct agent_config *config, const OwnProgram *own, const struct agent_events *events,
                 gpointer user, GError **error);
void agent_free(Agent *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Agent, agent_free)

/* Begins nothing new; `stopped` comes at once, or when the switch that runs is over. */
void agent_stop(Agent *a);
/* True if agent_free() would have to wait for staging: the journal makes it safe to just end the process. */
gboolean agent_is_working(const Agent *a);
/* Takes over @config: network settings and log level are new, the rest stays until a restart. */
void agent_reload(Agent *a, struct agent_config *config);
