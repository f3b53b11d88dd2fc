/* shm/verified_cache.c - what the readers of single blocks of one pack share: hash blocks that were verified,
 * chunks that were unpacked, scratch memory. */
#include "shm/verified_cache.h"

#include <string.h>

#define IDLE_TOOLS_MAX 4u

struct hash_block {
        uint64_t offset; /* in the pack; the table's key */
        GList link;      /* in the queue, latest use first */
        uint8_t bytes[VERITY_BLOCK_SIZE];
};

struct UnpackedChunk {
        gint refs; /* atomic */
        uint32_t blob;
        uint64_t index;
        unsigned rung;
        gboolean ready; /* protected by the cache's lock */
        size_t len;
        uint8_t *data;
};

struct VerifiedCache {
        GMutex lock;        /* protects all below, but not what is in a chunk that is ready */
        GCond loaded;       /* some chunk is ready, or could not be read */
        GHashTable *blocks; /* of struct hash_block, by offset */
        GQueue block_order; /* latest use first */
        GQueue chunks;      /* of UnpackedChunk, a reference each, latest use first */
        GPtrArray *idle;    /* of struct verified_tools */
};

static void tools_free(gpointer data)
{
        struct verified_tools *t = data;
        hasher_free(t->hasher);
        blob_buffer_free(t->scratch);
        g_free(t);
}

VerifiedCache *verified_cache_new(void)
{
        VerifiedCache *c = g_new0(VerifiedCache, 1);
        g_mutex_init(&c->lock);
        g_cond_init(&c->loaded);
        c->blocks = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
        g_queue_init(&c->block_order);
        g_queue_init(&c->chunks);
        c->idle = g_ptr_array_new_with_free_func(tools_free);
        return c;
}

void verified_cache_free(VerifiedCache *c)
{
        if (c == NULL)
                return;
        g_hash_table_unref(c->blocks); /* the links of block_order are in them */
        g_queue_clear_full(&c->chunks, (GDestroyNotify)unpacked_chunk_unref);
        g_ptr_array_unref(c->idle);
        g_cond_clear(&c->loaded);
        g_mutex_clear(&c->lock);
        g_free(c);
}

/* --- hash blocks --- */

gboolean verified_cache_get_block(VerifiedCache *c, uint64_t offset, uint8_t ret[static VERITY_BLOCK_SIZE])
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&c->lock);
        struct hash_block *b = g_hash_table_lookup(c->blocks, &offset);
        if (b == NULL)
                return FALSE;
        g_queue_unlink(&c->block_order, &b->link);
        g_queue_push_head_link(&c->block_order, &b->link);
        memcpy(ret, b->bytes, VERITY_BLOCK_SIZE);
        return TRUE;
}

void verified_cache_put_block(VerifiedCache *c, uint64_t offset,
                              const uint8_t block[static VERITY_BLOCK_SIZE])
{
        struct hash_block *b = g_new0(struct hash_block, 1);
        b->offset = offset;
        b->link.data = b;
        memcpy(b->bytes, block, VERITY_BLOCK_SIZE);

        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&c->lock);
        if (g_hash_table_contains(c->blocks, &offset)) { /* another thread was faster; both verified it */
                g_free(b);
                return;
        }
        g_hash_table_insert(c->blocks, &b->offset, b);
        g_queue_push_head_link(&c->block_order, &b->link);
        if (g_queue_get_length(&c->block_order) > VERIFIED_CACHE_BLOCKS) {
                struct hash_block *oldest = g_queue_pop_tail_link(&c->block_order)->data;
                g_hash_table_remove(c->blocks, &oldest->offset);
        }
}

/* --- chunks --- */

void unpacked_chunk_unref(UnpackedChunk *chunk)
{
        if (chunk == NULL || !g_atomic_int_dec_and_test(&chunk->refs))
                return;
        g_free(chunk->data);
        g_free(chunk);
}

static UnpackedChunk *chunk_ref(UnpackedChunk *chunk)
{
        g_atomic_int_inc(&chunk->refs);
        return chunk;
}

const uint8_t *unpacked_chunk_data(const UnpackedChunk *chunk, size_t *ret_len)
{
        *ret_len = chunk->len;
        return chunk->data;
}

unsigned unpacked_chunk_rung(const UnpackedChunk *chunk)
{
        return chunk->rung;
}

static GList *chunk_find(VerifiedCache *c, uint32_t blob, uint64_t index)
{
        for (GList *l = c->chunks.head; l != NULL; l = l->next) {
                const UnpackedChunk *chunk = l->data;
                if (chunk->blob == blob && chunk->index == index)
                        return l;
        }
        return NULL;
}

/* Those that are being unpacked stay: somebody may wait for them. */
static void chunks_trim(VerifiedCache *c)
{
        GList *before;
        for (GList *l = c->chunks.tail; l != NULL && c->chunks.length > VERIFIED_CACHE_CHUNKS; l = before) {
                UnpackedChunk *chunk = l->data;
                before = l->prev;
                if (!chunk->ready)
                        continue;
                g_queue_delete_link(&c->chunks, l);
                unpacked_chunk_unref(chunk);
        }
}

static gboolean chunk_load(UnpackedChunk *chunk, PackReader *r, BlobBuffer *scratch,
                           GCancellable *cancellable, GError **error)
{
        PackSource *source = pack_reader_source(r);
        chunk->rung = source != NULL ? pack_source_rung(source) : 0;
        chunk->data = g_malloc(CHUNK_SIZE);
        blob_buffer_forget(scratch);
        return pack_reader_read_chunk(r, chunk->blob, chunk->index, scratch, chunk->data, &chunk->len,
                                      cancellable, error);
}

UnpackedChunk *verified_cache_take_chunk(VerifiedCache *c, PackReader *r, uint32_t blob, uint64_t index,
                                         BlobBuffer *scratch, GCancellable *cancellable, GError **error)
{
        g_mutex_lock(&c->lock);
        for (GList *l; (l = chunk_find(c, blob, index)) != NULL;) {
                UnpackedChunk *chunk = l->data;
                if (!chunk->ready) {
                        g_cond_wait(&c->loaded, &c->lock);
                        continue; /* ready, or gone because it could not be read: then it is our turn */
                }
                g_queue_unlink(&c->chunks, l);
                g_queue_push_head_link(&c->chunks, l);
                chunk_ref(chunk);
                g_mutex_unlock(&c->lock);
                return chunk;
        }
        UnpackedChunk *chunk = g_new0(UnpackedChunk, 1);
        chunk->refs = 1;
        chunk->blob = blob;
        chunk->index = index;
        g_queue_push_head(&c->chunks, chunk_ref(chunk));
        g_mutex_unlock(&c->lock);

        gboolean ok = chunk_load(chunk, r, scratch, cancellable, error);

        g_mutex_lock(&c->lock);
        chunk->ready = ok;
        if (!ok && g_queue_remove(&c->chunks, chunk))
                unpacked_chunk_unref(chunk);
        chunks_trim(c);
        g_cond_broadcast(&c->loaded);
        g_mutex_unlock(&c->lock);
        if (ok)
                return chunk;
        unpacked_chunk_unref(chunk);
        return NULL;
}

void verified_cache_forget_chunk(VerifiedCache *c, uint32_t blob, uint64_t index)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&c->lock);
        GList *l = chunk_find(c, blob, index);
        UnpackedChunk *chunk = l != NULL ? l->data : NULL;
        if (chunk == NULL || !chunk->ready) /* what is being unpacked is no older than the complaint */
                return;
        g_queue_delete_link(&c->chunks, l);
        unpacked_chunk_unref(chunk);
}

/* --- tools --- */

struct verified_tools *verified_cache_take_tools(VerifiedCache *c)
{
        g_mutex_lock(&c->lock);
        struct verified_tools *t =
                c->idle->len > 0 ? g_ptr_array_steal_index_fast(c->idle, c->idle->len - 1) : NULL;
        g_mutex_unlock(&c->lock);
        if (t != NULL)
                return t;
        t = g_new0(struct verified_tools, 1);
        t->hasher = hasher_new();
        t->scratch = blob_buffer_new();
        return t;
}

void verified_cache_give_tools(VerifiedCache *c, struct verified_tools *t)
{
        g_mutex_lock(&c->lock);
        if (c->idle->len < IDLE_TOOLS_MAX)
                g_ptr_array_add(c->idle, g_steal_pointer(&t));
        g_mutex_unlock(&c->lock);
        if (t != NULL)
                tools_free(t);
}
