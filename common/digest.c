/* common/digest.c - SHA-256 and the fs-verity digest, over libcrypto.
 *
 * Theory of operation: level 0 of the tree are the file's 4096-byte blocks, the last one padded with zeros. A
 * block of level n+1 holds the digests of 128 blocks of level n, the last one padded with zero bytes. The
 * only block of the top level is the root. One chunk (1 MiB) is 256 data blocks, and so two whole blocks of
 * level 1: a chunk can be hashed down to two digests without its neighbours. Those are kept in groups of 64
 * chunks, one group being one block of level 2. Groups come into being when a chunk with data is added; a
 * missing group, and an all-zero digest in one, stand for a hole (nobody knows a block whose SHA-256 is
 * zero). So a sparse file costs what its data costs. */
#include "common/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/verity_layout.h"

#define HASHES_PER_BLOCK VERITY_HASHES_PER_BLOCK
#define BLOCKS_PER_CHUNK (CHUNK_SIZE / VERITY_BLOCK_SIZE)      /* 256 */
#define HASHES_PER_CHUNK (BLOCKS_PER_CHUNK / HASHES_PER_BLOCK) /* 2, of level 1 */
#define CHUNKS_PER_GROUP (HASHES_PER_BLOCK / HASHES_PER_CHUNK) /* 64 */

typedef uint8_t hash[DIGEST_SIZE];

struct Hasher {
        EVP_MD *sha256;
        EVP_MD_CTX *ctx;
};

struct group {
        hash level1[HASHES_PER_BLOCK];
};

struct VerityTree {
        uint64_t size;
        uint64_t n_blocks; /* of level 0 */
        uint64_t n_level1; /* digests of level-1 blocks; with one data block: 1, that block's own digest */
        uint64_t n_chunks;
        uint64_t n_groups;
        gint tail_added;       /* atomic: the last chunk was added, with data or as zeros */
        struct group **groups; /* each pointer atomic; NULL: nothing but holes */
};

/* include/uapi/linux/fsverity.h: struct fsverity_descriptor */
struct verity_descriptor {
        uint8_t version;
        uint8_t hash_algorithm; /* 1: SHA-256 */
        uint8_t log_blocksize;
        uint8_t salt_size;
        uint32_t sig_size;
        uint64_t data_size; /* little-endian */
        uint8_t root_hash[64];
        uint8_t salt[32];
        uint8_t reserved[144];
};
G_STATIC_ASSERT(sizeof(struct verity_descriptor) == 256);

Hasher *hasher_new(void)
{
        Hasher *h = g_new0(Hasher, 1);
        h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        h->ctx = EVP_MD_CTX_new();
        if (h->sha256 == NULL || h->ctx == NULL)
                g_error("libcrypto has no SHA-256: its installation is broken");
        return h;
}

void hasher_free(Hasher *h)
{
        if (h == NULL)
                return;
        EVP_MD_CTX_free(h->ctx);
        EVP_MD_free(h->sha256);
        g_free(h);
}

void hasher_sha256(Hasher *h, const void *data, size_t len, uint8_t ret[static DIGEST_SIZE])
{
        if (EVP_DigestInit_ex2(h->ctx, h->sha256, NULL) != 1 || EVP_DigestUpdate(h->ctx, data, len) != 1 ||
            EVP_DigestFinal_ex(h->ctx, ret, NULL) != 1)
                g_error("libcrypto cannot compute SHA-256");
}

static uint64_t div_up(uint64_t n, uint64_t by)
{
        return n / by + (n % by != 0);
}

VerityTree *verity_tree_new(uint64_t size_bytes)
{
        VerityTree *t = g_new0(VerityTree, 1);
        t->size = size_bytes;
        t->n_blocks = div_up(size_bytes, VERITY_BLOCK_SIZE);
        t->n_level1 = div_up(t->n_blocks, HASHES_PER_BLOCK);
        t->n_chunks = div_up(size_bytes, CHUNK_SIZE);
        t->n_groups = div_up(t->n_chunks, CHUNKS_PER_GROUP);
        t->groups = g_new0(struct group *, t->n_groups);
        return t;
}

void verity_tree_free(VerityTree *t)
{
        if (t == NULL)
                return;
        for (uint64_t i = 0; i < t->n_groups; i++)
                g_free(t->groups[i]);
        g_free(t->groups);
        g_free(t);
}

static size_t chunk_len(const VerityTree *t, uint64_t chunk_index)
{
        uint64_t left = t->size - chunk_index * CHUNK_SIZE;
        return left < CHUNK_SIZE ? (size_t)left : CHUNK_SIZE;
}

/* The group of a chunk, made if need be. Two threads may want to make the same one: the first wins. */
static struct group *group_get(VerityTree *t, uint64_t chunk_index)
{
        struct group **slot = &t->groups[chunk_index / CHUNKS_PER_GROUP];
        struct group *g = g_atomic_pointer_get(slot);
        if (g != NULL)
                return g;
        g = g_new0(struct group, 1);
        if (g_atomic_pointer_compare_and_exchange(slot, NULL, g))
                return g;
        g_free(g);
        return g_atomic_pointer_get(slot);
}

/* Digests of the level-1 blocks over one chunk. @data NULL: zeros. @leaves: NULL, or takes these blocks.
 * Returns how many. */
static size_t chunk_hashes(Hasher *h, const uint8_t *data, size_t len, gboolean only_block,
                           hash ret[static HASHES_PER_CHUNK], uint8_t *leaves)
{
        static const uint8_t zeros[VERITY_BLOCK_SIZE];
        hash level0[HASHES_PER_BLOCK];
        hash zero_hash = {0};
        size_t n_blocks = (size_t)div_up(len, VERITY_BLOCK_SIZE), n_ret = 0;

        if (data == NULL)
                hasher_sha256(h, zeros, sizeof zeros, zero_hash);
        for (size_t first = 0; first < n_blocks; first += HASHES_PER_BLOCK) {
                size_t n = MIN(n_blocks - first, HASHES_PER_BLOCK);
                for (size_t i = 0; i < n; i++) {
                        size_t start = (first + i) * VERITY_BLOCK_SIZE, part = len - start;
                        if (data == NULL) {
                                memcpy(level0[i], zero_hash, DIGEST_SIZE);
                        } else if (part >= VERITY_BLOCK_SIZE) {
                                hasher_sha256(h, data + start, VERITY_BLOCK_SIZE, level0[i]);
                        } else {
                                uint8_t padded[VERITY_BLOCK_SIZE] = {0};
                                memcpy(padded, data + start, part);
                                hasher_sha256(h, padded, sizeof padded, level0[i]);
                        }
                }
                if (only_block) { /* a file of one block is its own root: there is no level 1 */
                        memcpy(ret[n_ret++], level0[0], DIGEST_SIZE);
                        break;
                }
                memset(level0[n], 0, (HASHES_PER_BLOCK - n) * DIGEST_SIZE);
                if (leaves != NULL)
                        memcpy(leaves + n_ret * VERITY_BLOCK_SIZE, level0, sizeof level0);
                hasher_sha256(h, level0, sizeof level0, ret[n_ret++]);
        }
        return n_ret;
}

/* A chunk of zeros needs no place but at the end, where it may be short, which is another digest. */
static size_t add(VerityTree *t, Hasher *h, uint64_t chunk_index, const uint8_t *data, size_t len,
                  uint8_t *leaves)
{
        gboolean only_block = t->n_blocks == 1, last = chunk_index == t->n_chunks - 1;
        hash hashes[HASHES_PER_CHUNK];
        size_t n = chunk_hashes(h, data, len, only_block, hashes, leaves);
        if (data != NULL || last) {
                struct group *g = group_get(t, chunk_index);
                memcpy(g->level1[(chunk_index % CHUNKS_PER_GROUP) * HASHES_PER_CHUNK], hashes,
                       n * DIGEST_SIZE);
        }
        if (last)
                g_atomic_int_set(&t->tail_added, 1);
        return only_block ? 0 : n;
}

void verity_tree_add_chunk(VerityTree *t, Hasher *h, uint64_t chunk_index, const void *data, size_t len)
{
        g_assert(chunk_index < t->n_chunks && len == chunk_len(t, chunk_index));
        add(t, h, chunk_index, data, len, NULL);
}

size_t verity_tree_add_chunk_leaves(VerityTree *t, Hasher *h, uint64_t chunk_index, const void *data,
                                    uint8_t ret[static VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE])
{
        g_assert(chunk_index < t->n_chunks);
        return add(t, h, chunk_index, data, chunk_len(t, chunk_index), ret);
}

void verity_tree_add_zero_chunk(VerityTree *t, Hasher *h, uint64_t chunk_index)
{
        g_assert(chunk_index < t->n_chunks);
        if (chunk_index == t->n_chunks - 1)
                add(t, h, chunk_index, NULL, chunk_len(t, chunk_index), NULL);
}

/* Where blocks above level 1 go as they become known. */
struct output {
        verity_block_sink sink; /* or NULL */
        gpointer user;
        struct verity_layout layout;
};

static void put_block(const struct output *out, unsigned level, uint64_t index, const void *block)
{
        if (out->sink != NULL)
                out->sink(out->layout.start[level] + index, block, out->user);
}

/* Puts the digests of the level-2 blocks, one for each group, into @ret. */
static void level2_hashes(VerityTree *t, Hasher *h, const struct output *out, hash *ret)
{
        hash zero_level1[HASHES_PER_CHUNK], zero_level2;
        struct group zero_group;
        chunk_hashes(h, NULL, CHUNK_SIZE, FALSE, zero_level1, NULL);
        for (size_t i = 0; i < HASHES_PER_BLOCK; i++)
                memcpy(zero_group.level1[i], zero_level1[0], DIGEST_SIZE);
        hasher_sha256(h, &zero_group, sizeof zero_group, zero_level2);

        static const hash none;
        for (uint64_t g = 0; g < t->n_groups; g++) {
                struct group *group = g_atomic_pointer_get(&t->groups[g]);
                if (group == NULL) { /* never the last one: that holds the tail */
                        put_block(out, 2, g, &zero_group);
                        memcpy(ret[g], zero_level2, DIGEST_SIZE);
                        continue;
                }
                struct group full = *group;
                uint64_t n = MIN(t->n_level1 - g * HASHES_PER_BLOCK, HASHES_PER_BLOCK);
                for (uint64_t i = 0; i < n; i++)
                        if (memcmp(full.level1[i], none, DIGEST_SIZE) == 0)
                                memcpy(full.level1[i], zero_level1[0], DIGEST_SIZE);
                put_block(out, 2, g, &full);
                hasher_sha256(h, &full, sizeof full, ret[g]);
        }
}

static void root_hash(VerityTree *t, Hasher *h, const struct output *out, uint8_t ret[static DIGEST_SIZE])
{
        if (t->n_level1 == 1) {
                memcpy(ret, t->groups[0]->level1[0], DIGEST_SIZE);
                return;
        }
        g_autofree hash *level = g_new(hash, t->n_groups);
        level2_hashes(t, h, out, level);
        unsigned at = 2;
        /* Each level takes the place of the one below: a block is read whole before its digest is written. */
        for (uint64_t n = t->n_groups; n > 1;) {
                uint64_t above = div_up(n, HASHES_PER_BLOCK);
                at++;
                for (uint64_t i = 0; i < above; i++) {
                        hash block[HASHES_PER_BLOCK] = {0};
                        uint64_t first = i * HASHES_PER_BLOCK;
                        memcpy(block, level[first], (size_t)MIN(n - first, HASHES_PER_BLOCK) * DIGEST_SIZE);
                        put_block(out, at, i, block);
                        hasher_sha256(h, block, sizeof block, level[i]);
                }
                n = above;
        }
        memcpy(ret, level[0], DIGEST_SIZE);
}

void verity_root_digest(Hasher *h, uint64_t size_bytes, const uint8_t root[static DIGEST_SIZE],
                        uint8_t ret[static DIGEST_SIZE])
{
        struct verity_descriptor d = {
                .version = 1,
                .hash_algorithm = 1,
                .log_blocksize = 12,
                .data_size = GUINT64_TO_LE(size_bytes),
        };
        memcpy(d.root_hash, root, DIGEST_SIZE);
        hasher_sha256(h, &d, sizeof d, ret);
}

void verity_tree_finish(VerityTree *t, Hasher *h, verity_block_sink sink, gpointer user,
                        uint8_t ret[static DIGEST_SIZE])
{
        struct output out = {.sink = sink, .user = user};
        hash root = {0}; /* an empty file's */

        verity_layout_init(&out.layout, t->size);
        if (t->n_chunks > 0) {
                if (!g_atomic_int_get(&t->tail_added))
                        verity_tree_add_zero_chunk(t, h, t->n_chunks - 1);
                root_hash(t, h, &out, root);
        }
        verity_root_digest(h, t->size, root, ret);
}

void verity_tree_digest(VerityTree *t, Hasher *h, uint8_t ret[static DIGEST_SIZE])
{
        verity_tree_finish(t, h, NULL, NULL, ret);
}

void verity_digest_buffer(Hasher *h, const void *data, size_t len, uint8_t ret[static DIGEST_SIZE])
{
        g_autoptr(VerityTree) t = verity_tree_new(len);
        for (uint64_t i = 0; i < t->n_chunks; i++)
                verity_tree_add_chunk(t, h, i, (const uint8_t *)data + i * CHUNK_SIZE, chunk_len(t, i));
        verity_tree_digest(t, h, ret);
}

/* Offset of the first data at or after @offset; @size if there is none before the end. */
static uint64_t next_data(int fd, uint64_t offset, uint64_t size)
{
        off_t found = lseek(fd, (off_t)offset, SEEK_DATA);
        if (found >= 0)
                return MIN((uint64_t)found, size);
        return errno == ENXIO ? size : offset; /* a file system that cannot tell has no holes */
}

gboolean verity_digest_fd(Hasher *h, int fd, uint64_t size_bytes, uint8_t ret[static DIGEST_SIZE],
                          GCancellable *cancellable, GError **error)
{
        struct stat st;
        if (fstat(fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at the file to hash");
        if (st.st_size < 0 || (uint64_t)st.st_size != size_bytes) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "hashing a file: it has %jd bytes, not %" G_GUINT64_FORMAT, (intmax_t)st.st_size,
                            size_bytes);
                return FALSE;
        }
        g_autoptr(VerityTree) t = verity_tree_new(size_bytes);
        g_autofree uint8_t *buf = g_malloc(MIN(size_bytes, CHUNK_SIZE) + 1);
        for (uint64_t data = 0; (data = next_data(fd, data, size_bytes)) < size_bytes;) {
                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                uint64_t chunk = data / CHUNK_SIZE;
                size_t len = chunk_len(t, chunk);
                if (!fd_pread_all(fd, buf, len, (off_t)(chunk * CHUNK_SIZE), "a file to hash", error))
                        return FALSE;
                verity_tree_add_chunk(t, h, chunk, buf, len);
                data = chunk * CHUNK_SIZE + len;
        }
        verity_tree_digest(t, h, ret);
        return TRUE;
}

void digest_to_hex(const uint8_t d[static DIGEST_SIZE], char ret[static 2 * DIGEST_SIZE + 1])
{
        for (size_t i = 0; i < DIGEST_SIZE; i++)
                g_snprintf(ret + 2 * i, 3, "%02x", d[i]);
}

bool bytes_from_hex(const char *hex, uint8_t *ret, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                int high = g_ascii_xdigit_value(hex[2 * i]);
                int low = high < 0 ? -1 : g_ascii_xdigit_value(hex[2 * i + 1]);
                if (low < 0)
                        return false;
                ret[i] = (uint8_t)(high << 4 | low);
        }
        return true;
}

bool digest_from_hex(const char *hex, uint8_t ret[static DIGEST_SIZE])
{
        hash d;
        if (strlen(hex) != 2 * DIGEST_SIZE || !bytes_from_hex(hex, d, DIGEST_SIZE))
                return false;
        memcpy(ret, d, sizeof d);
        return true;
}
