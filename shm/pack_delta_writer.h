/* shm/pack_delta_writer.h - the deltas of a pack that is being made: frames behind everything else, then the
 * index, then the trailer. */
#pragma once

#include <glib.h>

#include "proto/manifest.pb-c.h"
#include "common/digest.h"
#include "shm/pack_deltas.h"

typedef struct DeltaWriter DeltaWriter;

/* Writes to @fd, which stays the caller's, from @begin on. @path: for messages. */
DeltaWriter *delta_writer_new(int fd, const char *path, uint64_t begin);
void delta_writer_free(DeltaWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeltaWriter, delta_writer_free)

/* Which index what is added from here on goes to; at first DELTA_INDEX_BYTES. Each has its own sources. */
void delta_writer_choose(DeltaWriter *w, enum delta_index_kind kind);
/* The number of a source, for pieces. @entry: index of the entry whose path and first old digest it has, plus
 * 1; else 0, with both. */
uint32_t delta_writer_add_source(DeltaWriter *w, uint32_t entry, const char *path,
                                 const uint8_t digest[static DIGEST_SIZE]);
/* Takes over @f, whose prefix and parts are set, and writes its bytes. */
gboolean delta_writer_add_frame(DeltaWriter *w, Moult__DeltaFrame *f, GBytes *bytes, GError **error);

/* Of the chosen index. */
unsigned delta_writer_frames(const DeltaWriter *w);
/* Of frames, so far. */
uint64_t delta_writer_bytes(const DeltaWriter *w);

/* Index and trailer. *ret_end: where the blob area ends now, a multiple of PACK_ALIGN; without frames
 * @begin. */
gboolean delta_writer_finish(DeltaWriter *w, uint64_t *ret_end, GError **error);
