/* shm/region.h - memory that someone else may be writing. Copy in, never a pointer out. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "shm/pack_source.h"

typedef struct Region Region;
/* Maps @size bytes of @fd from 0, read-only (or read-write for the probe). Takes over @fd. */
Region *region_map(int fd, uint64_t size, gboolean writable, GError **error);
void region_free(Region *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Region, region_free)
uint64_t region_size(const Region *r);
/* Copies with streaming loads where the CPU has them (shm/stream_copy.h). SIGBUS-safe: a vanished BAR or
 * truncated file gives MOULT_ERROR_IO, not a dead process. Thread-safe. */
gboolean region_copy_in(Region *r, uint64_t offset, void *dst, size_t len, GError **error);
/* True if a store to the last word sticks: then the window is not read-only. Restores the word. */
gboolean region_probe_writable(Region *r, gboolean *ret_writable, GError **error);

/* A pack source over a region; takes over @r. @kind is the SourceKind, @name for messages. */
PackSource *pack_source_region_new(Region *r, int kind, const char *name);
