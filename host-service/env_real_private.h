/* host-service/env_real_private.h - what the files of the real environment share. */
#pragma once

#include "host-service/env.h"

struct env_real {
        struct host_env env; /* first: the self of every table is this struct */
        char *state_dir, *packs_dir, *catalogue_path;
        gboolean immutable; /* sealed packs */
        int state_fd, packs_fd, lock_fd;
        GHashTable *virt_hosts; /* URI -> VirtHost (env_real_virt.c); or NULL */
};

extern const struct host_channel_ops env_real_channel_ops;
extern const struct host_store_ops env_real_store_ops;
extern const struct host_virt_ops env_real_virt_ops; /* only if built with libvirt */
