/* guest-agent/stale_init.h - which init script a process belongs to, on a machine without systemd.
 *
 * There is no record of that. What there is: daemons write their number into a file in /run, and init scripts
 * name that file, or are named as it is. Files that are not root's are not believed. */
#pragma once

#include <glib.h>

typedef struct StaleInit StaleInit;

/* NULL where systemd knows better. */
StaleInit *stale_init_new(void);
/* The same by other directories, for tests. */
StaleInit *stale_init_new_in(const char *run, const char *scripts);
void stale_init_free(StaleInit *i);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleInit, stale_init_free)

/* The script that started @pid, or NULL. As long as @i lives. */
const char *stale_init_find(const StaleInit *i, gint64 pid);
