/* common/atomic_file.h - a state file is the old one or the new one, also after a power cut.
 *
 * write to a temporary name in the same directory, fsync, rename, fsync the directory. */
#pragma once

#include <glib.h>
#include <sys/types.h>

gboolean atomic_file_write_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                              GError **error);
/* The same where several writers, also on other hosts, may write the file at once: each has a temporary name
 * of its own (".NAME.RANDOM.new"), and what a crash leaves of it stays until somebody looks for such. */
gboolean atomic_file_write_shared_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                                     GError **error);
