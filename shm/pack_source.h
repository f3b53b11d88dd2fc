/* shm/pack_source.h - where the bytes of a pack come from: an operations table.
 *
 * A source is read by several staging threads at once. read() blocks, copies into the caller's private memory
 * and promises nothing about the bytes: whoever reads verifies. Sources that a guest agent knows: a file, a
 * mapped shared-memory window, a session to the host; and the ladder, a source made of sources, which climbs
 * down when the one in use is gone and goes on at the very block that failed. */
#pragma once

#include <gio/gio.h>
#include <stdint.h>

typedef struct PackSource PackSource;

struct pack_source_ops {
        const char *name; /* "file", "ivshmem", "pmem", "virtio-serial", "tls" */
        int kind;         /* a SourceKind of proto/channel.proto */
        /* Exactly @len bytes at @offset into @buf. Thread-safe. MOULT_ERROR_IO/TIMEOUT: the source is gone;
         * MOULT_ERROR_CORRUPT: outside of the pack; G_IO_ERROR_CANCELLED. */
        gboolean (*read)(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *cancellable,
                         GError **error);
        /* See pack_source_distrust(); NULL: there is no other way to the bytes. */
        unsigned (*rung)(PackSource *self);
        gboolean (*distrust)(PackSource *self, unsigned rung);
        /* Called once, when the last reference goes. */
        void (*free)(PackSource *self);
};

/* Implementations embed this as their first member. */
struct PackSource {
        const struct pack_source_ops *ops;
        gint refs;     /* atomic */
        uint64_t size; /* bytes that may be asked for; ours, never the peer's word */
};

void pack_source_init(PackSource *self, const struct pack_source_ops *ops, uint64_t size);
PackSource *pack_source_ref(PackSource *self);
void pack_source_unref(PackSource *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PackSource, pack_source_unref)

/* Checks the range, then calls the operation. */
gboolean pack_source_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *cancellable,
                          GError **error);

/* A number that is another one after each change of where the bytes come from. */
unsigned pack_source_rung(PackSource *self);
/* What was read while pack_source_rung() was @rung is not what was signed. TRUE if it is worth to read it
 * again: the bytes come from somewhere else now. Only a window is given up for it (somebody else may write
 * there); a session gives what the host has. */
gboolean pack_source_distrust(PackSource *self, unsigned rung);
/* A SourceKind of proto/channel.proto: where the bytes come from now; UNSPECIFIED: a ladder that was not read
 * from yet. */
int pack_source_kind(PackSource *self);
/* Where the bytes come from now, for messages. */
const char *pack_source_name(PackSource *self);

/* Takes over @fd (O_RDONLY). */
PackSource *pack_source_file_new(int fd, GError **error);

/* A source that tries @open_next for the next rung when the present one is gone, or @damaged: its bytes were
 * wrong.
 * @open_next runs in a staging thread under a lock; it returns a new reference, or NULL with @error when
 * there is none left. */
typedef PackSource *(*pack_source_next_func)(gpointer user, gboolean damaged, GError **error);
PackSource *pack_source_ladder_new(uint64_t size, pack_source_next_func open_next, gpointer user);
/* What the ladder reads from now, and how often it has changed. Thread-safe. */
int pack_source_ladder_kind(PackSource *ladder);
unsigned pack_source_ladder_changes(PackSource *ladder);
