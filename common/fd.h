/* common/fd.h - file descriptors that are owned, and loops around the calls that may do half their work. */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <sys/types.h>

/* `scoped_fd int fd = -1;` closes at the end of the scope and keeps errno. Hand over with g_steal_fd(). */
void scoped_fd_close(int *fd);
#define scoped_fd __attribute__((cleanup(scoped_fd_close)))

/* All of @len bytes, or an error. EINTR is retried. @what names the file in the error text. */
gboolean fd_write_all(int fd, const void *data, size_t len, const char *what, GError **error);
gboolean fd_pwrite_all(int fd, const void *data, size_t len, off_t offset, const char *what, GError **error);
/* @len bytes (a piece: they may have to be in memory at once) at @offset of @from to the same place of @to:
 * by the kernel where it can, else through us. */
gboolean fd_copy_piece(int from, int to, off_t offset, size_t len, const char *what_from, const char *what_to,
                       GError **error);
/* Exactly @len bytes; a short file is MOULT_ERROR_CORRUPT. */
gboolean fd_pread_all(int fd, void *data, size_t len, off_t offset, const char *what, GError **error);

/* The whole of a file below @dirfd (AT_FDCWD for none), at most @max_bytes; larger is MOULT_ERROR_REFUSED. */
GBytes *fd_read_file_at(int dirfd, const char *name, size_t max_bytes, GError **error);
