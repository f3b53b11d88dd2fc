/* guest-agent/tree_look.h - what differs in a part of the tree from what the host supposes (docs/capture.md).
 *
 * Theory of operation: the host asks for one range of paths after the other, in the order of
 * common/path_order.h, and says what it supposes there. Each answer stands for itself: nothing is kept here
 * between two questions, so a lost answer, a new session or a restarted agent cost one question. A question
 * that finds too much, or takes too long, is answered for its beginning, and says how far. */
#pragma once

#include <gio/gio.h>

#include "proto/channel.pb-c.h"

/* Blocks. @deadline_us (g_get_monotonic_time()): no further file is begun after it, but one in any case. The
 * page is owned by the caller. Errors: IO, REFUSED. It looks in a thread of its own, which has a working
 * directory of its own: the shortest names are the cheapest for the kernel. */
Moult__TreePage *tree_look(int root_fd, const Moult__TreeQuery *query, gint64 deadline_us, GError **error);
void tree_page_free(Moult__TreePage *page);

/* A piece of a regular file; at most LIMIT_DATA_BYTES. Errors: NOT_FOUND, REFUSED (no regular file), IO. */
Moult__TreeData *tree_read(int root_fd, const Moult__TreeRead *what, GError **error);
void tree_data_free(Moult__TreeData *data);
