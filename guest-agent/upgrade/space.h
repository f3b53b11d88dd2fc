/* guest-agent/upgrade/space.h - will everything fit, while the old files are kept? */
#pragma once

#include "fuse-overlay/target.h"
#include "guest-agent/upgrade/plan.h"

struct space {
        guint64 free_bytes, free_inodes;
        gboolean counts_inodes; /* btrfs does not */
};
/* NULL if @need fits, else why not. Pure. */
char *space_refusal(const struct space *s, guint64 need_bytes, guint64 need_inodes, const char *where);
/* MOULT_ERROR_NO_SPACE names the file system, what is needed and what is free. */
/* The store of the target file system, together with what is staged on its file system. @t: the target that
 * there will be; NULL: none. */
gboolean space_check_store(const Plan *p, const Target *t, int state_fd, GError **error);
gboolean space_check(const Plan *p, int root_fd, GError **error);
