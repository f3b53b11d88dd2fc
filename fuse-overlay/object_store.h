/* fuse-overlay/object_store.h - STATE_DIR/target/objects: regular files by the digest of content and
 * metadata. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/target.h"

typedef struct ObjectStore ObjectStore;

/* STATE_DIR/target is made (0700) if it is not there. @state_fd: of STATE_DIR; kept as a duplicate. */
ObjectStore *object_store_open(int state_fd, GError **error);
void object_store_free(ObjectStore *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ObjectStore, object_store_free)
/* Descriptor of STATE_DIR/target, borrowed. */
int object_store_target_fd(const ObjectStore *s);

/* True if it is there, a regular file, with the size and metadata of @entry. The content is not read. */
gboolean object_store_has(ObjectStore *s, const Moult__Entry *entry);
/* Reads all of it, unless it was verified or taken since object_store_forget_verified() and not touched since
 * then. MOULT_ERROR_NOT_FOUND, or CORRUPT with what differs. */
gboolean object_store_verify(ObjectStore *s, const Moult__Entry *entry, GCancellable *cancellable,
                             GError **error);
/* Something new begins: what was verified before is read again. */
void object_store_forget_verified(ObjectStore *s);
/* Moves the finished file @name in @dirfd (same file system, verified, metadata set) into the store. What is
 * there under that name already is replaced: it may be damaged, and whoever has it open or linked keeps it.
 * Not synced: the caller's sync covers it. */
gboolean object_store_take(ObjectStore *s, const Moult__Entry *entry, int dirfd, const char *name,
                           GError **error);
/* The object is there, but damaged: it gets the bytes and metadata of the finished file @name in @dirfd, in
 * place, because trees and mounts hold links of it that must be whole again, too. Whoever reads meanwhile
 * sees damaged bytes or good ones, as before. BUSY: it is a program that runs (ETXTBSY). Synced. */
gboolean object_store_mend(ObjectStore *s, const Moult__Entry *entry, int dirfd, const char *name,
                           GError **error);
/* O_RDONLY, or -1 with NOT_FOUND. */
int object_store_open_object(ObjectStore *s, const Moult__Entry *entry, GError **error);
/* A hard link of the object; where the file system has no more links for it (EMLINK), a copy with the same
 * metadata. */
gboolean object_store_link(ObjectStore *s, const Moult__Entry *entry, int dirfd, const char *name,
                           GError **error);
/* Removes every object that is not an item of one of the @n targets. *ret_bytes (may be NULL): freed. */
gboolean object_store_collect(ObjectStore *s, const Target *const *keep, guint n, guint64 *ret_bytes,
                              GError **error);
