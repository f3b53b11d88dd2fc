/* shm/gzip_remake.c - gzip files taken apart and made again, bit for bit. */
#include "shm/gzip_remake.h"

#include <string.h>
#include <zlib.h>

#include "proto/limits.h"

/* RFC 1952 */
#define HEAD_SIZE    10u
#define TAIL_SIZE    8u
#define FLAG_CRC     2
#define FLAG_EXTRA   4
#define FLAG_NAME    8
#define FLAG_COMMENT 16
#define FLAGS_KNOWN  31

#define RAW_WINDOW   (-15) /* zlib: a bare deflate stream, 32 KiB */
#define LEVEL_USUAL  9
#define MEMORY_USUAL 9 /* zlib's blocks then hold as many symbols as gzip's */
/* Bits of data_type after inflate(Z_BLOCK). */
#define INFLATE_LAST  64
#define INFLATE_ENDED 128

static const guint8 usual_head[HEAD_SIZE] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3}; /* gzip -9n on Unix */

static gsize skip_text(const guint8 *d, gsize at, gsize len)
{
        const guint8 *end = at < len ? memchr(d + at, 0, len - at) : NULL;

        return end ? (gsize)(end - d) + 1 : len;
}

/* Where the deflate stream begins; 0: this is no gzip file. */
static gsize head_size(const guint8 *d, gsize len)
{
        gsize at = HEAD_SIZE;

        if (len < HEAD_SIZE + TAIL_SIZE || memcmp(d, usual_head, 3) != 0 || d[3] > FLAGS_KNOWN)
                return 0;
        if (d[3] & FLAG_EXTRA)
                at += 2 + (gsize)d[HEAD_SIZE] + 256 * (gsize)d[HEAD_SIZE + 1];
        if (d[3] & FLAG_NAME)
                at = skip_text(d, at, len);
        if (d[3] & FLAG_COMMENT)
                at = skip_text(d, at, len);
        if (d[3] & FLAG_CRC)
                at += 2;
        return at < len - TAIL_SIZE ? at : 0;
}

static void put_le32(guint8 *dst, gsize value)
{
        for (guint i = 0; i < 4; i++)
                dst[i] = (guint8)(value >> 8 * i);
}

static void tail_fill(guint8 dst[static TAIL_SIZE], const void *content, gsize len)
{
        put_le32(dst, crc32_z(0, content, len));
        put_le32(dst + 4, len);
}

/* The content; @ends: where blocks but the last end in it, or NULL. @room: at most. */
static GBytes *inflate_all(const guint8 *d, gsize len, gsize room, GArray *ends)
{
        z_stream z = {.next_in = (Bytef *)d, .avail_in = (uInt)len};
        g_autofree guint8 *dst = g_malloc(room + 1);
        int r = Z_OK;

        if (inflateInit2(&z, RAW_WINDOW) != Z_OK)
                return NULL;
        z.next_out = dst;
        z.avail_out = (uInt)room;
        while (r == Z_OK) {
                r = inflate(&z, Z_BLOCK);
                if (r == Z_OK && ends && (z.data_type & INFLATE_ENDED) && !(z.data_type & INFLATE_LAST)) {
                        guint32 at = (guint32)z.total_out;
                        g_array_append_val(ends, at);
                }
        }
        gsize n = z.total_out;
        gboolean whole = r == Z_STREAM_END && z.avail_in == 0;
        inflateEnd(&z);
        return whole ? g_bytes_new_take(g_realloc(g_steal_pointer(&dst), n + 1), n) : NULL;
}

static GBytes *unpack(const guint8 *d, gsize len, gsize *ret_head, GArray *ends)
{
        gsize head = len <= LIMIT_GZIP_FILE ? head_size(d, len) : 0, size, n;
        g_autoptr(GBytes) content = NULL;
        guint8 tail[TAIL_SIZE];

        if (head == 0)
                return NULL;
        size = d[len - 4] | (gsize)d[len - 3] << 8 | (gsize)d[len - 2] << 16 | (gsize)d[len - 1] << 24;
        if (size > LIMIT_DELTA_OUTPUT)
                return NULL;
        content = inflate_all(d + head, len - head - TAIL_SIZE, size, ends);
        if (!content)
                return NULL;
        const void *bytes = g_bytes_get_data(content, &n);
        tail_fill(tail, bytes, n);
        *ret_head = head;
        return memcmp(tail, d + len - TAIL_SIZE, TAIL_SIZE) == 0 ? g_steal_pointer(&content) : NULL;
}

GBytes *gzip_unpack(const void *file, gsize len)
{
        gsize head;

        return unpack(file, len, &head, NULL);
}

/* --- making it again --- */

static gboolean deflate_all(z_stream *z, const Moult__GzipRecipe *r)
{
        /* Told all at once, zlib would look for matches beyond a block's end; gzip did, too, but then the
         * block would not have ended there. */
        for (size_t i = 0; i < r->n_blocks; i++) {
                z->avail_in = r->blocks[i];
                if (deflate(z, Z_BLOCK) != Z_OK || z->avail_in > 0)
                        return FALSE;
        }
        z->avail_in = (uInt)(r->content - z->total_in);
        return deflate(z, Z_FINISH) == Z_STREAM_END;
}

GBytes *gzip_remake(const Moult__GzipRecipe *r, const void *content, gsize size)
{
        const guint8 *head = r->head.len > 0 ? r->head.data : usual_head;
        gsize head_len = r->head.len > 0 ? r->head.len : HEAD_SIZE, n;
        z_stream z = {0};

        if (size < head_len + TAIL_SIZE ||
            deflateInit2(&z, r->level ? (int)r->level : LEVEL_USUAL, Z_DEFLATED, RAW_WINDOW,
                         r->memory ? (int)r->memory : MEMORY_USUAL, Z_DEFAULT_STRATEGY) != Z_OK)
                return NULL;
        g_autofree guint8 *dst = g_malloc(size + 1);
        memcpy(dst, head, head_len);
        z.next_in = (Bytef *)content;
        z.next_out = dst + head_len;
        z.avail_out =
                (uInt)(size - head_len - TAIL_SIZE + 1); /* deflate() sees that it is done with room left */
        gboolean ok = deflate_all(&z, r);
        n = head_len + z.total_out;
        deflateEnd(&z);
        if (!ok || n > size - TAIL_SIZE)
                return NULL;
        tail_fill(dst + n, content, r->content);
        return g_bytes_new_take(g_steal_pointer(&dst), n + TAIL_SIZE);
}

const char *gzip_recipe_refusal(const Moult__GzipRecipe *r)
{
        guint64 sum = 0;

        if (r->content > LIMIT_DELTA_OUTPUT || r->head.len > LIMIT_GZIP_HEAD)
                return "a gzip file's content or head is too large";
        if (r->level > Z_BEST_COMPRESSION || r->memory > MAX_MEM_LEVEL)
                return "a gzip file's parameters are out of range";
        for (size_t i = 0; i < r->n_blocks; i++) {
                sum += r->blocks[i];
                if (r->blocks[i] == 0 || sum >= r->content)
                        return "a gzip file's blocks are not within it";
        }
        return NULL;
}

void gzip_recipe_free(Moult__GzipRecipe *r)
{
        if (r)
                moult__gzip_recipe__free_unpacked(r, NULL);
}

static gboolean makes(const Moult__GzipRecipe *r, GBytes *content, const void *file, gsize len)
{
        g_autoptr(GBytes) again = gzip_remake(r, g_bytes_get_data(content, NULL), len);
        gsize n = 0;
        const void *data = again ? g_bytes_get_data(again, &n) : NULL;

        return n == len && memcmp(data, file, len) == 0;
}

/* protobuf-c frees with free(), which is what g_free() is. */
static void set_blocks(Moult__GzipRecipe *r, const GArray *ends)
{
        guint32 before = 0;

        r->blocks = g_new(guint32, ends->len + 1);
        for (guint i = 0; i < ends->len; i++) {
                guint32 end = g_array_index(ends, guint32, i);

                if (end > before && end < r->content)
                        r->blocks[r->n_blocks++] = end - before;
                before = MAX(before, end);
        }
}

GBytes *gzip_recipe_make(const void *file, gsize len, Moult__GzipRecipe **ret_recipe)
{
        /* gzip -9 and its default, zlib's level 9 and default; 0: the usual. */
        static const struct {
                guint8 level, memory;
        } tries[] = {{0, 0}, {6, 0}, {0, 8}, {6, 8}, {1, 0}, {1, 8}};
        g_autoptr(GArray) ends = g_array_new(FALSE, FALSE, sizeof(guint32));
        gsize head, n;
        g_autoptr(GBytes) content = unpack(file, len, &head, ends);

        if (!content || head > LIMIT_GZIP_HEAD)
                return NULL;
        n = g_bytes_get_size(content);
        Moult__GzipRecipe *r = g_new(Moult__GzipRecipe, 1);
        moult__gzip_recipe__init(r);
        r->content = n;
        if (head != HEAD_SIZE || memcmp(file, usual_head, HEAD_SIZE) != 0)
                r->head = (ProtobufCBinaryData){head, g_memdup2(file, head)};
        set_blocks(r, ends);
        size_t n_blocks = r->n_blocks;
        for (guint i = 0; i < 2 * G_N_ELEMENTS(tries); i++) {
                r->level = tries[i / 2].level;
                r->memory = tries[i / 2].memory;
                r->n_blocks = i % 2 ? n_blocks : 0; /* where blocks end by zlib's own rule, nothing is told */
                if (makes(r, content, file, len)) {
                        *ret_recipe = r;
                        return g_steal_pointer(&content);
                }
        }
        gzip_recipe_free(r);
        return NULL;
}
