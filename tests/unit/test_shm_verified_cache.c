/* tests/unit/test_shm_verified_cache.c - the cache is bounded, and forgets what was used longest ago. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "shm/verified_cache.h"
#include "tests/support/packs.h"

TestSuite(verified_cache, .timeout = 60);

static void put(VerifiedCache *c, uint64_t offset)
{
        uint8_t block[VERITY_BLOCK_SIZE];
        memset(block, (int)(offset / VERITY_BLOCK_SIZE % 251), sizeof block);
        verified_cache_put_block(c, offset, block);
}

static gboolean has(VerifiedCache *c, uint64_t offset)
{
        uint8_t block[VERITY_BLOCK_SIZE];
        if (!verified_cache_get_block(c, offset, block))
                return FALSE;
        cr_expect(eq(u8, block[VERITY_BLOCK_SIZE - 1], (uint8_t)(offset / VERITY_BLOCK_SIZE % 251)));
        return TRUE;
}

Test(verified_cache, hash_blocks_that_were_not_used_for_longest_make_room)
{
        VerifiedCache *c = verified_cache_new();
        cr_expect(not(has(c, 4096)));
        for (uint64_t i = 1; i <= VERIFIED_CACHE_BLOCKS; i++)
                put(c, i * 4096);
        put(c, 4096); /* it is there already */
        cr_expect(has(c, 4096));
        put(c, UINT64_C(1) << 40);
        cr_expect(has(c, 4096), "it was just used");
        cr_expect(not(has(c, 2 * 4096)), "nobody used it for longest");
        cr_expect(has(c, 3 * 4096));
        cr_expect(has(c, UINT64_C(1) << 40));
        verified_cache_free(c);
}

/* Twelve chunks, compressed. */
static PackReader *twelve_chunks(TempDir *t)
{
        const struct pack_writer_options options = {.name = "n", .version = "1", .zstd_level = 1};
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "p");
        g_autofree uint8_t *data = g_malloc(12 * CHUNK_SIZE);
        for (size_t i = 0; i < 12 * CHUNK_SIZE; i++)
                data[i] = (uint8_t)(i / CHUNK_SIZE);
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        packs_add_file(w, "f", data, 12 * CHUNK_SIZE);
        cr_assert(pack_writer_finish(w, NULL, 0, NULL, &error));
        PackReader *r = packs_open(path, NULL, &error);
        cr_assert(ne(ptr, r, NULL));
        return r;
}

static UnpackedChunk *take(VerifiedCache *c, PackReader *r, BlobBuffer *scratch, uint64_t index)
{
        g_autoptr(GError) error = NULL;
        size_t len;
        UnpackedChunk *chunk = verified_cache_take_chunk(c, r, 0, index, scratch, NULL, &error);
        cr_assert(ne(ptr, chunk, NULL), "%s", error != NULL ? error->message : "");
        const uint8_t *data = unpacked_chunk_data(chunk, &len);
        cr_assert(eq(sz, len, CHUNK_SIZE));
        cr_assert(eq(u8, data[len - 1], (uint8_t)index));
        return chunk;
}

Test(verified_cache, a_chunk_is_unpacked_once_while_it_is_kept_and_eight_are_kept)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(PackReader) r = twelve_chunks(t);
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        VerifiedCache *c = verified_cache_new();
        g_autoptr(UnpackedChunk) first = take(c, r, scratch, 0);
        g_autoptr(UnpackedChunk) same = take(c, r, scratch, 0);
        cr_expect(eq(ptr, first, same));
        for (uint64_t i = 1; i < VERIFIED_CACHE_CHUNKS; i++)
                g_clear_pointer(&(UnpackedChunk *){take(c, r, scratch, i)}, unpacked_chunk_unref);
        g_autoptr(UnpackedChunk) still = take(c, r, scratch, 0);
        cr_expect(eq(ptr, first, still));
        for (uint64_t i = 4; i < 12; i++)
                g_clear_pointer(&(UnpackedChunk *){take(c, r, scratch, i)}, unpacked_chunk_unref);
        g_autoptr(UnpackedChunk) anew = take(c, r, scratch, 0);
        cr_expect(ne(ptr, first, anew), "it had to make room; who held it kept it");
        verified_cache_forget_chunk(c, 0, 0);
        g_autoptr(UnpackedChunk) again = take(c, r, scratch, 0);
        cr_expect(ne(ptr, anew, again), "it was to be forgotten");
        verified_cache_forget_chunk(c, 0, 3); /* not there */
        verified_cache_free(c);
}
