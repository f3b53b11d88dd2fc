/* fuse-overlay/targetfs/read_deadline.h - until when the read that this thread works on must be answered.
 *
 * One read of a file may need several of the pack, each of them by several ways. Whoever waits anywhere below
 * asks here, so that all of it together has a bound. */
#pragma once

#include <glib.h>

/* Longer than the agent needs to restart, and to fall from one transport to the next (15 s of silence each);
 * shorter than the two minutes after which Linux reports hung tasks. */
#define READ_WITHIN_S 30

/* Of this thread, from now on. */
void read_deadline_begin(void);
/* Milliseconds that are left, 0: none. Without a beginning: READ_WITHIN_S. */
int read_deadline_left_ms(void);
