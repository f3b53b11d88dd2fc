/* fuse-overlay/merge_overlay.c - a merge served by the kernel's overlayfs: the target's tree over the
 * original, read-only. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/merge_method.h"
#include "fuse-overlay/mount_api.h"
#include "fuse-overlay/target_tree.h"

/* By descriptor, whatever their paths hold; overlayfs takes clones of its own of the layers' mounts. */
static int mount_over(int upper, int lower, const char *tag, unsigned attr, GError **error)
{
        g_autofree char *layers = g_strdup_printf("/proc/self/fd/%d:/proc/self/fd/%d", upper, lower);
        const struct mount_option options[] = {
                {"lowerdir", layers},
                /* Explicit: distributions switch these on by default, and a tree of ours must not be followed
                 * out of its place. */
                {"index", "off"},
                {"metacopy", "off"},
                {"redirect_dir", "nofollow"},
                {"xino", "off"},
        };
        return mount_api_make("overlay", tag, options, G_N_ELEMENTS(options), attr, error);
}

static char *refusal(const struct merge_job *job)
{
        struct stat st;
        if (job->merge.reach != MOULT__TARGET__REACH__REACH_TREE || fstat(job->original_fd, &st) != 0 ||
            !S_ISDIR(st.st_mode))
                return g_strdup("overlayfs merges directories only");
        /* The store's own folder in the tree's place: it lies on the same file system. */
        g_autoptr(GError) error = NULL;
        scoped_fd int tried = mount_over(object_store_target_fd(job->store), job->original_fd, "moult-probe",
                                         MOUNT_ATTR_RDONLY, &error);
        return tried >= 0 ? NULL : g_strdup(error->message);
}

static int make(const struct merge_job *job, GError **error)
{
        if (!target_tree_make(job->store, job->target, &job->merge, job->original_fd, job->cancellable,
                              error))
                return -1;
        scoped_fd int tree = target_tree_open(job->store, job->target, &job->merge, error);
        return tree < 0 ? -1 : mount_over(tree, job->original_fd, job->tag, job->attr, error);
}

const struct merge_method_ops merge_overlay = {.method = MERGE_OVERLAY, .refusal = refusal, .make = make};
