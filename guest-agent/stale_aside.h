/* guest-agent/stale_aside.h - what an object that a generation put aside was called. */
#pragma once

#include <glib.h>

typedef struct StaleAside StaleAside;

/* Takes over @state_fd: the state directory, or -1. */
StaleAside *stale_aside_new(int state_fd);
void stale_aside_free(StaleAside *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StaleAside, stale_aside_free)

/* "usr/lib/x" for ".../.moult/3/17", by the list of generation 3, relative to the root. NULL: that is no such
 * name, or nobody knows what it was. The caller frees. */
char *stale_aside_path(StaleAside *a, const char *name);
