/* host-service/cli/vm_files.h - asking a VM's agent about its files, through moultd. */
#pragma once

#include "host-service/cli/client.h"
#include "host-service/cli/progress.h"
#include "host-service/release/agent_tree.h"

struct vm_files {
        Client *client;
        const char *vm;
        Progress *progress; /* may be NULL */
};

/* An asker for agent_tree_read(); @v must outlive it. A guest that is away for a moment is waited for: the
 * answer to a question is the same when it is asked again. */
struct agent_tree_asker vm_files_asker(struct vm_files *v);
