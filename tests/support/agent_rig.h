/* tests/support/agent_rig.h - an agent with its real engine on a tree of its own, a fake host at its port,
 * and releases. */
#pragma once

#include "guest-agent/agent.h"
#include "tests/support/fake_host.h"
#include "tests/support/tempdir.h"

typedef struct {
        TempDir *dir; /* root/, state/, trust/, pci/, host.sock, agent.sock */
        FakeHost *host;
        Agent *agent;
        gboolean ready, stopped;
        GError *failure;
        guint8 push_id[16];
        GPid pid;           /* of a spawned agent */
        GPtrArray *options; /* further ones for the agent's command line */
} AgentRig;

/* A host that listens; the agent is not started yet. */
AgentRig *agent_rig_new(void);
void agent_rig_free(AgentRig *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentRig, agent_rig_free)
void agent_rig_option(AgentRig *r, const char *option);

/* Starts the agent and waits until the host has its session. */
void agent_rig_start(AgentRig *r);
/* As a clean stop of the process would. */
void agent_rig_stop(AgentRig *r);

/* The same as a process of its own: @program run .... @fault: MOULT_FAULT for it, or NULL. */
void agent_rig_spawn(AgentRig *r, const char *program, const char *fault);
/* Sends @signal (0: none), waits for its end; the wait status. */
int agent_rig_reap(AgentRig *r, int signal);

/* The content of a file in the tree, "" if there is none. */
char *agent_rig_read(AgentRig *r, const char *path);
void agent_rig_write(AgentRig *r, const char *path, const char *content);

/* A signed release of these files (path, content, ..., NULL), served by the host. @filler_size: one more
 * file, usr/lib/filler, of so many bytes that do not compress. */
void agent_rig_release(AgentRig *r, const char *version, gsize filler_size, ...) G_GNUC_NULL_TERMINATED;
/* The file that agent_rig_release() wrote. */
char *agent_rig_pack_path(AgentRig *r);
/* Puts the release's pack behind a PCI device in the fake sysfs; the file that stands for the BAR. */
char *agent_rig_plug(AgentRig *r);
/* The same as persistent memory: the path of its node. */
char *agent_rig_plug_pmem(AgentRig *r);

/* Next push id. */
void agent_rig_next_push(AgentRig *r);
