/* shm/pack_writer.h - making a pack: blobs as they are added, then list, signature, header; sealed by rename.
 */
#pragma once

#include <gio/gio.h>

#include "shm/keys.h"
#include "shm/manifest.h"
#include "shm/pack_delta_writer.h"

typedef struct PackWriter PackWriter;

struct pack_writer_options {
        const char *name, *version, *description;
        uint64_t created_unix_s;
        uint64_t security_floor;
        int zstd_level; /* 0: store raw; what does not shrink by 1/16 is stored raw in any case (files over 1
                           MiB are judged by samples) */
        gboolean no_trees; /* the pack is smaller by 1/128, and its files cannot be read block by block */
};

/* Writes next to @path under a temporary name; nothing appears at @path before pack_writer_finish(). */
PackWriter *pack_writer_new(const char *path, const struct pack_writer_options *options, GError **error);
/* Without finish: removes the temporary file. */
void pack_writer_free(PackWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PackWriter, pack_writer_free)

/* Called in the adding thread with the bytes of each chunk that was read: for progress within large files. */
typedef void (*pack_writer_observer)(uint64_t bytes, gpointer user);
void pack_writer_set_observer(PackWriter *w, pack_writer_observer observer, gpointer user);

/* The manifest under construction: the caller appends requirements, hooks, restart units with the helpers. */
gboolean pack_writer_add_requirement(PackWriter *w, const char *key, const char *value, GError **error);
gboolean pack_writer_add_hook(PackWriter *w, Moult__HookStage stage, const char *name, GBytes *script,
                              uint32_t timeout_ms, GError **error);
gboolean pack_writer_add_restart_unit(PackWriter *w, const char *unit, GError **error);

/* Adds one entry. @e is copied; its type, mode, uid, gid, mtime, xattrs, link_target, dev, old_digests,
 * delivery are the caller's. For ENTRY_FILE, @data_fd is read (holes by SEEK_DATA) and size, digest, blob,
 * extents are filled in here; equal contents share a blob. Entries may come in any order, but blobs lie in
 * the order of adding: add in path order, so that neighbours are read together. After a failure the writer
 * can only be freed. What the type does not have (mode of a symbolic link, owner of a hard link...) is left
 * out. */
gboolean pack_writer_add_entry(PackWriter *w, const Moult__Entry *e, int data_fd, GCancellable *cancellable,
                               GError **error);

/* All entries are added: their blobs are complete now, and deltas may come. NULL with @error. Owned by the
 * writer. */
DeltaWriter *pack_writer_begin_deltas(PackWriter *w, GError **error);
/* After that: the entry with this path, its index in *ret_index; NULL if there is none. */
const Moult__Entry *pack_writer_find(const PackWriter *w, const char *path, uint32_t *ret_index);
/* A blob, counted from 0. */
const Moult__Blob *pack_writer_blob(const PackWriter *w, uint32_t blob);
/* Its bytes, decompressed, as they are in the pack. @offset: a multiple of CHUNK_SIZE. */
gboolean pack_writer_read_blob(const PackWriter *w, uint32_t blob, uint64_t offset, void *dst, size_t len,
                               GError **error);

/* Sorts, validates by the reader's own gate, signs with each key (@n_keys may be 0: an unsigned pack, which
 * every agent refuses), fsyncs and renames to the final path, mode 0444. @ret_manifest_digest may be NULL. */
gboolean pack_writer_finish(PackWriter *w, SigningKey *const *keys, unsigned n_keys,
                            uint8_t *ret_manifest_digest, GError **error);
