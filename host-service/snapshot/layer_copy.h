/* host-service/snapshot/layer_copy.h - the file of a disk that nobody writes to, once more: by reflink where
 * the file system can, else what is not a hole.
 *
 * Whether it stays so that nobody writes is not promised by a lock, which would keep a VM from starting for
 * as long as it takes: whoever copies looks again afterwards (docs/decisions/0035-*). Blocks. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Asked now and then by what may take long; FALSE with @error: it ends there. */
typedef gboolean (*layer_wanted_func)(gpointer user, GError **error);

/* Whether the qcow2 image @fd is of a disk of @size bytes over the file @below (absolute; NULL: over
 * nothing), by its header. @name: for texts. REFUSED: it is not; CORRUPT: it is no image; IO. */
gboolean layer_copy_judge(int fd, const char *name, const char *below, guint64 size, GError **error);

/* All of @from into the empty file @to, not synced. BUSY: a QEMU has @from open; NO_SPACE, IO. @is_wanted may
 * be NULL. */
gboolean layer_copy(int from, int to, const char *from_name, const char *to_name, layer_wanted_func is_wanted,
                    gpointer user, GError **error);
