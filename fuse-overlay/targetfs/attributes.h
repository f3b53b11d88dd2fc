/* fuse-overlay/targetfs/attributes.h - extended attributes: the target's from its entry, the original's from
 * the original. */
#pragma once

#include "fuse-overlay/targetfs/inode.h"

/* As getxattr() and listxattr(): bytes, or -1 with errno; @size 0: the size. @privileged: the caller may see
 * trusted.* names. */
ssize_t attributes_get(InodeTable *t, Inode *i, const char *name, void *buf, size_t size);
ssize_t attributes_list(InodeTable *t, Inode *i, gboolean privileged, char *buf, size_t size);
