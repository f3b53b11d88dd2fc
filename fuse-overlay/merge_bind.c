/* fuse-overlay/merge_bind.c - a lone file is merged by a bind mount of its object.
 *
 * A bind mount has no source of its own to carry a tag. So the object is linked as trees/ID, and the mount
 * table shows that path as the mount's root. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/merge_method.h"
#include "fuse-overlay/mount_api.h"

#define CLEARED (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static char *refusal(const struct merge_job *job)
{
        struct stat st;
        struct target_item item;
        if (job->merge.reach != MOULT__TARGET__REACH__REACH_FILE)
                return g_strdup("a bind mount brings a single file only");
        if (!target_lookup(job->target, job->merge.path, &item) ||
            item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return g_strdup("a bind mount brings regular files only");
        if (fstat(job->original_fd, &st) != 0 || !S_ISREG(st.st_mode))
                return g_strdup("there is no regular file to mount over");
        return NULL;
}

/* trees/ID is the object, whatever it was before: an object that was damaged is replaced under its name. */
static int open_link(const struct merge_job *job, const Moult__Entry *entry, GError **error)
{
        int target = object_store_target_fd(job->store);
        if (mkdirat(target, "trees", 0700) != 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "making the folder of trees");
                return -1;
        }
        scoped_fd int trees = openat(target, "trees", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (trees < 0) {
                moult_error_errno(error, errno, "opening the folder of trees");
                return -1;
        }
        char id[TARGET_ID_LENGTH + 1];
        target_id(job->target, &job->merge, id);
        g_autofree char *temporary = g_strdup_printf(".%s.new", id);
        if (unlinkat(trees, temporary, 0) != 0 && errno != ENOENT) {
                moult_error_errno(error, errno, "removing trees/%s", temporary);
                return -1;
        }
        if (!object_store_link(job->store, entry, trees, temporary, error))
                return -1;
        /* Of two links of one file, rename() leaves both. */
        if (renameat(trees, temporary, trees, id) != 0) {
                moult_error_errno(error, errno, "naming trees/%s", id);
                return -1;
        }
        (void)unlinkat(trees, temporary, 0);
        int fd = openat(trees, id, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                moult_error_errno(error, errno, "opening trees/%s", id);
        return fd;
}

static int make(const struct merge_job *job, GError **error)
{
        struct target_item item;
        if (!target_lookup(job->target, job->merge.path, &item)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the target has no file for its merge at /%s", job->merge.path);
                return -1;
        }
        scoped_fd int object = open_link(job, item.entry, error);
        scoped_fd int mount = object >= 0 ? mount_api_clone(object, job->merge.path, error) : -1;
        /* The flags of the place that the file is seen at, not of the one that it is kept at; and out of the
         * peer group of the file system with our state. */
        if (mount < 0 || !mount_api_set_attr(mount, job->attr, CLEARED, job->merge.path, error) ||
            !mount_api_set_propagation(mount, MS_PRIVATE, FALSE, job->merge.path, error))
                return -1;
        return g_steal_fd(&mount);
}

const struct merge_method_ops merge_bind = {.method = MERGE_BIND, .refusal = refusal, .make = make};
