/* guest-agent/upgrade/boots.h - boot counting: a release that does not get the machine healthy is rolled back
 * at the next start.
 *
 * generations/N/boots has a line for each start of the machine with generation N as its newest: "begun
 * BOOT-ID"; and "good BOOT-ID" once one of them came up healthy, which ends the counting for good: what
 * happens to a release that has proved itself is not its fault. One that is not confirmed yet is counted,
 * too: a machine that does not get as far as its daemon has nobody else to take it back. */
#pragma once

#include "guest-agent/upgrade/engine.h"

#define BOOTS_MAX 3u /* starts that a release gets */

/* The machine starts. Writes down, durably, that its newest generation is tried once more; or, if
 * it was tried often enough, rolls it back (@text says so). Nothing is counted for a generation that has no
 * way back. */
gboolean boots_begin(Upgrade *u, GString *text, GError **error);

/* Pure: how many starts were begun, and whether one was good. A torn last line is as if it was never written.
 */
guint boots_count(const char *text, gboolean *ret_good);
