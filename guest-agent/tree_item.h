/* guest-agent/tree_item.h - one object of the tree as the host hears of it. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "common/digest.h"
#include "proto/channel.pb-c.h"

/* @name in @dir_fd (or AT_FDCWD), never followed; @sx: what statx() with STATX_BASIC_STATS says of it.
 * Without a digest. NOT_FOUND: it went meanwhile. */
Moult__TreeItem *tree_item_read(int dir_fd, const char *name, const char *path, const struct statx *sx,
                                GError **error);
void tree_item_free(Moult__TreeItem *item);

/* Sets the digest of a regular file. BUSY: it changed while it was read. */
gboolean tree_item_hash(Moult__TreeItem *item, int dir_fd, const char *name, Hasher *h, GError **error);

/* Pure. Type, metadata but for the time, link text, device and size. A file with several names is never the
 * same: the host must see which names belong together. */
gboolean tree_item_same(const Moult__TreeItem *live, const Moult__TreeItem *base);
/* Pure. Whether a look at the content can be saved: there is none, or (unless @hash) the time is the same. */
gboolean tree_item_same_times(const Moult__TreeItem *live, const Moult__TreeItem *base, gboolean hash);
/* Pure. Both have a digest, and it is the same one. */
gboolean tree_item_same_content(const Moult__TreeItem *live, const Moult__TreeItem *base);
