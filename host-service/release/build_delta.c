/* host-service/release/build_delta.c - deltas against an old tree, put into a pack that is being made. */
#include "host-service/release/build_delta.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/release/predecessor.h"
#include "proto/limits.h"
#include "shm/gzip_remake.h"
#include "shm/pack_deltas.h"

/* A delta must be worth a look at the old files: an eighth, and what the index says about it. */
#define MARGIN_SHARE 8u
#define MARGIN_BYTES 64u
#define THREADS_MAX  8u /* a frame under way takes some 200 MiB at the highest levels */

struct part {
        uint32_t blob;
        unsigned new_index;
        uint64_t offset, length;
        Moult__GzipRecipe *gzip; /* not NULL: the frame gives what is in the file */
        gssize old_index;        /* -1: nothing to look back at */
        uint64_t old_offset, old_length;
        gboolean old_content; /* what is in the old file, which is a gzip file; old_length bytes */
};

struct job {
        guint first, count; /* parts */
        size_t full;        /* what the parts take in the pack without it */
        GByteArray *prefix, *data;
        int level;
        GBytes *frame; /* NULL: it does not pay */
};

struct making {
        PackWriter *writer;
        DeltaWriter *deltas;
        const BuildTree *new_tree;
        BuildTree *base;
        const struct build_delta_options *options;
        GCancellable *cancellable;
        Predecessors *predecessors;
        GHashTable *sources;          /* index in the base plus 1 -> number of the source plus 1 */
        GArray *kinds[DELTA_INDICES]; /* of struct part: what goes to which index */
        GArray *parts;                /* those of the kind that is made now */
};

/* --- who is made from whom --- */

/* The old bytes that a piece of a new file looks back at: those around the same place. */
static void place_prefix(struct part *p, uint64_t new_size, uint64_t old_size)
{
        if (old_size <= LIMIT_DELTA_PREFIX) {
                p->old_length = old_size;
                return;
        }
        uint64_t middle =
                (uint64_t)((double)(p->offset + p->length / 2) / (double)new_size * (double)old_size);

        p->old_length = LIMIT_DELTA_PREFIX;
        p->old_offset = middle > LIMIT_DELTA_PREFIX / 2 ? middle - LIMIT_DELTA_PREFIX / 2 : 0;
        p->old_offset = MIN(p->old_offset, old_size - LIMIT_DELTA_PREFIX);
}

static uint64_t part_output(const struct part *p)
{
        return p->gzip ? p->gzip->content : p->length;
}

/* What is in an old file; NULL: it is no gzip file of ours, or cannot be read now. */
static GBytes *old_content(struct making *m, unsigned index)
{
        const struct tree_node *n = build_tree_node(m->base, index);
        scoped_fd int fd = n->size <= LIMIT_GZIP_FILE ? build_tree_open(m->base, index, NULL) : -1;
        g_autofree uint8_t *file = fd >= 0 ? g_malloc(n->size) : NULL;

        if (!file || !fd_pread_all(fd, file, n->size, 0, n->path, NULL))
                return NULL;
        return gzip_unpack(file, n->size);
}

/* A gzip file over a gzip file, by what is in them, where zlib makes it again. */
static gboolean collect_gzip(struct making *m, unsigned new_index, uint32_t blob, gssize old)
{
        const struct tree_node *n = build_tree_node(m->new_tree, new_index);
        struct part p = {.blob = blob, .new_index = new_index, .length = n->size, .old_index = old};

        if (old < 0 || n->size > LIMIT_GZIP_FILE || !g_str_has_suffix(n->path, ".gz"))
                return FALSE;
        g_autofree uint8_t *file = g_malloc(n->size);
        g_autoptr(GBytes) before = old_content(m, (unsigned)old);
        if (!before || !pack_writer_read_blob(m->writer, blob, 0, file, n->size, NULL))
                return FALSE;
        g_autoptr(GBytes) after = gzip_recipe_make(file, n->size, &p.gzip);
        if (!after)
                return FALSE;
        p.old_length = g_bytes_get_size(before);
        p.old_content = TRUE;
        g_array_append_val(m->kinds[DELTA_INDEX_GZIP], p);
        return TRUE;
}

static void collect_file(struct making *m, unsigned new_index, uint32_t blob)
{
        const struct tree_node *n = build_tree_node(m->new_tree, new_index);
        gssize old = predecessors_find(m->predecessors, n->path);

        if (collect_gzip(m, new_index, blob, old))
                return;

        for (uint64_t at = 0; at < n->size; at += LIMIT_DELTA_OUTPUT) {
                struct part p = {.blob = blob,
                                 .new_index = new_index,
                                 .offset = at,
                                 .length = MIN(n->size - at, LIMIT_DELTA_OUTPUT),
                                 .old_index = old};

                if (old >= 0)
                        place_prefix(&p, n->size, build_tree_node(m->base, (unsigned)old)->size);
                g_array_append_val(m->kinds[DELTA_INDEX_BYTES], p);
        }
}

static void collect(struct making *m, const GArray *plan)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL); /* blobs */

        for (guint i = 0; i < plan->len; i++) {
                const struct build_item *item = &g_array_index(plan, struct build_item, i);
                uint32_t unused;

                if (item->new_index < 0)
                        continue;
                const struct tree_node *n = build_tree_node(m->new_tree, (unsigned)item->new_index);
                const Moult__Entry *e = pack_writer_find(m->writer, n->path, &unused);
                /* Sparse files: most of what they are is in the list already. */
                if (e && e->type == MOULT__ENTRY_TYPE__ENTRY_FILE && e->blob > 0 && e->n_extents == 0 &&
                    e->size == n->size && g_hash_table_add(seen, GUINT_TO_POINTER(e->blob)))
                        collect_file(m, (unsigned)item->new_index, e->blob - 1);
        }
}

static size_t full_size(const struct making *m, const struct part *p)
{
        const Moult__Blob *b = pack_writer_blob(m->writer, p->blob);

        return p->length == b->size ? (size_t)b->stored_size
                                    : (size_t)((double)b->stored_size / (double)b->size * (double)p->length);
}

/* The next run of parts that one frame can hold. */
static struct job next_job(const struct making *m, guint first)
{
        struct job j = {.first = first, .level = m->options->level};
        uint64_t data = 0, prefix = 0;

        for (guint i = first; i < m->parts->len; i++, j.count++) {
                const struct part *p = &g_array_index(m->parts, struct part, i);

                if (j.count > 0 && (data + part_output(p) > LIMIT_DELTA_OUTPUT ||
                                    prefix + p->old_length > LIMIT_DELTA_PREFIX))
                        break;
                data += part_output(p);
                prefix += p->old_length;
                j.full += full_size(m, p);
        }
        return j;
}

/* --- bytes --- */

static void job_clear(gpointer data)
{
        struct job *j = data;

        g_clear_pointer(&j->prefix, g_byte_array_unref);
        g_clear_pointer(&j->data, g_byte_array_unref);
        g_clear_pointer(&j->frame, g_bytes_unref);
}

static gboolean append_range(int fd, GByteArray *to, uint64_t offset, uint64_t length, const char *path,
                             GError **error)
{
        guint at = to->len;

        g_byte_array_set_size(to, at + (guint)length);
        return fd_pread_all(fd, to->data + at, (size_t)length, (off_t)offset, path, error);
}

/* Of the old file as it is read now; that of the comparison, where there was one. */
static gboolean know_digest(struct making *m, unsigned index, int fd, GError **error)
{
        const struct tree_node *n = build_tree_node(m->base, index);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];

        if (n->has_digest)
                return TRUE;
        if (!verity_digest_fd(h, fd, n->size, digest, m->cancellable, error))
                return FALSE;
        build_tree_set_digest(m->base, index, digest);
        return TRUE;
}

static gboolean append_content(struct making *m, GByteArray *to, const struct part *p, GError **error)
{
        g_autoptr(GBytes) content = old_content(m, (unsigned)p->old_index);

        if (!content || g_bytes_get_size(content) != p->old_length) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the old /%s was changed while it was read: build again once nobody writes to it",
                            build_tree_node(m->base, (unsigned)p->old_index)->path);
                return FALSE;
        }
        g_byte_array_append(to, g_bytes_get_data(content, NULL), (guint)p->old_length);
        return TRUE;
}

static gboolean read_old(struct making *m, struct job *j, const struct part *p, GError **error)
{
        unsigned index = (unsigned)p->old_index;
        scoped_fd int fd = build_tree_open(m->base, index, error);

        return fd >= 0 && know_digest(m, index, fd, error) &&
               (p->old_content ? append_content(m, j->prefix, p, error)
                               : append_range(fd, j->prefix, p->old_offset, p->old_length,
                                              build_tree_node(m->base, index)->path, error)) &&
               build_tree_still(m->base, index, fd, error);
}

/* From the pack: it has just what counts, and the tree may be one that is far away. */
static gboolean read_new(struct making *m, struct job *j, const struct part *p, GError **error)
{
        GByteArray *to = p->gzip ? g_byte_array_new() : g_byte_array_ref(j->data);
        guint at = to->len;

        g_byte_array_set_size(to, at + (guint)p->length);
        gboolean ok =
                pack_writer_read_blob(m->writer, p->blob, p->offset, to->data + at, (size_t)p->length, error);
        if (ok && p->gzip) { /* it was taken apart before, and nobody writes to the pack but we */
                g_autoptr(GBytes) content = gzip_unpack(to->data, to->len);

                g_byte_array_append(j->data, g_bytes_get_data(content, NULL), (guint)p->gzip->content);
        }
        g_byte_array_unref(to);
        return ok;
}

static gboolean job_read(struct making *m, struct job *j, GError **error)
{
        j->prefix = g_byte_array_new();
        j->data = g_byte_array_new();
        for (guint i = j->first; i < j->first + j->count; i++) {
                const struct part *p = &g_array_index(m->parts, struct part, i);

                if (g_cancellable_set_error_if_cancelled(m->cancellable, error) ||
                    (p->old_index >= 0 && !read_old(m, j, p, error)) || !read_new(m, j, p, error)) {
                        g_prefix_error(error, "making the delta of /%s: ",
                                       build_tree_node(m->new_tree, p->new_index)->path);
                        return FALSE;
                }
        }
        return TRUE;
}

static gpointer job_run(gpointer data)
{
        struct job *j = data;
        size_t margin = j->full / MARGIN_SHARE + MARGIN_BYTES;

        if (j->prefix->len > 0 && j->full > margin)
                j->frame = delta_make(j->prefix->data, j->prefix->len, j->data->data, j->data->len, j->level,
                                      j->full - margin);
        return NULL;
}

/* --- into the pack --- */

static uint32_t source_number(struct making *m, unsigned index)
{
        gpointer key = GUINT_TO_POINTER(index + 1), have = g_hash_table_lookup(m->sources, key);

        if (have)
                return GPOINTER_TO_UINT(have) - 1;
        const struct tree_node *n = build_tree_node(m->base, index);
        uint32_t at, entry = 0;
        const Moult__Entry *e = pack_writer_find(m->writer, n->path, &at);

        if (e && e->n_old_digests > 0 && memcmp(e->old_digests[0].data, n->digest, DIGEST_SIZE) == 0)
                entry = at + 1;
        uint32_t number = delta_writer_add_source(m->deltas, entry, n->path, n->digest);
        g_hash_table_insert(m->sources, key, GUINT_TO_POINTER(number + 1));
        return number;
}

/* protobuf-c frees with free(), which is what g_free() is. */
static Moult__DeltaFrame *describe(struct making *m, const struct job *j)
{
        Moult__DeltaFrame *f = g_new(Moult__DeltaFrame, 1);

        moult__delta_frame__init(f);
        f->prefix = g_new(Moult__DeltaPiece *, j->count);
        f->parts = g_new(Moult__DeltaPart *, j->count);
        for (guint i = j->first; i < j->first + j->count; i++) {
                struct part *p = &g_array_index(m->parts, struct part, i);
                Moult__DeltaPart *part = f->parts[f->n_parts++] = g_new(Moult__DeltaPart, 1);

                moult__delta_part__init(part);
                part->blob = p->blob;
                part->offset = p->offset;
                part->length = p->length;
                part->gzip = g_steal_pointer(&p->gzip);
                if (p->old_index < 0)
                        continue;
                Moult__DeltaPiece *piece = f->prefix[f->n_prefix++] = g_new(Moult__DeltaPiece, 1);
                moult__delta_piece__init(piece);
                piece->source = source_number(m, (unsigned)p->old_index);
                piece->offset = p->old_offset;
                piece->length = p->old_length;
                piece->content = p->old_content;
        }
        return f;
}

static gboolean job_keep(struct making *m, struct job *j, struct build_delta_report *r, GError **error)
{
        if (m->options->observer)
                m->options->observer(j->data->len, m->options->user);
        if (!j->frame || delta_writer_frames(m->deltas) == LIMIT_DELTA_FRAMES)
                return TRUE;
        for (guint i = j->first; i < j->first + j->count; i++)
                r->files += g_array_index(m->parts, struct part, i).offset == 0;
        r->frames++;
        r->bytes += g_bytes_get_size(j->frame);
        r->full_bytes += j->full;
        return delta_writer_add_frame(m->deltas, describe(m, j), j->frame, error);
}

/* As many at once as there are threads; written in their order. */
static gboolean run_batch(struct making *m, GArray *jobs, struct build_delta_report *r, GError **error)
{
        g_autoptr(GPtrArray) threads = g_ptr_array_new();
        gboolean ok = TRUE;

        for (guint i = 1; i < jobs->len; i++)
                g_ptr_array_add(threads, g_thread_new("delta", job_run, &g_array_index(jobs, struct job, i)));
        if (jobs->len > 0)
                job_run(&g_array_index(jobs, struct job, 0));
        for (guint i = 0; i < threads->len; i++)
                g_thread_join(g_ptr_array_index(threads, i));
        for (guint i = 0; i < jobs->len && ok; i++)
                ok = job_keep(m, &g_array_index(jobs, struct job, i), r, error);
        g_array_set_size(jobs, 0);
        return ok;
}

static gboolean run_all(struct making *m, struct build_delta_report *r, GError **error)
{
        unsigned threads = m->options->threads ? m->options->threads : g_get_num_processors();
        g_autoptr(GArray) jobs = g_array_new(FALSE, TRUE, sizeof(struct job));

        threads = MIN(threads, THREADS_MAX);
        g_array_set_clear_func(jobs, job_clear);
        for (guint at = 0; at < m->parts->len;) {
                struct job j = next_job(m, at);
                gboolean ok = job_read(m, &j, error);

                at += j.count;
                g_array_append_val(jobs, j);
                if (!ok || (jobs->len == threads && !run_batch(m, jobs, r, error)))
                        return FALSE;
        }
        return run_batch(m, jobs, r, error);
}

static void part_clear(gpointer data)
{
        gzip_recipe_free(((struct part *)data)->gzip);
}

static gboolean run_kinds(struct making *m, struct build_delta_report *r, GError **error)
{
        for (unsigned kind = 0; kind < DELTA_INDICES; kind++) {
                m->parts = m->kinds[kind];
                g_hash_table_remove_all(m->sources);
                delta_writer_choose(m->deltas, kind);
                if (!run_all(m, r, error))
                        return FALSE;
        }
        return TRUE;
}

gboolean build_delta_add(PackWriter *w, const BuildTree *new_tree, BuildTree *base, const GArray *plan,
                         const struct build_delta_options *options, GCancellable *cancellable,
                         struct build_delta_report *report, GError **error)
{
        struct making m = {.writer = w,
                           .new_tree = new_tree,
                           .base = base,
                           .options = options,
                           .cancellable = cancellable};

        m.deltas = pack_writer_begin_deltas(w, error);
        if (!m.deltas)
                return FALSE;
        m.sources = g_hash_table_new(NULL, NULL);
        for (unsigned i = 0; i < DELTA_INDICES; i++) {
                m.kinds[i] = g_array_new(FALSE, FALSE, sizeof(struct part));
                g_array_set_clear_func(m.kinds[i], part_clear);
        }
        m.predecessors = predecessors_new(base);
        collect(&m, plan);
        gboolean ok = run_kinds(&m, report, error);
        predecessors_free(m.predecessors);
        g_hash_table_unref(m.sources);
        for (unsigned i = 0; i < DELTA_INDICES; i++)
                g_array_unref(m.kinds[i]);
        return ok;
}
