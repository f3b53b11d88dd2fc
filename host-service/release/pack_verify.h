/* host-service/release/pack_verify.h - every content of a pack, and its hash tree, against its digest, in
 * parallel. */
#pragma once

#include "shm/pack_reader.h"

/* Called from worker threads, one call at a time. */
typedef void (*pack_verify_observer)(uint64_t bytes_done, uint64_t bytes_total, gpointer user);

struct pack_verify_report {
        uint64_t files, bytes; /* that were read and compared */
        uint64_t trees;        /* of these files, that the pack holds: the same */
};

/* The signature and the list were judged when @reader was opened; this judges the blobs. @threads 0: one per
 * CPU. Errors: CORRUPT with the first wrong path in the text, CANCELLED, IO. */
gboolean pack_verify(PackReader *reader, unsigned threads, pack_verify_observer observer, gpointer user,
                     GCancellable *cancellable, struct pack_verify_report *ret, GError **error);

/* One file entry alone; @scratch and @h belong to the calling thread. */
gboolean pack_verify_entry(PackReader *reader, const Moult__Entry *e, BlobBuffer *scratch, Hasher *h,
                           GCancellable *cancellable, GError **error);
