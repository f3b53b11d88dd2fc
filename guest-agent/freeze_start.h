/* guest-agent/freeze_start.h - starts the process that holds a freeze (freezer.h). */
#pragma once

#include <glib.h>

/* Runs `moult-agent freezer` beside us, in a control group of its own where systemd can make one (@scope):
 * what ends the agent's does not end it then. Returns our end of a socket on which it reports; its end
 * (EOF) without a report: it could not be started. It is reaped by the main loop. -1 with @error. */
int freeze_start(const char *directory, const char *mountinfo, const guint8 *id, guint32 lease_ms,
                 gboolean scope, GError **error);
/* Whether there can be a scope. */
gboolean freeze_start_has_scope(void);
