/* fuse-overlay/targetfs/ops.h - the requests of the kernel, answered. */
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include "fuse-overlay/targetfs/content.h"
#include "fuse-overlay/targetfs/inode.h"

/* The session's user data. All borrowed. */
struct fs {
        InodeTable *inodes;
        Contents *contents;
        Shelf *listings;
        GThreadPool *slow, *remote; /* run fs_read_slowly() with this struct */
        int original_fd;
        SourcePack *pack;  /* instant mode; NULL: none */
        const char *merge; /* for messages */
        void (*ready)(gpointer user);
        gpointer user;
};

extern const struct fuse_lowlevel_ops fs_ops;
void fs_read_slowly(gpointer job, gpointer fs);
