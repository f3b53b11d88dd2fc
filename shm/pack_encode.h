/* shm/pack_encode.h - files to stored bytes: chunks are hashed and compressed by worker threads, and come out
 * in order.
 *
 * Theory of operation: one thread (the writer's) reads files and pushes chunks; workers hash and compress
 * them; the same thread takes them out again in the order in which they were pushed, as soon as too much is
 * under way. So nothing here has a lock of its own but the queue, and what is written does not depend on the
 * number of CPUs. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"

typedef struct Encoder Encoder;

/* A chunk under way. Whoever takes it out frees it. */
struct encoder_chunk {
        gpointer file; /* the pusher's: which file it is of */
        bool last;     /* of its file */
        size_t raw_len;
        uint8_t *raw;
        size_t zstd_len; /* 0: not compressed, or it did not become smaller by 1/16 and might be stored raw */
        uint8_t *zstd;
        size_t n_leaves; /* level-1 blocks of the tree over this chunk, if they were wanted */
        uint8_t *leaves;
        /* private, but set by who pushes it */
        VerityTree *tree; /* NULL: somebody else hashes */
        uint64_t verity_chunk;
        bool wants_leaves;
        enum { ENCODE_RAW, ENCODE_IF_SMALLER, ENCODE_ALWAYS } how;
        bool done; /* protected by the encoder's lock */
};

/* @level 0: nothing is compressed. */
Encoder *encoder_new(int level);
void encoder_free(Encoder *e);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Encoder, encoder_free)

/* Takes over @c. Check encoder_is_full() first. */
void encoder_push(Encoder *e, struct encoder_chunk *c);
/* True when as many bytes are under way as memory is set aside for. */
bool encoder_is_full(const Encoder *e);
/* The oldest chunk, waiting for it; NULL if there is none under way. */
struct encoder_chunk *encoder_pull(Encoder *e);
void encoder_chunk_free(struct encoder_chunk *c);

/* True if @len bytes become smaller by 1/16 at least. For a sample of a large file, in the calling thread. */
bool encoder_shrinks(Encoder *e, const void *data, size_t len);
