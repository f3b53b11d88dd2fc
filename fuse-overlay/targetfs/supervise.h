/* fuse-overlay/targetfs/supervise.h - a server that dies is replaced.
 *
 * Theory of operation: the process that serves is a child of one that does nothing but wait for it, in a
 * session of its own. When the child ends because the mount is gone, so does the parent. When it dies of
 * anything else its mount is dead, and so is whatever was open there; the parent makes a new mount with a new
 * server and puts it in the place of the dead one, so that who asks again by path is served. Pauses between
 * tries grow, and the tries are bounded: a server that always dies leaves a dead merge, which moult-agent
 * sees. The target was read and checked before, so a new server needs no file but the objects. */
#pragma once

#include "fuse-overlay/merge.h"
#include "fuse-overlay/targetfs/serve.h"

struct supervise_config {
        struct serve_config serve;
        struct merge_config merge_config;
        const char *tag;
        unsigned attr;
        int status_fd; /* taken over: "ready\n", or why not, or nothing */
};

/* Goes on in the background; the caller ends. @fuse_fd is taken over. */
gboolean supervise(const struct supervise_config *config, int fuse_fd, GError **error);
