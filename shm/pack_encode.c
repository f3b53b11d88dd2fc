/* shm/pack_encode.c - files to stored bytes: chunks are hashed and compressed by worker threads, and come out
 * in order. */
#include "shm/pack_encode.h"

#include <zstd.h>

#define BYTES_UNDER_WAY_MAX  (32u * 1024u * 1024u)
#define CHUNKS_UNDER_WAY_MAX 4096u
#define WORKERS_MAX          16u

struct Encoder {
        int level;
        GThreadPool *pool;
        GQueue order;      /* of struct encoder_chunk, oldest first; the writer's thread only */
        size_t bytes;      /* under way; the writer's thread only */
        ZSTD_CCtx *sample; /* the writer's thread only */
        GMutex lock;       /* protects `done` of the chunks */
        GCond is_done;
};

/* What a worker thread keeps between chunks. */
struct tools {
        Hasher *hasher;
        ZSTD_CCtx *zstd;
};

static void tools_free(gpointer data)
{
        struct tools *t = data;
        hasher_free(t->hasher);
        ZSTD_freeCCtx(t->zstd);
        g_free(t);
}

static struct tools *tools_get(void)
{
        static GPrivate mine = G_PRIVATE_INIT(tools_free);
        struct tools *t = g_private_get(&mine);
        if (t == NULL) {
                t = g_new0(struct tools, 1);
                t->hasher = hasher_new();
                t->zstd = ZSTD_createCCtx();
                if (t->zstd == NULL)
                        g_error("no memory for a zstd context");
                g_private_set(&mine, t);
        }
        return t;
}

/* Independent of this and that process: a frame with its size and a checksum. */
static size_t compress_frame(ZSTD_CCtx *ctx, int level, void *dst, size_t room, const void *src, size_t len)
{
        ZSTD_CCtx_reset(ctx, ZSTD_reset_session_and_parameters);
        ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level);
        size_t n = ZSTD_compress2(ctx, dst, room, src, len);
        if (ZSTD_isError(n))
                g_error("zstd: %s", ZSTD_getErrorName(n)); /* there is room for the worst case: no memory */
        return n;
}

static bool is_smaller(size_t stored, size_t raw)
{
        return stored <= raw - raw / 16 && stored < raw;
}

static void hash_chunk(struct encoder_chunk *c, Hasher *h)
{
        uint8_t leaves[VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE];
        if (!c->wants_leaves) {
                verity_tree_add_chunk(c->tree, h, c->verity_chunk, c->raw, c->raw_len);
                return;
        }
        c->n_leaves = verity_tree_add_chunk_leaves(c->tree, h, c->verity_chunk, c->raw, leaves);
        c->leaves = g_memdup2(leaves, c->n_leaves * VERITY_BLOCK_SIZE);
}

static void encode(gpointer data, gpointer user)
{
        struct encoder_chunk *c = data;
        Encoder *e = user;
        struct tools *t = tools_get();

        if (c->tree != NULL)
                hash_chunk(c, t->hasher);
        if (c->how != ENCODE_RAW && e->level != 0) {
                size_t room = ZSTD_compressBound(c->raw_len);
                c->zstd = g_malloc(room);
                c->zstd_len = compress_frame(t->zstd, e->level, c->zstd, room, c->raw, c->raw_len);
                if (c->how == ENCODE_IF_SMALLER && !is_smaller(c->zstd_len, c->raw_len)) {
                        c->zstd_len = 0;
                        g_clear_pointer(&c->zstd, g_free);
                }
        }
        g_mutex_lock(&e->lock);
        c->done = true;
        g_cond_signal(&e->is_done);
        g_mutex_unlock(&e->lock);
}

Encoder *encoder_new(int level)
{
        Encoder *e = g_new0(Encoder, 1);
        e->level = level;
        g_queue_init(&e->order);
        g_mutex_init(&e->lock);
        g_cond_init(&e->is_done);
        e->pool = g_thread_pool_new(encode, e, (gint)MIN(g_get_num_processors(), WORKERS_MAX), FALSE, NULL);
        return e;
}

void encoder_free(Encoder *e)
{
        if (e == NULL)
                return;
        for (struct encoder_chunk *c; (c = encoder_pull(e)) != NULL;)
                encoder_chunk_free(c);
        g_thread_pool_free(e->pool, FALSE, TRUE);
        ZSTD_freeCCtx(e->sample);
        g_mutex_clear(&e->lock);
        g_cond_clear(&e->is_done);
        g_free(e);
}

void encoder_push(Encoder *e, struct encoder_chunk *c)
{
        e->bytes += c->raw_len;
        g_queue_push_tail(&e->order, c);
        g_thread_pool_push(e->pool, c, NULL);
}

bool encoder_is_full(const Encoder *e)
{
        return e->bytes >= BYTES_UNDER_WAY_MAX || e->order.length >= CHUNKS_UNDER_WAY_MAX;
}

struct encoder_chunk *encoder_pull(Encoder *e)
{
        struct encoder_chunk *c = g_queue_pop_head(&e->order);
        if (c == NULL)
                return NULL;
        g_mutex_lock(&e->lock);
        while (!c->done)
                g_cond_wait(&e->is_done, &e->lock);
        g_mutex_unlock(&e->lock);
        e->bytes -= c->raw_len;
        return c;
}

void encoder_chunk_free(struct encoder_chunk *c)
{
        if (c == NULL)
                return;
        g_free(c->raw);
        g_free(c->zstd);
        g_free(c->leaves);
        g_free(c);
}

bool encoder_shrinks(Encoder *e, const void *data, size_t len)
{
        if (e->level == 0 || len == 0)
                return false;
        if (e->sample == NULL)
                e->sample = ZSTD_createCCtx();
        size_t room = ZSTD_compressBound(len);
        g_autofree uint8_t *dst = g_malloc(room);
        return is_smaller(compress_frame(e->sample, e->level, dst, room, data, len), len);
}
