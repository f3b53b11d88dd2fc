/* guest-agent/upgrade/stage_delta.c - files put together from what is here already and a delta. */
#include "guest-agent/upgrade/stage_delta.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/remove_tree.h"
#include "proto/channel.pb-c.h"
#include "proto/limits.h"
#include "shm/gzip_remake.h"
#include "shm/pack_deltas.h"

/* A source as it was when its digest was right. */
struct source {
        enum { SOURCE_NOT_LOOKED_AT, SOURCE_GOOD, SOURCE_BAD } state;
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec ctime;
};

struct deltas {
        Plan *plan;
        PackReader *pack;
        const struct stage_options *options;
        GCancellable *cancellable;
        DeltaIndex *index;
        GArray **wanted; /* by blob: guint32 entries that are to be made of it; NULL: none */
        struct source *sources;
        Hasher *hasher;
};

void stage_deltas_init(struct stage_deltas *d)
{
        memset(d, 0, sizeof *d);
        g_mutex_init(&d->lock);
}

void stage_deltas_clear(struct stage_deltas *d)
{
        g_mutex_clear(&d->lock);
        g_clear_pointer(&d->text, g_free);
}

static void failed(struct stage_deltas *d, const char *why)
{
        g_mutex_lock(&d->lock);
        d->failed++;
        if (d->text == NULL)
                d->text = g_strdup(why);
        g_mutex_unlock(&d->lock);
}

void stage_deltas_undo(struct stage_deltas *d, const char *path, guint64 full_bytes)
{
        g_autofree char *why = g_strdup_printf(
                "/%s: what the delta gives does not have the digest in the signed list", path);
        if (d == NULL)
                return;
        failed(d, why);
        g_mutex_lock(&d->lock);
        d->files -= d->files > 0;
        d->saved_bytes -= MIN(d->saved_bytes, full_bytes);
        g_mutex_unlock(&d->lock);
}

gboolean stage_deltas_pay(PackReader *pack)
{
        int kind = pack_source_kind(pack_reader_source(pack));
        return kind == MOULT__SOURCE_KIND__SOURCE_TLS || kind == MOULT__SOURCE_KIND__SOURCE_SERIAL;
}

/* --- what is wanted --- */

static void find_wanted(struct deltas *d)
{
        const Manifest *m = d->plan->manifest;
        d->wanted = g_new0(GArray *, m->n_blobs + 1);
        for (guint32 i = 0; i < d->plan->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                const struct plan_entry *pe = &d->plan->entries[i];
                /* Of a sparse file staging takes no chunk that it finds: it must come from the pack. */
                if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE || !pe->selected || !plan_is_staged(pe) ||
                    pe->deferred || pe->copy_live || e->blob == 0 || e->n_extents > 0)
                        continue;
                if (d->wanted[e->blob - 1] == NULL)
                        d->wanted[e->blob - 1] = g_array_new(FALSE, FALSE, sizeof(guint32));
                g_array_append_val(d->wanted[e->blob - 1], i);
        }
}

/* -1: there is none of the right size. */
static int open_staged(const struct deltas *d, guint32 entry, int flags)
{
        g_autofree char *name = plan_staged_path(d->plan, entry);
        struct stat st;
        scoped_fd int fd = openat(stage_directory(d->options, &d->plan->entries[entry]), name,
                                  flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
            (guint64)st.st_size != d->plan->manifest->entries[entry]->size)
                return -1;
        return g_steal_fd(&fd);
}

/* Written before, by this run or one that was interrupted. Staging will see whether it is right. */
static gboolean is_there(const struct deltas *d, guint32 entry, const Moult__DeltaPart *p)
{
        scoped_fd int fd = open_staged(d, entry, O_RDONLY);
        if (fd < 0 || lseek(fd, (off_t)p->offset, SEEK_DATA) != (off_t)p->offset)
                return FALSE;
        off_t hole = lseek(fd, (off_t)p->offset, SEEK_HOLE);
        return hole < 0 || (guint64)hole >= p->offset + p->length;
}

static gboolean part_is_missing(const struct deltas *d, const Moult__DeltaPart *p)
{
        const GArray *entries = d->wanted[p->blob];
        for (guint i = 0; entries != NULL && i < entries->len; i++)
                if (!is_there(d, g_array_index(entries, guint32, i), p))
                        return TRUE;
        return FALSE;
}

/* What the missing parts would cost without the delta. */
static guint64 full_cost(const struct deltas *d, const Moult__DeltaFrame *f)
{
        guint64 sum = 0;
        for (size_t i = 0; i < f->n_parts; i++) {
                const Moult__Blob *b = d->plan->manifest->blobs[f->parts[i]->blob];
                if (!part_is_missing(d, f->parts[i]))
                        continue;
                sum += f->parts[i]->length == b->size ? b->stored_size
                                                      : (guint64)((double)b->stored_size / (double)b->size *
                                                                  (double)f->parts[i]->length);
        }
        return sum;
}

/* --- what it looks back at --- */

static gboolean is_as_judged(const struct source *s, int fd)
{
        struct stat st;
        return fstat(fd, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino && st.st_size == s->size &&
               st.st_ctim.tv_sec == s->ctime.tv_sec && st.st_ctim.tv_nsec == s->ctime.tv_nsec;
}

static void judge_source(struct deltas *d, struct source *s, const guint8 *digest, int fd)
{
        guint8 is[DIGEST_SIZE];
        struct stat st;
        s->state = SOURCE_BAD;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return;
        s->dev = st.st_dev;
        s->ino = st.st_ino;
        s->size = st.st_size;
        s->ctime = st.st_ctim;
        if (verity_digest_fd(d->hasher, fd, (guint64)st.st_size, is, d->cancellable, NULL) &&
            memcmp(is, digest, DIGEST_SIZE) == 0 && is_as_judged(s, fd))
                s->state = SOURCE_GOOD;
}

static gboolean bytes_read(const struct source *s, const Moult__DeltaPiece *p, int fd, const char *path,
                           guint8 *dst)
{
        return p->offset <= (guint64)s->size && p->length <= (guint64)s->size - p->offset &&
               fd_pread_all(fd, dst, (gsize)p->length, (off_t)p->offset, path, NULL);
}

/* Of a gzip file what is in it: all of it. */
static gboolean content_read(const struct source *s, const Moult__DeltaPiece *p, int fd, const char *path,
                             guint8 *dst)
{
        if (s->size > LIMIT_GZIP_FILE)
                return FALSE;
        g_autofree guint8 *file = g_malloc((gsize)s->size + 1);
        if (!fd_pread_all(fd, file, (gsize)s->size, 0, path, NULL))
                return FALSE;
        g_autoptr(GBytes) content = gzip_unpack(file, (gsize)s->size);
        if (content == NULL || g_bytes_get_size(content) != p->length)
                return FALSE;
        memcpy(dst, g_bytes_get_data(content, NULL), (gsize)p->length);
        return TRUE;
}

static gboolean piece_read(struct deltas *d, const Moult__DeltaPiece *p, guint8 *dst)
{
        const Manifest *m = d->plan->manifest;
        const Moult__DeltaSource *source = d->index->sources[p->source];
        struct source *s = &d->sources[p->source];
        if (s->state == SOURCE_BAD)
                return FALSE;
        ProtobufCBinaryData b = delta_source_path(m, source);
        g_autofree char *path = g_strndup((const char *)b.data, b.len);
        scoped_fd int fd = fs_beneath_open(d->options->root_fd, path,
                                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME, 0, NULL);
        if (fd < 0) {
                s->state = SOURCE_BAD;
                return FALSE;
        }
        if (s->state == SOURCE_NOT_LOOKED_AT)
                judge_source(d, s, delta_source_digest(m, source), fd);
        /* Into memory of our own: what somebody writes to the file from here on does not matter, and what he
         * wrote meanwhile shows in its change time; at the latest in the new file's digest. */
        return s->state == SOURCE_GOOD && (p->content ? content_read : bytes_read)(s, p, fd, path, dst) &&
               is_as_judged(s, fd);
}

static guint8 *prefix_read(struct deltas *d, const Moult__DeltaFrame *f)
{
        g_autofree guint8 *prefix = g_malloc(delta_frame_prefix(f) + 1);
        gsize at = 0;
        for (size_t i = 0; i < f->n_prefix; i++) {
                if (!piece_read(d, f->prefix[i], prefix + at))
                        return NULL;
                at += (gsize)f->prefix[i]->length;
        }
        return g_steal_pointer(&prefix);
}

/* --- what it gives --- */

static int create_staged(const struct deltas *d, guint32 entry, GError **error)
{
        const struct plan_entry *pe = &d->plan->entries[entry];
        g_autofree char *name = plan_staged_path(d->plan, entry);
        int area_fd = stage_directory(d->options, pe);
        scoped_fd int fd = open_staged(d, entry, O_RDWR);
        if (fd >= 0)
                return g_steal_fd(&fd);
        if (!remove_tree(area_fd, name, error)) /* of an interrupted run, and no use */
                return -1;
        fd = openat(area_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, (off_t)d->plan->manifest->entries[entry]->size) < 0) {
                moult_error_errno(error, errno, "creating the new /%s", pe->path);
                return -1;
        }
        return g_steal_fd(&fd);
}

static gboolean part_write(struct deltas *d, const Moult__DeltaPart *p, const guint8 *data, guint *files,
                           GError **error)
{
        const GArray *entries = d->wanted[p->blob];
        for (guint i = 0; entries != NULL && i < entries->len; i++) {
                guint32 entry = g_array_index(entries, guint32, i);
                struct plan_entry *pe = &d->plan->entries[entry];
                if (is_there(d, entry, p))
                        continue;
                scoped_fd int fd = create_staged(d, entry, error);
                int fake = fault_point("stage-delta-write");
                if (fake != 0)
                        return moult_error_errno(error, fake, "writing the new /%s", pe->path);
                if (fd < 0 || !fd_pwrite_all(fd, data, (gsize)p->length, (off_t)p->offset, pe->path, error))
                        return FALSE;
                *files += !pe->seeded;
                pe->seeded = TRUE;
                pe->told_bytes += p->length;
                if (d->options->progress != NULL)
                        d->options->progress(p->length, d->options->user);
        }
        return TRUE;
}

/* What a part is made of, to the part itself. Not verified. */
static gboolean part_make(struct deltas *d, const Moult__DeltaPart *p, const guint8 *output, guint *files,
                          GError **error)
{
        if (p->gzip == NULL)
                return part_write(d, p, output, files, error);
        g_autoptr(GBytes) file = gzip_remake(p->gzip, output, (gsize)p->length);
        if (file == NULL || g_bytes_get_size(file) != p->length) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the zlib of this machine does not make the gzip file that the delta is for");
                return FALSE;
        }
        return part_write(d, p, g_bytes_get_data(file, NULL), files, error);
}

static gboolean parts_write(struct deltas *d, const Moult__DeltaFrame *f, const guint8 *data, guint *files,
                            GError **error)
{
        gsize at = 0;
        for (size_t i = 0; i < f->n_parts; i++) {
                if (g_cancellable_set_error_if_cancelled(d->cancellable, error) ||
                    !part_make(d, f->parts[i], data + at, files, error))
                        return FALSE;
                at += delta_part_output(f->parts[i]);
        }
        return TRUE;
}

static gboolean frame_apply(struct deltas *d, const Moult__DeltaFrame *f, const guint8 *prefix, guint *files,
                            GError **error)
{
        gsize len = delta_frame_output(f);
        g_autofree guint8 *stored = g_malloc(f->stored_size), *data = g_malloc(len);
        return pack_reader_read_stored(d->pack, f->offset, stored, f->stored_size, d->cancellable, error) &&
               delta_apply(prefix, delta_frame_prefix(f), stored, f->stored_size, data, len, error) &&
               parts_write(d, f, data, files, error);
}

/* FALSE: there is no sense in going on. */
static gboolean frame_do(struct deltas *d, const Moult__DeltaFrame *f)
{
        struct stage_deltas *told = d->options->deltas;
        guint64 full = full_cost(d, f);
        guint files = 0;
        g_autoptr(GError) why = NULL;

        if (full <= f->stored_size)
                return TRUE;
        g_autofree guint8 *prefix = prefix_read(d, f);
        if (prefix == NULL) {
                g_mutex_lock(&told->lock);
                told->unsuited++;
                g_mutex_unlock(&told->lock);
                return TRUE;
        }
        if (frame_apply(d, f, prefix, &files, &why)) {
                g_mutex_lock(&told->lock);
                told->files += files;
                told->bytes += f->stored_size;
                told->saved_bytes += full - f->stored_size;
                g_mutex_unlock(&told->lock);
                return TRUE;
        }
        if (g_cancellable_is_cancelled(d->cancellable))
                return FALSE;
        failed(told, why->message);
        /* A full disk or a lost source is the staging's matter. */
        return g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CORRUPT);
}

static void deltas_clear(struct deltas *d)
{
        for (size_t i = 0; i < d->plan->manifest->n_blobs; i++)
                if (d->wanted[i] != NULL)
                        g_array_unref(d->wanted[i]);
        g_free(d->wanted);
        g_free(d->sources);
        hasher_free(d->hasher);
        delta_index_free(d->index);
}

void stage_deltas_run(Plan *p, PackReader *pack, const struct stage_options *options,
                      GCancellable *cancellable)
{
        struct deltas d = {.plan = p, .pack = pack, .options = options, .cancellable = cancellable};
        g_autoptr(GError) why = NULL;

        if (options->deltas == NULL || !stage_deltas_pay(pack))
                return;
        d.index = delta_index_read(pack, cancellable, &why);
        if (d.index == NULL) {
                if (why != NULL && !g_cancellable_is_cancelled(cancellable))
                        failed(options->deltas, why->message);
                return;
        }
        d.sources = g_new0(struct source, d.index->n_sources + 1);
        d.hasher = hasher_new();
        find_wanted(&d);
        for (size_t i = 0; i < d.index->n_frames; i++)
                if (g_cancellable_is_cancelled(cancellable) || !frame_do(&d, d.index->frames[i]))
                        break;
        deltas_clear(&d);
}
