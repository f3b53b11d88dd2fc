/* shm/pack_deltas.c - the deltas of a pack: what there is, and one frame and its prefix to new bytes. */
#include "shm/pack_deltas.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/error.h"
#include "common/fs_beneath.h"
#include "common/verity_layout.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/gzip_remake.h"
#include "shm/pack_wire.h"

/* As for the list: what unpacking may take, by the size of what is unpacked. */
#define MEMORY_PER_BYTE 64u
#define MEMORY_BASE     (64u * 1024u)

#define WINDOW_LOG_MIN    10 /* zstd's */
#define LEVEL_FULL_SEARCH 16 /* below, the tables do not reach over a large prefix by themselves */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_CCtx, ZSTD_freeCCtx)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_DCtx, ZSTD_freeDCtx)

/* --- the trailer --- */

static const char magics[DELTA_INDICES][9] = {"MOULTDX1", "MOULTDX2"};

struct trailer_wire {
        uint8_t magic[8];
        uint64_t index_offset;
        uint32_t index_stored, index_size, index_crc;
        uint8_t reserved[32];
        uint32_t crc;
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct trailer_wire) == DELTA_TRAILER_SIZE);

static uint32_t trailer_crc(const uint8_t buf[static DELTA_TRAILER_SIZE])
{
        return (uint32_t)crc32(0, buf, offsetof(struct trailer_wire, crc));
}

const char *delta_trailer_parse(const uint8_t buf[static DELTA_TRAILER_SIZE], enum delta_index_kind kind,
                                gboolean *ret_there, struct delta_trailer *ret)
{
        static const uint8_t zeros[sizeof(((struct trailer_wire *)NULL)->reserved)];
        struct trailer_wire wire;
        memcpy(&wire, buf, sizeof wire);

        *ret_there = memcmp(wire.magic, magics[kind], sizeof wire.magic) == 0;
        if (!*ret_there)
                return NULL;
        if (GUINT32_FROM_LE(wire.crc) != trailer_crc(buf))
                return "the trailer's checksum is wrong";
        if (memcmp(wire.reserved, zeros, sizeof zeros) != 0)
                return "reserved bytes of the trailer are set";
        struct delta_trailer t = {
                .index_offset = GUINT64_FROM_LE(wire.index_offset),
                .index_stored = GUINT32_FROM_LE(wire.index_stored),
                .index_size = GUINT32_FROM_LE(wire.index_size),
                .index_crc = GUINT32_FROM_LE(wire.index_crc),
        };
        if (t.index_stored == 0 || t.index_stored > LIMIT_DELTA_INDEX_STORED || t.index_size == 0 ||
            t.index_size > LIMIT_DELTA_INDEX)
                return "the size of the index is out of range";
        *ret = t;
        return NULL;
}

void delta_trailer_format(const struct delta_trailer *t, enum delta_index_kind kind,
                          uint8_t ret[static DELTA_TRAILER_SIZE])
{
        struct trailer_wire wire = {
                .index_offset = GUINT64_TO_LE(t->index_offset),
                .index_stored = GUINT32_TO_LE(t->index_stored),
                .index_size = GUINT32_TO_LE(t->index_size),
                .index_crc = GUINT32_TO_LE(t->index_crc),
        };
        memcpy(wire.magic, magics[kind], sizeof wire.magic);
        memcpy(ret, &wire, sizeof wire);
        uint32_t crc = GUINT32_TO_LE(trailer_crc(ret));
        memcpy(ret + offsetof(struct trailer_wire, crc), &crc, sizeof crc);
}

/* --- the index --- */

uint64_t delta_area_begin(const Manifest *m, const struct pack_header *header)
{
        uint64_t end = header->blobs_offset;
        if (m->n_blobs > 0)
                end = m->blobs[m->n_blobs - 1]->offset + m->blobs[m->n_blobs - 1]->stored_size;
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                if (manifest_has_tree(m, e))
                        end = MAX(end,
                                  m->blobs[e->blob - 1]->tree_offset + verity_layout_stored_size(e->size));
        }
        return end;
}

ProtobufCBinaryData delta_source_path(const Manifest *m, const Moult__DeltaSource *s)
{
        return s->entry > 0 ? m->entries[s->entry - 1]->path : s->path;
}

const uint8_t *delta_source_digest(const Manifest *m, const Moult__DeltaSource *s)
{
        return s->entry > 0 ? m->entries[s->entry - 1]->old_digests[0].data : s->digest.data;
}

static const char *source_refusal(const Moult__DeltaSource *s, const Manifest *m)
{
        if (s->entry > 0) {
                if (s->entry > m->n_entries || m->entries[s->entry - 1]->n_old_digests == 0)
                        return "a source is no entry with an old digest";
                return s->path.len == 0 && s->digest.len == 0 ? NULL : "a source is told twice";
        }
        if (s->digest.len != DIGEST_SIZE)
                return "a source has no digest of 32 bytes";
        return fs_path_refusal(s->path.data, s->path.len) == NULL ? NULL : "a source's path is not clean";
}

static const char *prefix_refusal(const Moult__DeltaFrame *f, enum delta_index_kind kind, const DeltaIndex *x)
{
        uint64_t sum = 0;
        for (size_t i = 0; i < f->n_prefix; i++) {
                const Moult__DeltaPiece *p = f->prefix[i];
                if (p->source >= x->n_sources)
                        return "a piece is of no source";
                if (p->offset > LIMIT_FILE_SIZE || p->length == 0 || p->length > LIMIT_DELTA_PREFIX - sum)
                        return "a frame's prefix is out of range";
                if (p->content && kind != DELTA_INDEX_GZIP)
                        return "what is in a gzip file does not belong into the first index";
                if (p->content && (p->offset > 0 || p->length > LIMIT_DELTA_OUTPUT))
                        return "of what is in a gzip file there is only all";
                sum += p->length;
        }
        return NULL;
}

static const char *gzip_refusal(const Moult__DeltaPart *p, enum delta_index_kind kind, const Manifest *m)
{
        if (kind != DELTA_INDEX_GZIP)
                return "a gzip file that is made again does not belong into the first index";
        if (p->offset > 0 || p->length != m->blobs[p->blob]->size || p->length > LIMIT_GZIP_FILE)
                return "a gzip file that is made again is not a whole blob";
        return gzip_recipe_refusal(p->gzip);
}

static const char *parts_refusal(const Moult__DeltaFrame *f, enum delta_index_kind kind, const Manifest *m)
{
        uint64_t sum = 0;
        for (size_t i = 0; i < f->n_parts; i++) {
                const Moult__DeltaPart *p = f->parts[i];
                if (p->blob >= m->n_blobs)
                        return "a part is of no blob";
                uint64_t size = m->blobs[p->blob]->size;
                if (p->offset % VERITY_BLOCK_SIZE != 0 || p->length == 0 || p->offset > size ||
                    p->length > size - p->offset)
                        return "a part leaves its blob";
                const char *why = p->gzip != NULL ? gzip_refusal(p, kind, m) : NULL;
                if (why != NULL)
                        return why;
                if (delta_part_output(p) > LIMIT_DELTA_OUTPUT - sum)
                        return "a frame gives too much";
                sum += delta_part_output(p);
        }
        return sum > 0 ? NULL : "a frame gives nothing";
}

static const char *frame_refusal(const Moult__DeltaFrame *f, enum delta_index_kind kind, const DeltaIndex *x,
                                 const Manifest *m, uint64_t begin, uint64_t end)
{
        if (f->stored_size == 0 || f->stored_size > ZSTD_COMPRESSBOUND(LIMIT_DELTA_OUTPUT))
                return "a frame's stored size is out of range";
        if (f->offset < begin || f->offset > end || f->stored_size > end - f->offset)
                return "a frame is not where deltas lie";
        const char *why = prefix_refusal(f, kind, x);
        return why != NULL ? why : parts_refusal(f, kind, m);
}

static const char *index_refusal(const DeltaIndex *x, enum delta_index_kind kind, const Manifest *m,
                                 uint64_t begin, uint64_t end)
{
        const char *why = NULL;
        if (x->n_frames > LIMIT_DELTA_FRAMES || x->n_sources > LIMIT_ENTRIES)
                return "it has too many frames or sources";
        for (size_t i = 0; i < x->n_sources && why == NULL; i++)
                why = source_refusal(x->sources[i], m);
        for (size_t i = 0; i < x->n_frames && why == NULL; i++)
                why = frame_refusal(x->frames[i], kind, x, m, begin, end);
        return why;
}

static DeltaIndex *refuse(GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the pack's deltas: %s", why);
        return NULL;
}

DeltaIndex *delta_index_parse(const void *data, size_t len, enum delta_index_kind kind, const Manifest *m,
                              uint64_t begin, uint64_t end, GError **error)
{
        if (len > LIMIT_DELTA_INDEX)
                return refuse(error, "the index is too large");
        const char *why = pack_wire_refusal(&moult__delta_index__descriptor, data, len);
        if (why != NULL)
                return refuse(error, why);
        MessageBudget budget;
        message_budget_init(&budget, len * (gsize)MEMORY_PER_BYTE + MEMORY_BASE);
        g_autoptr(DeltaIndex) x = moult__delta_index__unpack(&budget.base, len, data);
        if (x == NULL)
                return refuse(error, "the index takes too much memory");
        why = index_refusal(x, kind, m, begin, end);
        return why == NULL ? g_steal_pointer(&x) : refuse(error, why);
}

void delta_index_free(DeltaIndex *x)
{
        if (x != NULL)
                moult__delta_index__free_unpacked(x, message_free_allocator());
}

/* Exactly one frame of exactly this size. */
static gboolean unpack_index(const uint8_t *stored, const struct delta_trailer *t, uint8_t *dst)
{
        return (uint32_t)crc32(0, stored, t->index_stored) == t->index_crc &&
               ZSTD_findFrameCompressedSize(stored, t->index_stored) == t->index_stored &&
               ZSTD_decompress(dst, t->index_size, stored, t->index_stored) == t->index_size;
}

/* NULL without an error: these bytes are no trailer of this kind. */
static DeltaIndex *read_kind(PackReader *r, enum delta_index_kind kind,
                             const uint8_t trailer[static DELTA_TRAILER_SIZE], uint64_t begin, uint64_t end,
                             GCancellable *cancellable, GError **error)
{
        struct delta_trailer t;
        gboolean there;
        const char *why = delta_trailer_parse(trailer, kind, &there, &t);
        if (why != NULL)
                return refuse(error, why);
        if (!there)
                return NULL;
        if (t.index_offset < begin || t.index_offset > end || t.index_stored > end - t.index_offset)
                return refuse(error, "the index is not where deltas lie");
        g_autofree uint8_t *stored = g_malloc(t.index_stored);
        if (!pack_reader_read_stored(r, t.index_offset, stored, t.index_stored, cancellable, error))
                return NULL;
        g_autofree uint8_t *raw = g_malloc(t.index_size);
        if (!unpack_index(stored, &t, raw)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the pack's deltas: the index is damaged");
                return NULL;
        }
        return delta_index_parse(raw, t.index_size, kind, pack_reader_manifest(r), begin, end, error);
}

/* protobuf-c frees with free(), which is what g_free() is. */
static gpointer joined(gpointer *a, size_t n_a, gpointer *b, size_t n_b)
{
        gpointer *ret = g_renew(gpointer, a, n_a + n_b + 1);
        if (n_b > 0)
                memcpy(ret + n_a, b, n_b * sizeof *b);
        return ret;
}

/* All of @from behind what is in @to. Takes @from over. */
static void join(DeltaIndex *to, DeltaIndex *from)
{
        for (size_t i = 0; i < from->n_frames; i++)
                for (size_t k = 0; k < from->frames[i]->n_prefix; k++)
                        from->frames[i]->prefix[k]->source += (uint32_t)to->n_sources;
        to->sources =
                joined((gpointer *)to->sources, to->n_sources, (gpointer *)from->sources, from->n_sources);
        to->frames = joined((gpointer *)to->frames, to->n_frames, (gpointer *)from->frames, from->n_frames);
        to->n_sources += from->n_sources;
        to->n_frames += from->n_frames;
        from->n_sources = from->n_frames = 0;
        delta_index_free(from);
}

DeltaIndex *delta_index_read(PackReader *r, GCancellable *cancellable, GError **error)
{
        const struct pack_header *h = pack_reader_header(r);
        uint64_t begin = delta_area_begin(pack_reader_manifest(r), h), end = h->manifest_offset;
        uint8_t buf[DELTA_INDICES * DELTA_TRAILER_SIZE] = {0};
        /* The first one's trailer is the last. What holds none but it may end right before. */
        size_t n = MIN(end - begin, sizeof buf);
        g_autoptr(DeltaIndex) x = NULL;

        if (n < DELTA_TRAILER_SIZE)
                return NULL;
        if (!pack_reader_read_stored(r, end - n, buf + sizeof buf - n, n, cancellable, error))
                return NULL;
        for (unsigned kind = 0; kind < DELTA_INDICES; kind++) {
                size_t after = (kind + 1) * DELTA_TRAILER_SIZE;
                g_autoptr(GError) why = NULL;
                DeltaIndex *more = after > n ? NULL
                                             : read_kind(r, kind, buf + sizeof buf - after, begin,
                                                         end - after, cancellable, &why);
                if (why != NULL) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return NULL;
                }
                if (x == NULL)
                        x = more;
                else if (more != NULL)
                        join(x, more);
        }
        return g_steal_pointer(&x);
}

/* --- frames --- */

size_t delta_part_output(const Moult__DeltaPart *p)
{
        return (size_t)(p->gzip != NULL ? p->gzip->content : p->length);
}

size_t delta_frame_prefix(const Moult__DeltaFrame *f)
{
        size_t sum = 0;
        for (size_t i = 0; i < f->n_prefix; i++)
                sum += (size_t)f->prefix[i]->length;
        return sum;
}

size_t delta_frame_output(const Moult__DeltaFrame *f)
{
        size_t sum = 0;
        for (size_t i = 0; i < f->n_parts; i++)
                sum += delta_part_output(f->parts[i]);
        return sum;
}

static gboolean corrupt(GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "applying a delta: %s", why);
        return FALSE;
}

gboolean delta_apply(const void *prefix, size_t prefix_len, const void *frame, size_t frame_len, void *dst,
                     size_t len, GError **error)
{
        if (ZSTD_findFrameCompressedSize(frame, frame_len) != frame_len)
                return corrupt(error, "it is not one zstd frame");
        g_autoptr(ZSTD_DCtx) d = ZSTD_createDCtx();
        if (d == NULL || ZSTD_isError(ZSTD_DCtx_refPrefix(d, prefix, prefix_len)))
                return corrupt(error, "no memory");
        /* In one go: the buffer is the window, so nothing is set aside for what the frame calls its own. */
        size_t n = ZSTD_decompressDCtx(d, dst, len, frame, frame_len);
        if (ZSTD_isError(n))
                return corrupt(error, ZSTD_getErrorName(n));
        return n == len ? TRUE : corrupt(error, "it gives fewer bytes than the index says");
}

GBytes *delta_make(const void *prefix, size_t prefix_len, const void *data, size_t len, int level,
                   size_t limit)
{
        g_autoptr(ZSTD_CCtx) c = ZSTD_createCCtx();
        size_t room = MIN(limit, ZSTD_COMPRESSBOUND(len));
        g_autofree uint8_t *dst = g_malloc(room + 1);
        int window_log = WINDOW_LOG_MIN;

        /* All of prefix and data in reach. */
        while (((size_t)1 << window_log) < prefix_len + len)
                window_log++;
        if (c == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching,
                                                level < LEVEL_FULL_SEARCH ? 1 : 0)) ||
            ZSTD_isError(ZSTD_CCtx_refPrefix(c, prefix, prefix_len)))
                return NULL;
        size_t n = ZSTD_compress2(c, dst, room, data, len);
        return ZSTD_isError(n) ? NULL : g_bytes_new_take(g_realloc(g_steal_pointer(&dst), n), n);
}
