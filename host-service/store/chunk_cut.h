/* host-service/store/chunk_cut.h - where a pack is cut into chunks: by its content, at blocks of 4096 bytes.
 *
 * Theory of operation: everything in a pack begins at a multiple of 4096 bytes, so what is equal in two packs
 * differs in its place by whole blocks. A chunk therefore begins where the SHA-256 of a block says so: no
 * rolling hash is needed, and an inserted file moves the cuts of its own neighbourhood only. The cut depends
 * on nothing but the bytes, so that every host cuts alike. docs/decisions/0020-chunks.md has what was
 * measured. */
#pragma once

#include "common/digest.h"

#define CHUNK_CUT_BLOCK 4096u
#define CHUNK_CUT_MIN   (8u * CHUNK_CUT_BLOCK)
#define CHUNK_CUT_AVG   (32u * CHUNK_CUT_BLOCK) /* after the minimum: one block in so many ends a chunk */
#define CHUNK_CUT_MAX   (128u * CHUNK_CUT_BLOCK)

/* The length of the first chunk of @data, which begins a chunk and holds all that is left, or at least
 * CHUNK_CUT_MAX + CHUNK_CUT_BLOCK bytes. 0 only if @len is 0. */
size_t chunk_cut(Hasher *h, const uint8_t *data, size_t len);
