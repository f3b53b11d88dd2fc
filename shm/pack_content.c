/* shm/pack_content.c - the blobs of a pack that is being made: files in, stored bytes and digests out. */
#include "shm/pack_content.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "proto/limits.h"
#include "shm/pack_encode.h"
#include "shm/pack_layout.h"
#include "shm/pack_scan.h"
#include "shm/pack_trees.h"

/* A tree is over the holes of a file too. It is worth its room up to this, beside what the file has of data:
 * a sparse file of terabytes has none. Dense files are always within it. */
#define TREE_ALLOWANCE     (64u * 1024u)
#define TREE_SHARE_OF_DATA 8u

struct file {
        Moult__Entry *entry; /* the caller's */
        VerityTree *tree;
        struct verity_layout layout;
        gboolean keeps_tree; /* it goes into the pack */
        gboolean whole;      /* of one chunk: stored raw or not is known only when it comes back */
        gboolean compress;
        uint64_t offset; /* in the pack; 0 until the first chunk comes back */
        uint64_t stored, size;
        GArray *chunk_sizes; /* of uint32_t */
};

struct PackContent {
        int fd;     /* the caller's */
        char *path; /* for messages */
        gboolean compresses;
        Encoder *encoder;
        Hasher *hasher;
        PackTrees *trees;               /* NULL: there are to be none */
        uint64_t end;                   /* where the next blob begins; a multiple of PACK_ALIGN */
        GPtrArray *files;               /* of struct file, under way */
        GPtrArray *blobs;               /* of Moult__Blob, in order of offset */
        GHashTable *by_content;         /* digest of an entry -> that entry; a set of Moult__Entry */
        pack_content_observer observer; /* or NULL */
        gpointer observer_user;
};

static guint content_hash(gconstpointer key)
{
        guint h;
        memcpy(&h, ((const Moult__Entry *)key)->digest.data, sizeof h);
        return h;
}

static gboolean content_equal(gconstpointer a, gconstpointer b)
{
        const Moult__Entry *x = a, *y = b; /* the digest covers the size */
        return memcmp(x->digest.data, y->digest.data, DIGEST_SIZE) == 0;
}

static void file_free(gpointer data)
{
        struct file *f = data;
        verity_tree_free(f->tree);
        g_array_unref(f->chunk_sizes);
        g_free(f);
}

static void blob_free(gpointer b)
{
        moult__blob__free_unpacked(b, NULL);
}

PackContent *pack_content_new(int fd, const char *path, int zstd_level, gboolean with_trees)
{
        PackContent *p = g_new0(PackContent, 1);

        p->fd = fd;
        p->path = g_strdup(path);
        p->compresses = zstd_level != 0;
        p->encoder = encoder_new(zstd_level);
        p->hasher = hasher_new();
        p->trees = with_trees ? pack_trees_new(path) : NULL;
        p->end = PACK_HEADER_SIZE;
        p->files = g_ptr_array_new_with_free_func(file_free);
        p->blobs = g_ptr_array_new_with_free_func(blob_free);
        p->by_content = g_hash_table_new(content_hash, content_equal);
        return p;
}

void pack_content_free(PackContent *p)
{
        if (p == NULL)
                return;
        encoder_free(p->encoder); /* first: its workers use the files' trees */
        hasher_free(p->hasher);
        pack_trees_free(p->trees);
        g_hash_table_unref(p->by_content);
        g_ptr_array_unref(p->files);
        g_ptr_array_unref(p->blobs);
        g_free(p->path);
        g_free(p);
}

void pack_content_set_observer(PackContent *p, pack_content_observer observer, gpointer user)
{
        p->observer = observer;
        p->observer_user = user;
}

const GPtrArray *pack_content_blobs(const PackContent *p)
{
        return p->blobs;
}

uint64_t pack_content_end(const PackContent *p)
{
        return p->end;
}

/* --- chunks that come back --- */

static void blob_finish(PackContent *p, struct file *f)
{
        Moult__Blob *b = g_new(Moult__Blob, 1);
        moult__blob__init(b);
        b->offset = f->offset;
        b->stored_size = f->stored;
        b->size = f->size;
        b->storage = f->compress ? MOULT__BLOB_STORAGE__BLOB_ZSTD : MOULT__BLOB_STORAGE__BLOB_RAW;
        if (f->compress) {
                b->n_chunk_sizes = f->chunk_sizes->len;
                b->chunk_sizes = g_memdup2(f->chunk_sizes->data, f->chunk_sizes->len * sizeof(uint32_t));
        }
        g_ptr_array_add(p->blobs, b);
        if (f->keeps_tree)
                pack_trees_keep(p->trees, &f->layout, b);
        f->entry->blob = p->blobs->len;
}

static void share_content(Moult__Entry *e, const Moult__Entry *same)
{
        for (size_t i = 0; i < e->n_extents; i++)
                moult__extent__free_unpacked(e->extents[i], NULL);
        g_clear_pointer(&e->extents, g_free);
        e->blob = same->blob;
        e->n_extents = same->n_extents;
        e->extents = e->n_extents != 0 ? g_new(Moult__Extent *, e->n_extents) : NULL;
        for (size_t i = 0; i < e->n_extents; i++) {
                e->extents[i] = g_new(Moult__Extent, 1);
                *e->extents[i] = *same->extents[i];
        }
}

/* All chunks of @f are back and written. Frees it. */
static gboolean file_finish(PackContent *p, struct file *f, GError **error)
{
        Moult__Entry *e = f->entry;
        uint8_t digest[DIGEST_SIZE];
        if (!f->keeps_tree)
                verity_tree_digest(f->tree, p->hasher, digest);
        else if (!pack_trees_finish(p->trees, &f->layout, f->tree, p->hasher, digest, error))
                return FALSE;
        e->digest = (ProtobufCBinaryData){.len = sizeof digest, .data = g_memdup2(digest, sizeof digest)};

        Moult__Entry *same = g_hash_table_lookup(p->by_content, e);
        if (same != NULL) {
                share_content(e, same);
        } else {
                if (f->stored > 0) {
                        blob_finish(p, f);
                        p->end = (f->offset + f->stored + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
                }
                g_hash_table_add(p->by_content, e);
        }
        gboolean wrote = f->stored > 0;
        g_ptr_array_remove_fast(p->files, f);
        if (!wrote)
                return TRUE;
        /* Cuts off what turned out to be a copy, or fills up to the next boundary with zeros. */
        if (ftruncate(p->fd, (off_t)p->end) < 0)
                return moult_error_errno(error, errno, "writing %s", p->path);
        return TRUE;
}

static gboolean write_chunk(PackContent *p, struct encoder_chunk *c, GError **error)
{
        struct file *f = c->file;
        if (f->offset == 0)
                f->offset = p->end;
        if (f->whole)
                f->compress = c->zstd_len != 0;
        const uint8_t *data = f->compress ? c->zstd : c->raw;
        uint32_t len = (uint32_t)(f->compress ? c->zstd_len : c->raw_len);
        int fake = fault_point("pack-writer.write");
        if (fake != 0)
                return moult_error_errno(error, fake, "writing %s", p->path);
        if (!fd_pwrite_all(p->fd, data, len, (off_t)(f->offset + f->stored), p->path, error))
                return FALSE;
        f->stored += len;
        f->size += c->raw_len;
        if (f->compress)
                g_array_append_val(f->chunk_sizes, len);
        if (c->n_leaves > 0 &&
            !pack_trees_add_leaves(p->trees, &f->layout, c->verity_chunk, c->leaves, c->n_leaves, error))
                return FALSE;
        return c->last ? file_finish(p, f, error) : TRUE;
}

/* Takes chunks out while too many are under way, or all of them. */
static gboolean drain(PackContent *p, gboolean all, GError **error)
{
        while (all || encoder_is_full(p->encoder)) {
                struct encoder_chunk *c = encoder_pull(p->encoder);
                if (c == NULL)
                        return TRUE;
                gboolean ok = write_chunk(p, c, error);
                encoder_chunk_free(c);
                if (!ok)
                        return FALSE;
        }
        return TRUE;
}

gboolean pack_content_finish(PackContent *p, GError **error)
{
        if (!drain(p, TRUE, error))
                return FALSE;
        if (p->trees == NULL)
                return TRUE;
        if (!pack_trees_append(p->trees, p->fd, p->end, error))
                return FALSE;
        p->end += pack_trees_size(p->trees);
        return TRUE;
}

/* --- reading a file --- */

static gboolean push_chunk(PackContent *p, struct file *f, uint8_t *raw, size_t len, gboolean last,
                           VerityTree *tree, uint64_t verity_chunk, GError **error)
{
        struct encoder_chunk *c = g_new0(struct encoder_chunk, 1);
        c->file = f;
        c->raw = raw;
        c->raw_len = len;
        c->last = last;
        c->tree = tree;
        c->verity_chunk = verity_chunk;
        c->wants_leaves = f->keeps_tree;
        c->how = f->whole ? ENCODE_IF_SMALLER : f->compress ? ENCODE_ALWAYS : ENCODE_RAW;
        encoder_push(p->encoder, c);
        if (p->observer != NULL)
                p->observer(len, p->observer_user);
        return drain(p, FALSE, error);
}

/* Judges a large file by up to eight pieces of it. */
static gboolean is_worth_compressing(PackContent *p, int fd, const struct pack_scan *scan, GError **error)
{
        enum { PIECES = 8, PIECE_SIZE = 64 * 1024 };
        if (!p->compresses)
                return FALSE;
        g_autofree uint8_t *sample = g_malloc(PIECES * PIECE_SIZE);
        size_t len = 0;
        for (unsigned i = 0; i < PIECES; i++) {
                uint64_t offset;
                size_t n = (size_t)pack_scan_locate(scan, scan->data_size / PIECES * i, &offset);
                n = MIN(n, PIECE_SIZE);
                if (!fd_pread_all(fd, sample + len, n, (off_t)offset, "the file", error))
                        return FALSE;
                len += n;
        }
        return encoder_shrinks(p->encoder, sample, len);
}

static gboolean add_dense(PackContent *p, struct file *f, int fd, GCancellable *cancellable, GError **error)
{
        uint64_t size = f->entry->size;
        for (uint64_t at = 0; at < size; at += CHUNK_SIZE) {
                size_t len = (size_t)MIN(size - at, CHUNK_SIZE);
                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                g_autofree uint8_t *raw = g_malloc(len);
                if (!fd_pread_all(fd, raw, len, (off_t)at, "the file", error))
                        return FALSE;
                if (!push_chunk(p, f, g_steal_pointer(&raw), len, at + len == size, f->tree, at / CHUNK_SIZE,
                                error))
                        return FALSE;
        }
        return TRUE;
}

/* The file's logical chunks, put together from its data runs in passing, for the digest. */
struct assembly {
        PackContent *content;
        struct file *file;
        uint8_t *buf; /* CHUNK_SIZE */
        uint64_t chunk;
        gboolean used;
        uint64_t n_leaves_of; /* chunks whose part of the tree is written: the ones before this */
};

/* Adds the next chunk; @data NULL: it is a hole. The tree that goes into the pack is over holes as well. */
static gboolean assembly_put(struct assembly *a, const uint8_t *data, GError **error)
{
        uint8_t leaves[VERITY_LEAVES_PER_CHUNK * VERITY_BLOCK_SIZE];
        uint64_t chunk = a->n_leaves_of++;
        size_t n = verity_tree_add_chunk_leaves(a->file->tree, a->content->hasher, chunk, data, leaves);
        return pack_trees_add_leaves(a->content->trees, &a->file->layout, chunk, leaves, n, error);
}

/* Hands over what was put together; all chunks before @until that were not are holes. */
static gboolean assembly_flush(struct assembly *a, uint64_t until, GError **error)
{
        struct file *f = a->file;
        gboolean used = a->used;
        a->used = FALSE;
        if (!f->keeps_tree) {
                size_t len = (size_t)MIN(f->entry->size - a->chunk * CHUNK_SIZE, CHUNK_SIZE);
                if (used)
                        verity_tree_add_chunk(f->tree, a->content->hasher, a->chunk, a->buf, len);
                return TRUE;
        }
        while (a->n_leaves_of < until)
                if (!assembly_put(a, used && a->n_leaves_of == a->chunk ? a->buf : NULL, error))
                        return FALSE;
        return TRUE;
}

/* Takes bytes that all belong to one logical chunk. */
static gboolean assembly_add(struct assembly *a, uint64_t offset, const uint8_t *data, size_t len,
                             GError **error)
{
        if ((!a->used || a->chunk != offset / CHUNK_SIZE) && !assembly_flush(a, offset / CHUNK_SIZE, error))
                return FALSE;
        if (!a->used) {
                memset(a->buf, 0, CHUNK_SIZE);
                a->chunk = offset / CHUNK_SIZE;
                a->used = TRUE;
        }
        memcpy(a->buf + offset % CHUNK_SIZE, data, len);
        return TRUE;
}

static gboolean add_sparse(PackContent *p, struct file *f, int fd, const struct pack_scan *scan,
                           GCancellable *cancellable, GError **error)
{
        g_autofree uint8_t *buf = g_malloc(CHUNK_SIZE);
        struct assembly a = {.content = p, .file = f, .buf = buf};

        /* Its part of the trees is written by this thread: the files before must be done with theirs. */
        if (f->keeps_tree && !drain(p, TRUE, error))
                return FALSE;
        for (uint64_t at = 0; at < scan->data_size; at += CHUNK_SIZE) {
                size_t len = (size_t)MIN(scan->data_size - at, CHUNK_SIZE), filled = 0;
                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                g_autofree uint8_t *raw = g_malloc(len);
                while (filled < len) {
                        uint64_t offset, run = pack_scan_locate(scan, at + filled, &offset);
                        size_t n = (size_t)MIN(MIN(run, len - filled), CHUNK_SIZE - offset % CHUNK_SIZE);
                        if (!fd_pread_all(fd, raw + filled, n, (off_t)offset, "the file", error))
                                return FALSE;
                        if (!assembly_add(&a, offset, raw + filled, n, error))
                                return FALSE;
                        filled += n;
                }
                gboolean last = at + len == scan->data_size;
                if (last && !assembly_flush(&a, (f->entry->size - 1) / CHUNK_SIZE + 1, error))
                        return FALSE;
                if (!push_chunk(p, f, g_steal_pointer(&raw), len, last, NULL, 0, error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean refused(GError **error, const char *why)
{
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_REFUSED, why);
        return FALSE;
}

static gboolean is_unchanged(const struct stat *a, const struct stat *b)
{
        return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
               a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

gboolean pack_content_add(PackContent *p, Moult__Entry *e, int fd, GCancellable *cancellable, GError **error)
{
        struct stat before, after;
        g_auto(pack_scan) scan = {0};

        if (fstat(fd, &before) < 0)
                return moult_error_errno(error, errno, "looking at the file");
        if (!S_ISREG(before.st_mode))
                return refused(error, "its data is not a regular file");
        e->size = (uint64_t)before.st_size;
        if (e->size > LIMIT_FILE_SIZE)
                return refused(error, "it is larger than 16 TiB");
        if (!pack_scan_fd(&scan, fd, e->size, error))
                return FALSE;
        pack_scan_fill_extents(&scan, e);

        struct file *f = g_new0(struct file, 1);
        f->entry = e;
        f->tree = verity_tree_new(e->size);
        f->chunk_sizes = g_array_new(FALSE, FALSE, sizeof(uint32_t));
        f->whole = scan.data_size <= CHUNK_SIZE;
        verity_layout_init(&f->layout, e->size);
        f->keeps_tree = p->trees != NULL && f->layout.n_blocks > 0 && scan.data_size > 0 &&
                        f->layout.n_blocks * VERITY_BLOCK_SIZE <=
                                scan.data_size / TREE_SHARE_OF_DATA + TREE_ALLOWANCE;
        g_ptr_array_add(p->files, f);
        if (scan.data_size == 0) /* no chunk will come back */
                return file_finish(p, f, error);
        if (!f->whole) {
                g_autoptr(GError) why = NULL;
                f->compress = is_worth_compressing(p, fd, &scan, &why);
                if (why != NULL) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
        }
        gboolean ok = scan.is_dense ? add_dense(p, f, fd, cancellable, error)
                                    : add_sparse(p, f, fd, &scan, cancellable, error);
        if (!ok)
                return FALSE;
        if (fstat(fd, &after) < 0)
                return moult_error_errno(error, errno, "looking at the file");
        if (!is_unchanged(&before, &after)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the file changed while it was read");
                return FALSE;
        }
        return TRUE;
}
