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

struct vm_tree_options {
        const char *base; /* a directory: the tree that the VM was made from */
        const PerVmList *per_vm;
        const char *const *exclude, *const *exclude_xattr;
        gboolean hash;
};
/* Reads the base, then what the VM has that is not so. Both trees are owned by the caller. */
gboolean vm_tree_read(struct vm_files *v, const struct agent_tree_asker *asker,
                      const struct vm_tree_options *o, BuildTree **ret_live, BuildTree **ret_base,
                      GCancellable *cancellable, GError **error);
