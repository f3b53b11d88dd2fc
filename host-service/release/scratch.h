/* host-service/release/scratch.h - file contents put aside while a release is made: nothing is left of them
 * when the process ends, however it ends. */
#pragma once

#include <gio/gio.h>
#include <stdint.h>

typedef struct Scratch Scratch;

/* In TMPDIR, else /var/tmp: contents may be larger than what fits into memory. */
Scratch *scratch_new(GError **error);
void scratch_free(Scratch *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scratch, scratch_free)

/* Appends; the first byte's place is scratch_size() before. */
gboolean scratch_append(Scratch *s, const void *data, size_t len, GError **error);
uint64_t scratch_size(const Scratch *s);
/* A file of its own with these bytes, read at its beginning. -1 with @error. */
int scratch_open(const Scratch *s, uint64_t offset, uint64_t size, GError **error);

/* An empty file without a name, for reading and writing. */
int scratch_file_new(GError **error);
