/* fuse-overlay/targetfs/serve.h - one merge is served on a FUSE connection until its mount is gone. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/object_store.h"
#include "fuse-overlay/targetfs/source_pack.h"

struct serve_config {
        Target *target;
        struct target_merge merge; /* one of the target's */
        int original_fd;           /* O_PATH */
        int state_fd;              /* STATE_DIR */
        SourcePack *pack;          /* instant mode; NULL: none */
        /* Called once, when the kernel and we have agreed: whoever waits for the mount may use it. */
        void (*ready)(gpointer user);
        gpointer user;
};

/* Blocks. @fuse_fd (taken over) is of /dev/fuse, mounted. TRUE: the mount is gone. Bad configuration and a
 * broken connection are errors. */
gboolean serve(const struct serve_config *config, int fuse_fd, GError **error);
