/* host-service/release/pack_verify.c - every content of a pack, and its hash tree, against its digest, in
 * parallel.
 *
 * A file is put together chunk by chunk as the guest would: its extents in order, taken from the blob that
 * holds them back to back, zeros between them. Holes cost nothing, whatever size a pack claims, unless it has
 * a tree over them. */
#include "host-service/release/pack_verify.h"

#include <string.h>

#include "common/error.h"
#include "common/verity_layout.h"

/* The bytes of one blob, front to back. */
struct stream {
        PackReader *reader;
        uint32_t blob; /* index plus 1, as in the entry; 0: there is none */
        uint64_t next_chunk;
        BlobBuffer *scratch;
        uint8_t *buf; /* CHUNK_SIZE */
        size_t len, pos;
        GCancellable *cancellable;
};

static gboolean stream_read(struct stream *s, uint8_t *dst, size_t len, GError **error)
{
        while (len > 0) {
                if (s->pos == s->len) {
                        s->pos = s->len = 0;
                        if (s->blob == 0 ||
                            !pack_reader_read_chunk(s->reader, s->blob - 1, s->next_chunk, s->scratch, s->buf,
                                                    &s->len, s->cancellable, error))
                                return FALSE;
                        s->next_chunk++;
                        if (s->len == 0)
                                break;
                }
                size_t n = MIN(len, s->len - s->pos);
                memcpy(dst, s->buf + s->pos, n);
                s->pos += n;
                dst += n;
                len -= n;
        }
        if (len == 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "its blob has too few bytes");
        return FALSE;
}

/* Walks over the extents in step with the chunks. */
struct position {
        const Moult__Entry *e;
        size_t extent;
};

static bool extent_at(const struct position *p, uint64_t *ret_start, uint64_t *ret_end)
{
        if (p->e->n_extents == 0) { /* dense; without data bytes it is one hole */
                *ret_start = 0;
                *ret_end = p->e->size;
                return p->extent == 0 && p->e->blob != 0;
        }
        if (p->extent >= p->e->n_extents)
                return false;
        *ret_start = p->e->extents[p->extent]->offset;
        *ret_end = *ret_start + p->e->extents[p->extent]->length;
        return true;
}

/* Fills @chunk with the bytes [at, at + len) of the file. *ret_data: FALSE if all of it is a hole. */
static gboolean fill_chunk(struct position *p, struct stream *s, uint64_t at, size_t len, uint8_t *chunk,
                           bool *ret_data, GError **error)
{
        uint64_t start, end;

        *ret_data = false;
        while (extent_at(p, &start, &end) && start < at + len) {
                uint64_t from = MAX(start, at), to = MIN(end, at + len);

                if (!*ret_data)
                        memset(chunk, 0, len);
                *ret_data = true;
                if (!stream_read(s, chunk + (from - at), (size_t)(to - from), error))
                        return FALSE;
                if (end > at + len)
                        break;
                p->extent++;
        }
        return TRUE;
}

/* The tree that the pack holds for a file, compared with what it must be block by block. */
struct stored_tree {
        PackReader *reader;
        uint64_t offset; /* 0: there is none */
        struct verity_layout layout;
        GCancellable *cancellable;
        bool differs;
        GError *error; /* the first */
};

static void compare_blocks(struct stored_tree *t, uint64_t index, const uint8_t *blocks, size_t n)
{
        uint8_t stored[VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE];

        if (t->error || t->differs || n == 0)
                return;
        if (pack_reader_read_stored(t->reader, t->offset + index * VERITY_BLOCK_SIZE, stored,
                                    n * VERITY_BLOCK_SIZE, t->cancellable, &t->error))
                t->differs = memcmp(stored, blocks, n * VERITY_BLOCK_SIZE) != 0;
}

static void compare_upper(uint64_t index, const uint8_t block[static VERITY_BLOCK_SIZE], gpointer user)
{
        compare_blocks(user, index, block, 1);
}

/* @data NULL: the chunk is a hole. */
static gboolean add_chunk(struct stored_tree *stored, VerityTree *tree, Hasher *h, uint64_t chunk,
                          const uint8_t *data, size_t len, GError **error)
{
        uint8_t leaves[VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE];

        if (stored->offset != 0) {
                size_t n = verity_tree_add_chunk_leaves(tree, h, chunk, data, leaves);

                compare_blocks(stored, stored->layout.start[1] + chunk * VERITY_LEAVES_PER_CHUNK, leaves, n);
        } else if (data) {
                verity_tree_add_chunk(tree, h, chunk, data, len);
        } else {
                verity_tree_add_zero_chunk(tree, h, chunk);
        }
        if (!stored->error)
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&stored->error));
        return FALSE;
}

static gboolean digest_entry(struct stream *s, const Moult__Entry *e, Hasher *h, uint8_t *chunk, uint8_t *ret,
                             bool *ret_tree_differs, GError **error)
{
        const Manifest *m = pack_reader_manifest(s->reader);
        g_autoptr(VerityTree) tree = verity_tree_new(e->size);
        struct stored_tree stored = {.reader = s->reader, .cancellable = s->cancellable};
        struct position p = {.e = e};

        if (manifest_has_tree(m, e))
                stored.offset = m->blobs[e->blob - 1]->tree_offset;
        verity_layout_init(&stored.layout, e->size);
        for (uint64_t at = 0; at < e->size; at += CHUNK_SIZE) {
                size_t len = (size_t)MIN(CHUNK_SIZE, e->size - at);
                bool has_data;

                if (g_cancellable_set_error_if_cancelled(s->cancellable, error) ||
                    !fill_chunk(&p, s, at, len, chunk, &has_data, error) ||
                    !add_chunk(&stored, tree, h, at / CHUNK_SIZE, has_data ? chunk : NULL, len, error))
                        return FALSE;
        }
        verity_tree_finish(tree, h, stored.offset != 0 ? compare_upper : NULL, &stored, ret);
        *ret_tree_differs = stored.differs;
        if (!stored.error)
                return TRUE;
        g_propagate_error(error, stored.error);
        return FALSE;
}

gboolean pack_verify_entry(PackReader *reader, const Moult__Entry *e, BlobBuffer *scratch, Hasher *h,
                           GCancellable *cancellable, GError **error)
{
        g_autofree uint8_t *buf = g_malloc(CHUNK_SIZE), *chunk = g_malloc(CHUNK_SIZE);
        struct stream s = {.reader = reader,
                           .blob = e->blob,
                           .scratch = scratch,
                           .buf = buf,
                           .cancellable = cancellable};
        uint8_t digest[DIGEST_SIZE];
        bool tree_differs;

        if (!digest_entry(&s, e, h, chunk, digest, &tree_differs, error)) {
                g_autofree char *path = manifest_entry_path(e);

                g_prefix_error(error, "/%s: ", path);
                return FALSE;
        }
        bool differs = memcmp(digest, e->digest.data, DIGEST_SIZE) != 0;
        if (!differs && !tree_differs)
                return TRUE;
        g_autofree char *path = manifest_entry_path(e);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "/%s: %s that the signed list gives; the file was "
                    "damaged or changed after signing: get it again from where it was built",
                    path,
                    differs ? "the bytes in the pack do not have the digest"
                            : "the hash tree in the pack is not that of the digest");
        return FALSE;
}

struct work {
        PackReader *reader;
        GPtrArray *entries; /* const Moult__Entry * */
        pack_verify_observer observer;
        gpointer user;
        GCancellable *cancellable;
        uint64_t total;
        gint next;   /* atomic */
        GMutex lock; /* protects done and error */
        uint64_t done;
        GError *error;
};

static gpointer worker(gpointer data)
{
        struct work *w = data;
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        g_autoptr(Hasher) h = hasher_new();

        for (;;) {
                g_autoptr(GError) error = NULL;
                gint i = g_atomic_int_add(&w->next, 1);

                if (i < 0 || (guint)i >= w->entries->len)
                        return NULL;
                const Moult__Entry *e = g_ptr_array_index(w->entries, i);
                gboolean ok = pack_verify_entry(w->reader, e, scratch, h, w->cancellable, &error);
                g_mutex_lock(&w->lock);
                w->done += e->size;
                if (ok && w->observer)
                        w->observer(w->done, w->total, w->user);
                if (!ok && !w->error)
                        w->error = g_steal_pointer(&error);
                g_mutex_unlock(&w->lock);
                if (!ok)
                        g_atomic_int_set(&w->next, (gint)w->entries->len);
        }
}

static guint content_hash(gconstpointer key)
{
        const Moult__Entry *e = key;

        return e->blob ^ (guint)e->size;
}

static gboolean content_equal(gconstpointer a, gconstpointer b)
{
        const Moult__Entry *x = a, *y = b;

        return x->blob == y->blob && x->size == y->size && x->n_extents == 0 && y->n_extents == 0 &&
               memcmp(x->digest.data, y->digest.data, DIGEST_SIZE) == 0;
}

/* Files of equal content share a blob: a pack that names one blob a million times is read once. */
static GPtrArray *find_contents(const Manifest *m, uint64_t *ret_bytes)
{
        GPtrArray *entries = g_ptr_array_new();
        g_autoptr(GHashTable) seen = g_hash_table_new(content_hash, content_equal);

        *ret_bytes = 0;
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];

                if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE || !g_hash_table_add(seen, (gpointer)e))
                        continue;
                g_ptr_array_add(entries, (gpointer)e);
                *ret_bytes += e->size;
        }
        return entries;
}

gboolean pack_verify(PackReader *reader, unsigned threads, pack_verify_observer observer, gpointer user,
                     GCancellable *cancellable, struct pack_verify_report *ret, GError **error)
{
        struct work w = {.reader = reader, .observer = observer, .user = user, .cancellable = cancellable};
        g_autoptr(GPtrArray) entries = find_contents(pack_reader_manifest(reader), &w.total);
        g_autoptr(GPtrArray) started = g_ptr_array_new();

        w.entries = entries;
        if (threads == 0)
                threads = g_get_num_processors();
        threads = CLAMP(threads, 1, MAX(entries->len, 1));
        g_mutex_init(&w.lock);
        for (unsigned i = 1; i < threads; i++) {
                GThread *thread = g_thread_try_new("pack-verify", worker, &w, NULL);

                if (thread)
                        g_ptr_array_add(started, thread);
        }
        worker(&w); /* this thread too, so that the work is done even where no thread can be made */
        for (guint i = 0; i < started->len; i++)
                g_thread_join(g_ptr_array_index(started, i));
        g_mutex_clear(&w.lock);
        if (w.error) {
                g_propagate_error(error, w.error);
                return FALSE;
        }
        *ret = (struct pack_verify_report){.files = entries->len, .bytes = w.done};
        for (guint i = 0; i < entries->len; i++)
                ret->trees += manifest_has_tree(pack_reader_manifest(reader), g_ptr_array_index(entries, i));
        return TRUE;
}
