/* guest-agent/freezer.h - the process that holds a freeze: `moult-agent freezer`.
 *
 * Theory of operation: it is a process of its own so that neither the agent's end nor a slow agent prolongs a
 * freeze. Everything that it needs is opened, mapped and locked in memory before the first file system is
 * frozen; from then on it allocates nothing, opens nothing and logs nothing. Each file system has a thread of
 * its own, since an ioctl on it may hang; the main thread runs the machine (freeze_machine.h) by what comes
 * in: orders, the clock, signals, operations that are over. Whatever ends it but SIGKILL ends in a thaw. */
#pragma once

#include <glib.h>

#include "guest-agent/freeze_record.h"

struct freezer_options {
        const char *directory; /* for the record and the socket; in memory */
        const char *mountinfo;
        const guint8 *id; /* FREEZE_ID_SIZE */
        gint64 lease_us;
        int agent; /* a socket on which orders come, or -1 */
};

/* Freezes, holds, thaws. FALSE with @error: nothing was frozen, since it could not even begin. */
gboolean freezer_run(const struct freezer_options *options, GError **error);

/* For who is no holder: asks the one that there is. -1 without @error: there is none. */
int freezer_connect(const char *directory, GError **error);
/* Sends an order and waits for reports until one says @until or a later phase, or the holder is gone (FALSE
 * without @error). Blocks, a minute at most. */
gboolean freezer_ask(int fd, enum freeze_order_kind kind, enum freeze_phase until, struct freeze_report *ret,
                     GError **error);
