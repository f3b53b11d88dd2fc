/* shm/verified_file.c - reading a file out of a pack, any bytes of it, each block verified by itself. */
#include "shm/verified_file.h"

#include <string.h>

#include "common/error.h"
#include "common/verity_layout.h"
#include "proto/message.h"
#include "shm/verified_cache.h"

/* Blocks that one level-1 block stands for: what is read and verified in one go. */
#define SPAN ((uint64_t)VERITY_HASHES_PER_BLOCK * VERITY_BLOCK_SIZE)

/* Nothing in it changes after it was opened. */
struct VerifiedFile {
        PackReader *reader;
        const Moult__Entry *entry; /* the reader's */
        const Moult__Blob *blob;   /* the reader's; NULL: the file has no data */
        struct verity_layout layout;
        uint64_t *starts; /* of each extent: where its bytes begin in the blob; NULL: the file is dense */
};

VerifiedFile *verified_file_open(PackReader *r, uint32_t entry, GError **error)
{
        const Manifest *m = pack_reader_manifest(r);
        g_assert(entry < m->n_entries && m->entries[entry]->type == MOULT__ENTRY_TYPE__ENTRY_FILE);
        const Moult__Entry *e = m->entries[entry];

        if (!manifest_is_verifiable_by_block(m, e)) {
                g_autofree char *path = message_string(e->path);
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "opening /%s in the pack: the pack has no hash tree of it, so that it can only be "
                        "copied whole; build the release with trees to have it read in place",
                        path);
                return NULL;
        }
        VerifiedFile *f = g_new0(VerifiedFile, 1);
        f->reader = pack_reader_ref(r);
        f->entry = e;
        f->blob = e->blob != 0 ? m->blobs[e->blob - 1] : NULL;
        verity_layout_init(&f->layout, e->size);
        if (e->n_extents > 0)
                f->starts = g_new(uint64_t, e->n_extents);
        for (uint64_t i = 0, sum = 0; i < e->n_extents; i++) {
                f->starts[i] = sum;
                sum += e->extents[i]->length;
        }
        return f;
}

void verified_file_close(VerifiedFile *f)
{
        if (f == NULL)
                return;
        g_free(f->starts);
        pack_reader_unref(f->reader);
        g_free(f);
}

uint64_t verified_file_size(const VerifiedFile *f)
{
        return f->entry->size;
}

/* --- what was wrong, and where it came from --- */

static unsigned rung_now(const VerifiedFile *f)
{
        PackSource *source = pack_reader_source(f->reader);
        return source != NULL ? pack_source_rung(source) : 0;
}

/* After a failure: TRUE if these bytes come from elsewhere now, and are worth another look. */
static gboolean is_worth_again(VerifiedFile *f, unsigned rung, const GError *why)
{
        PackSource *source = pack_reader_source(f->reader);
        return source != NULL && g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CORRUPT) &&
               pack_source_distrust(source, rung);
}

static gboolean corrupt(const char *what, uint64_t index, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s %" G_GUINT64_FORMAT
                    " is not what the signed list stands for: the pack is damaged, or "
                    "somebody writes where it lies",
                    what, index);
        return FALSE;
}

/* --- hash blocks --- */

static gboolean is_root(const VerifiedFile *f, Hasher *h, const uint8_t hash[static DIGEST_SIZE])
{
        uint8_t digest[DIGEST_SIZE];
        verity_root_digest(h, f->entry->size, hash, digest);
        return memcmp(digest, f->entry->digest.data, DIGEST_SIZE) == 0;
}

/* Hash block @index of @level, verified, into @ret. Recurses to the root at most, VERITY_LEVELS_MAX deep. */
static gboolean load_hash_block(VerifiedFile *f, struct verified_tools *t, unsigned level, uint64_t index,
                                uint8_t ret[static VERITY_BLOCK_SIZE], GCancellable *cancellable,
                                GError **error)
{
        VerifiedCache *cache = pack_reader_cache(f->reader);
        uint64_t in_tree = f->layout.start[level] + index;
        uint64_t offset = f->blob->tree_offset + in_tree * VERITY_BLOCK_SIZE;
        uint8_t above[VERITY_BLOCK_SIZE], hash[DIGEST_SIZE];
        gboolean top = level == f->layout.n_levels;

        if (verified_cache_get_block(cache, offset, ret))
                return TRUE;
        if (!top &&
            !load_hash_block(f, t, level + 1, index / VERITY_HASHES_PER_BLOCK, above, cancellable, error))
                return FALSE;
        const uint8_t *expected = above + index % VERITY_HASHES_PER_BLOCK * DIGEST_SIZE;
        for (gboolean again = FALSE;; again = TRUE) {
                g_autoptr(GError) why = NULL;
                unsigned rung = rung_now(f);
                if (pack_reader_read_stored(f->reader, offset, ret, VERITY_BLOCK_SIZE, cancellable, &why)) {
                        hasher_sha256(t->hasher, ret, VERITY_BLOCK_SIZE, hash);
                        if (top ? is_root(f, t->hasher, hash) : memcmp(hash, expected, DIGEST_SIZE) == 0) {
                                verified_cache_put_block(cache, offset, ret);
                                return TRUE;
                        }
                        corrupt("hash block", in_tree, &why);
                }
                if (!again && is_worth_again(f, rung, why))
                        continue;
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
}

/* --- data --- */

static gboolean read_unpacked(VerifiedFile *f, struct verified_tools *t, uint64_t at, uint8_t *dst,
                              size_t len, unsigned *ret_rung, GCancellable *cancellable, GError **error)
{
        while (len > 0) {
                g_autoptr(UnpackedChunk) chunk =
                        verified_cache_take_chunk(pack_reader_cache(f->reader), f->reader, f->entry->blob - 1,
                                                  at / CHUNK_SIZE, t->scratch, cancellable, error);
                if (chunk == NULL)
                        return FALSE;
                /* Unpacked while the pack came from elsewhere: that is what to blame. */
                if (unpacked_chunk_rung(chunk) != *ret_rung)
                        *ret_rung = unpacked_chunk_rung(chunk);
                size_t have, skip = (size_t)(at % CHUNK_SIZE);
                const uint8_t *data = unpacked_chunk_data(chunk, &have);
                size_t n = MIN(len,
                               have - skip); /* the list was judged: blob, extents and chunks fit together */
                memcpy(dst, data + skip, n);
                dst += n;
                at += n;
                len -= n;
        }
        return TRUE;
}

/* Bytes of the blob, not verified. *ret_rung: where they came from, as far as it is not where we read now. */
static gboolean read_blob(VerifiedFile *f, struct verified_tools *t, uint64_t at, uint8_t *dst, size_t len,
                          unsigned *ret_rung, GCancellable *cancellable, GError **error)
{
        if (f->blob->storage == MOULT__BLOB_STORAGE__BLOB_ZSTD)
                return read_unpacked(f, t, at, dst, len, ret_rung, cancellable, error);
        return pack_reader_read_stored(f->reader, f->blob->offset + at, dst, len, cancellable, error);
}

static void forget(VerifiedFile *f, uint64_t at, size_t len)
{
        if (f->blob->storage != MOULT__BLOB_STORAGE__BLOB_ZSTD)
                return;
        for (uint64_t chunk = at / CHUNK_SIZE; chunk <= (at + len - 1) / CHUNK_SIZE; chunk++)
                verified_cache_forget_chunk(pack_reader_cache(f->reader), f->entry->blob - 1, chunk);
}

/* @t->leaf is the verified level-1 block over these blocks, if the file has any. */
static gboolean check_blocks(VerifiedFile *f, struct verified_tools *t, uint64_t first, const uint8_t *data,
                             size_t len, GError **error)
{
        for (size_t done = 0; done < len; done += VERITY_BLOCK_SIZE, first++) {
                uint8_t padded[VERITY_BLOCK_SIZE], hash[DIGEST_SIZE];
                const uint8_t *block = data + done;
                if (len - done < VERITY_BLOCK_SIZE) { /* ends the file */
                        memset(padded, 0, sizeof padded);
                        memcpy(padded, block, len - done);
                        block = padded;
                }
                hasher_sha256(t->hasher, block, VERITY_BLOCK_SIZE, hash);
                const uint8_t *expected = t->leaf + first % VERITY_HASHES_PER_BLOCK * DIGEST_SIZE;
                if (f->layout.n_levels == 0 ? !is_root(f, t->hasher, hash)
                                            : memcmp(hash, expected, DIGEST_SIZE) != 0)
                        return corrupt("block", first, error);
        }
        return TRUE;
}

/* Whole blocks (the last one may be what ends the file) that lie in one run of data and under one level-1
 * block.
 * @at: where they are in the blob. */
static gboolean read_blocks(VerifiedFile *f, struct verified_tools *t, uint64_t offset, uint64_t at,
                            uint8_t *dst, size_t len, GCancellable *cancellable, GError **error)
{
        uint64_t first = offset / VERITY_BLOCK_SIZE;

        if (f->layout.n_levels > 0 &&
            !load_hash_block(f, t, 1, first / VERITY_HASHES_PER_BLOCK, t->leaf, cancellable, error))
                return FALSE;
        for (gboolean again = FALSE;; again = TRUE) {
                g_autoptr(GError) why = NULL;
                unsigned rung = rung_now(f);
                if (read_blob(f, t, at, dst, len, &rung, cancellable, &why) &&
                    check_blocks(f, t, first, dst, len, &why))
                        return TRUE;
                forget(f, at, len);
                if (!again && is_worth_again(f, rung, why))
                        continue;
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
}

/* --- a file's bytes --- */

/* The run of data or hole that @offset lies in: returns where it ends; *ret_at: where the byte is in the
 * blob, *ret_hole: nowhere. Runs begin at multiples of the block size, and end there or with the file. */
static uint64_t find_run(const VerifiedFile *f, uint64_t offset, uint64_t *ret_at, gboolean *ret_hole)
{
        const Moult__Entry *e = f->entry;
        size_t low = 0, high = e->n_extents; /* the first extent that ends behind @offset */

        *ret_at = offset;
        *ret_hole = f->blob == NULL;
        if (f->starts == NULL)
                return e->size;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (e->extents[middle]->offset + e->extents[middle]->length <= offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        *ret_hole = low == e->n_extents || offset < e->extents[low]->offset;
        if (*ret_hole)
                return low == e->n_extents ? e->size : e->extents[low]->offset;
        *ret_at = f->starts[low] + (offset - e->extents[low]->offset);
        return e->extents[low]->offset + e->extents[low]->length;
}

/* Some bytes at @offset, which is in the file: *ret_len, at most @len, at least one. */
static gboolean read_some(VerifiedFile *f, struct verified_tools *t, uint64_t offset, uint8_t *dst,
                          size_t len, size_t *ret_len, GCancellable *cancellable, GError **error)
{
        gboolean hole;
        uint64_t at, end = find_run(f, offset, &at, &hole);
        size_t skip = (size_t)(offset % VERITY_BLOCK_SIZE);

        if (hole) {
                *ret_len = (size_t)MIN(len, end - offset);
                memset(dst, 0, *ret_len);
                return TRUE;
        }
        size_t n = (size_t)MIN(MIN(len, end - offset), SPAN - offset % SPAN);
        size_t tail = (offset + n) % VERITY_BLOCK_SIZE; /* of a block that is wanted in part, if it goes on */
        if (skip == 0 && (tail == 0 || offset + n == f->entry->size || n > tail)) {
                if (offset + n != f->entry->size)
                        n -= tail;
                *ret_len = n;
                return read_blocks(f, t, offset, at, dst, n, cancellable, error);
        }
        size_t whole = (size_t)MIN(end - (offset - skip), VERITY_BLOCK_SIZE);
        if (!read_blocks(f, t, offset - skip, at - skip, t->block, whole, cancellable, error))
                return FALSE;
        *ret_len = MIN(n, whole - skip);
        memcpy(dst, t->block + skip, *ret_len);
        return TRUE;
}

gboolean verified_file_read(VerifiedFile *f, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                            GCancellable *cancellable, GError **error)
{
        VerifiedCache *cache = pack_reader_cache(f->reader);
        struct verified_tools *t = verified_cache_take_tools(cache);
        size_t want = offset < f->entry->size ? (size_t)MIN(len, f->entry->size - offset) : 0, done = 0;
        gboolean ok = TRUE;

        while (ok && done < want) {
                size_t n = 0;
                ok = !g_cancellable_set_error_if_cancelled(cancellable, error) &&
                     read_some(f, t, offset + done, (uint8_t *)buf + done, want - done, &n, cancellable,
                               error);
                done += n;
        }
        verified_cache_give_tools(cache, t);
        if (!ok) {
                memset(buf, 0, want);
                g_autofree char *path = message_string(f->entry->path);
                g_prefix_error(error,
                               "reading %zu bytes at %" G_GUINT64_FORMAT " of /%s from the pack: ", want,
                               offset, path);
                return FALSE;
        }
        *ret_len = want;
        return TRUE;
}
