/* host-service/layers/layer_map.c - encoding and judging maps. */
#include "host-service/layers/layer_map.h"

#include <string.h>
#include <zstd.h>

#include "common/error.h"
#include "host-service/object_store.h"
#include "host-service/store/chunk_cut.h"

#define MAGIC       "moultmap"
#define VERSION     1u
#define HEADER_SIZE 40u
#define CHUNK_SIZE_ 36u
#define EXTENT_SIZE 24u
#define LEVEL       3
#define MAP_BYTES_MAX                                                                                        \
        (HEADER_SIZE + CHUNK_SIZE_ * LAYER_CHUNKS_MAX + EXTENT_SIZE * LAYER_EXTENTS_MAX + DIGEST_SIZE)

LayerMap *layer_map_new(uint64_t size_bytes)
{
        LayerMap *m = g_new(LayerMap, 1);

        m->size_bytes = size_bytes;
        m->chunks = g_array_new(FALSE, FALSE, sizeof(struct layer_chunk));
        m->extents = g_array_new(FALSE, FALSE, sizeof(struct layer_extent));
        return m;
}

void layer_map_free(LayerMap *m)
{
        if (!m)
                return;
        g_array_unref(m->chunks);
        g_array_unref(m->extents);
        g_free(m);
}

static gboolean arrays_equal(const GArray *a, const GArray *b, gsize item)
{
        return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len * item) == 0);
}

gboolean layer_map_equal(const LayerMap *a, const LayerMap *b)
{
        /* no padding in either struct */
        G_STATIC_ASSERT(sizeof(struct layer_chunk) == DIGEST_SIZE + 4);
        G_STATIC_ASSERT(sizeof(struct layer_extent) == 24);
        return a->size_bytes == b->size_bytes &&
               arrays_equal(a->chunks, b->chunks, sizeof(struct layer_chunk)) &&
               arrays_equal(a->extents, b->extents, sizeof(struct layer_extent));
}

uint64_t layer_map_data_bytes(const LayerMap *m)
{
        uint64_t n = 0;

        for (guint i = 0; i < m->extents->len; i++) {
                const struct layer_extent *e = &g_array_index(m->extents, struct layer_extent, i);

                n += e->chunk == LAYER_ZEROS ? 0 : e->len;
        }
        return n;
}

static const char *chunks_refusal(const GArray *chunks)
{
        for (guint i = 0; i < chunks->len; i++) {
                uint32_t len = g_array_index(chunks, struct layer_chunk, i).len;

                if (len == 0 || len > CHUNK_CUT_MAX || len % LAYER_SECTOR != 0)
                        return "a chunk has a length that none can have";
        }
        return NULL;
}

/* *named: how many chunks the extents before have named. */
static const char *data_refusal(const LayerMap *m, const struct layer_extent *e, uint32_t *named)
{
        uint32_t len;

        if (e->chunk > *named || e->chunk >= m->chunks->len)
                return "an extent names a chunk that it cannot name yet";
        if (e->chunk == *named)
                ++*named;
        len = g_array_index(m->chunks, struct layer_chunk, e->chunk).len;
        if (e->chunk_offset % LAYER_SECTOR != 0 || e->chunk_offset > len || e->len > len - e->chunk_offset)
                return "an extent leaves its chunk";
        return NULL;
}

static gboolean could_be_one(const struct layer_extent *a, const struct layer_extent *b)
{
        if (a->offset + a->len != b->offset || a->chunk != b->chunk)
                return FALSE;
        return a->chunk == LAYER_ZEROS || a->chunk_offset + a->len == b->chunk_offset;
}

/* Of extent @i alone, and beside the one before. */
static const char *extent_refusal(const LayerMap *m, guint i, uint32_t *named)
{
        const struct layer_extent *e = &g_array_index(m->extents, struct layer_extent, i),
                                  *before = i > 0 ? e - 1 : NULL;
        uint64_t end = before ? before->offset + before->len : 0;

        if (e->offset < end)
                return "extents are not in order, or overlap";
        if (e->offset % LAYER_SECTOR != 0 || e->len % LAYER_SECTOR != 0)
                return "an extent is not of whole sectors";
        if (e->len == 0 || e->offset > m->size_bytes || e->len > m->size_bytes - e->offset)
                return "an extent leaves the disk, or has no length";
        if (before && could_be_one(before, e))
                return "two extents could be one";
        if (e->chunk != LAYER_ZEROS)
                return data_refusal(m, e, named);
        return e->chunk_offset == 0 ? NULL : "zeros are in no chunk";
}

const char *layer_map_refusal(const LayerMap *m)
{
        uint32_t named = 0;
        const char *why;

        if (m->size_bytes == 0 || m->size_bytes > LAYER_DISK_MAX || m->size_bytes % LAYER_SECTOR != 0)
                return "its disk has a size that none can have";
        if (m->chunks->len > LAYER_CHUNKS_MAX || m->extents->len > LAYER_EXTENTS_MAX)
                return "it has too many chunks or extents";
        why = chunks_refusal(m->chunks);
        for (guint i = 0; !why && i < m->extents->len; i++)
                why = extent_refusal(m, i, &named);
        if (!why && named != m->chunks->len)
                return "it has chunks that no extent names";
        return why;
}

static void put32(GByteArray *a, uint32_t v)
{
        v = GUINT32_TO_LE(v);
        g_byte_array_append(a, (const uint8_t *)&v, sizeof v);
}

static void put64(GByteArray *a, uint64_t v)
{
        v = GUINT64_TO_LE(v);
        g_byte_array_append(a, (const uint8_t *)&v, sizeof v);
}

static uint32_t get32(const uint8_t *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof v);
        return GUINT32_FROM_LE(v);
}

static uint64_t get64(const uint8_t *p)
{
        uint64_t v;

        memcpy(&v, p, sizeof v);
        return GUINT64_FROM_LE(v);
}

static size_t encoded_size(uint32_t chunks, uint32_t extents)
{
        return HEADER_SIZE + (size_t)chunks * CHUNK_SIZE_ + (size_t)extents * EXTENT_SIZE + DIGEST_SIZE;
}

GBytes *layer_map_encode(const LayerMap *m, uint8_t *ret_digest)
{
        size_t size = encoded_size(m->chunks->len, m->extents->len);
        GByteArray *a = g_byte_array_sized_new((guint)size);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];
        uint64_t end = 0;

        g_byte_array_append(a, (const uint8_t *)MAGIC, strlen(MAGIC));
        put32(a, VERSION);
        put32(a, 0);
        put64(a, m->size_bytes);
        put32(a, m->chunks->len);
        put32(a, m->extents->len);
        put64(a, 0);
        for (guint i = 0; i < m->chunks->len; i++) {
                const struct layer_chunk *c = &g_array_index(m->chunks, struct layer_chunk, i);

                g_byte_array_append(a, c->id, sizeof c->id);
                put32(a, c->len);
        }
        for (guint i = 0; i < m->extents->len; i++) {
                const struct layer_extent *e = &g_array_index(m->extents, struct layer_extent, i);

                put64(a, e->offset - end);
                put64(a, e->len);
                put32(a, e->chunk);
                put32(a, e->chunk_offset);
                end = e->offset + e->len;
        }
        hasher_sha256(h, a->data, a->len, digest);
        g_byte_array_append(a, digest, sizeof digest);
        if (ret_digest)
                memcpy(ret_digest, digest, sizeof digest);
        return g_byte_array_free_to_bytes(a);
}

static const char *frame_refusal(const uint8_t *data, size_t len)
{
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];

        if (len < encoded_size(0, 0) || len > MAP_BYTES_MAX || memcmp(data, MAGIC, strlen(MAGIC)) != 0)
                return "it is no map of a layer";
        if (get32(data + 8) != VERSION)
                return "it is of a version that this moult does not know: a newer one may";
        if (get32(data + 12) != 0 || get64(data + 32) != 0)
                return "it has features that moult does not know";
        if (get32(data + 24) > LAYER_CHUNKS_MAX || get32(data + 28) > LAYER_EXTENTS_MAX)
                return "it has too many chunks or extents";
        if (len != encoded_size(get32(data + 24), get32(data + 28)))
                return "it does not have the length that it says";
        hasher_sha256(h, data, len - DIGEST_SIZE, digest);
        if (memcmp(digest, data + len - DIGEST_SIZE, DIGEST_SIZE) != 0)
                return "its bytes do not have the digest at its end";
        return NULL;
}

/* FALSE: sums that no disk has. */
static gboolean read_extents(LayerMap *m, const uint8_t *p, uint32_t n)
{
        uint64_t end = 0;

        for (uint32_t i = 0; i < n; i++, p += EXTENT_SIZE) {
                struct layer_extent e = {
                        .len = get64(p + 8), .chunk = get32(p + 16), .chunk_offset = get32(p + 20)};

                if (get64(p) > LAYER_DISK_MAX - end)
                        return FALSE;
                e.offset = end + get64(p);
                if (e.len > LAYER_DISK_MAX - e.offset)
                        return FALSE;
                end = e.offset + e.len;
                g_array_append_val(m->extents, e);
        }
        return TRUE;
}

const char *layer_map_parse(const uint8_t *data, size_t len, LayerMap **ret)
{
        const char *why = frame_refusal(data, len);
        g_autoptr(LayerMap) m = NULL;
        const uint8_t *p;

        if (why)
                return why;
        m = layer_map_new(get64(data + 16));
        p = data + HEADER_SIZE;
        for (uint32_t i = 0; i < get32(data + 24); i++, p += CHUNK_SIZE_) {
                struct layer_chunk c = {.len = get32(p + DIGEST_SIZE)};

                memcpy(c.id, p, sizeof c.id);
                g_array_append_val(m->chunks, c);
        }
        if (!read_extents(m, p, get32(data + 28)))
                return "an extent leaves the disk, or has no length";
        why = layer_map_refusal(m);
        if (!why)
                *ret = g_steal_pointer(&m);
        return why;
}

GBytes *layer_map_pack(const LayerMap *m, uint8_t *ret_digest, GError **error)
{
        g_autoptr(GBytes) bytes = layer_map_encode(m, ret_digest);
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        size_t bound = ZSTD_compressBound(len), n;
        g_autofree uint8_t *out = g_malloc(bound);

        n = ZSTD_compress(out, bound, data, len, LEVEL);
        g_assert(!ZSTD_isError(n)); /* there is room, and memory: GLib's rule */
        if (n <= OBJECT_MAX_BYTES)
                return g_bytes_new_take(g_realloc(g_steal_pointer(&out), n), n);
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                "the map of the layer would have %zu bytes, and objects of the store at most %u: it has %u "
                "chunks and %u extents",
                n, OBJECT_MAX_BYTES, m->chunks->len, m->extents->len);
        return NULL;
}

/* The one frame that @stored is; or NULL. */
static GBytes *unpack(GBytes *stored)
{
        gsize len;
        const void *data = g_bytes_get_data(stored, &len);
        unsigned long long size = ZSTD_getFrameContentSize(data, len);
        g_autofree uint8_t *out = NULL;

        if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > MAP_BYTES_MAX ||
            ZSTD_findFrameCompressedSize(data, len) != len)
                return NULL;
        out = g_malloc(MAX(size, 1));
        if (ZSTD_decompress(out, size, data, len) != size)
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&out), size);
}

LayerMap *layer_map_unpack(GBytes *stored, uint8_t *ret_digest, GError **error)
{
        g_autoptr(GBytes) bytes = unpack(stored);
        gsize len = 0;
        const uint8_t *data = bytes ? g_bytes_get_data(bytes, &len) : NULL;
        const char *why = "it is no map of a layer";
        LayerMap *m = NULL;

        if (data)
                why = layer_map_parse(data, len, &m);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s", why);
                return NULL;
        }
        if (ret_digest)
                memcpy(ret_digest, data + len - DIGEST_SIZE, DIGEST_SIZE);
        return m;
}

static gboolean is_id(const char *text, gsize len)
{
        static const char letters[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "_-";

        if (len == 0 || len > 64 || text[0] == '-')
                return FALSE;
        for (gsize i = 0; i < len; i++)
                if (text[i] == 0 || !strchr(letters, text[i]))
                        return FALSE;
        return TRUE;
}

gboolean layer_id_is_valid(const char *id)
{
        return is_id(id, strlen(id));
}

#define FOLDER "layers/"
#define SUFFIX ".layer"

char *layer_key(const char *id)
{
        return g_strconcat(FOLDER, id, SUFFIX, NULL);
}

char *layer_key_id(const char *key)
{
        gsize len;

        if (!g_str_has_prefix(key, FOLDER) || !g_str_has_suffix(key, SUFFIX) ||
            strlen(key) < strlen(FOLDER SUFFIX))
                return NULL;
        key += strlen(FOLDER);
        len = strlen(key) - strlen(SUFFIX);
        return is_id(key, len) ? g_strndup(key, len) : NULL;
}
