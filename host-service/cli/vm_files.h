/* host-service/cli/vm_files.h - asking a VM's agent about its files, through moultd. */
#pragma once

#include "host-service/cli/client.h"
#include "host-service/cli/progress.h"
#include "host-service/release/agent_tree.h"

struct vm_files;
typedef struct vm_files VmFiles;

/* @cli and @vm must outlive it. @progress may be NULL. */
VmFiles *vm_files_new(Cli *cli, const char *vm, Progress *progress);
/* Every thread that asked has ended. */
void vm_files_free(VmFiles *v);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmFiles, vm_files_free)
const char *vm_files_vm(const VmFiles *v);
/* The calling thread's connection to moultd; borrowed. */
Client *vm_files_client(VmFiles *v);
/* An asker for agent_tree_read(); @v must outlive it. A guest that is away for a moment is waited for: the
 * answer to a question is the same when it is asked again. Each thread that asks has a connection of its own
 * to moultd. */
struct agent_tree_asker vm_files_asker(VmFiles *v);
