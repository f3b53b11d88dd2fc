/* guest-agent/upgrade/pace.h - giving way to the guest's own disk work. */
#pragma once

#include <gio/gio.h>

/* Share of the last ten seconds, in percent, in which somebody waited for the disk: "some avg10" of the text
 * of /proc/pressure/io. -1 if it cannot be read. Pure. */
double pace_parse_pressure(const char *text);
/* Returns at once while the disk has room, else when it has, after a second at the latest. */
void pace_wait(GCancellable *cancellable);
