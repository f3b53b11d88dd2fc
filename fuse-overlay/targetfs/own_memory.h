/* fuse-overlay/targetfs/own_memory.h - a process that needs no file to keep running.
 *
 * Theory of operation: program and libraries are mapped from files, and may lie on the very file system that
 * a merge replaces. Each mapping would keep the mount that it came from alive, so with each release the
 * server of the one before would have to stay for the sake of the next; and a page that is read in again
 * would have to come from a server of ours. So the program starts again from a file of memory, and each
 * mapping of another file is replaced by a copy of its bytes. A static program has none. */
#pragma once

#include <glib.h>

/* The program starts again from a copy of its file, unless it did already: first thing in main(). Does not
 * return but on an error: the kernel keeps the program's file for as long as it runs. */
gboolean own_program(char **argv, GError **error);
/* To be called while there is one thread. FALSE with @error: some mappings are still those of files, and all
 * of them work as before. */
gboolean own_memory(GError **error);
