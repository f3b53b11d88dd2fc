/* guest-agent/upgrade/stage_file.c - one file on its way into the staging area, chunk by chunk, by several
 * threads. */
#include "guest-agent/upgrade/stage_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/remove_tree.h"
#include "guest-agent/upgrade/stage_delta.h"
#include "guest-agent/upgrade/staging_area.h"
#include "shm/entry_metadata.h"

/* A writeback that is started in pieces of this size keeps the disk busy while we hash. */
#define WRITEBACK_BYTES (8u * CHUNK_SIZE)

struct StageWorker {
        BlobBuffer *scratch;
        Hasher *hasher;
        guint8 *chunk, *gather; /* CHUNK_SIZE each */
        unsigned ahead_rung;    /* where it read ahead from */
};

/* Where chunks come from. Anything but the pack is a guess that the digest must confirm. */
enum origin { FROM_PACK, FROM_LIVE, FROM_STAGED };

struct StageFile {
        Plan *plan;
        const Moult__Entry *e;
        struct plan_entry *pe;
        PackReader *pack;
        const struct stage_options *options;
        guint32 entry;
        guint64 n_chunks;
        guint64 *extent_blob; /* where each extent begins in the blob */
        GMutex open_lock;     /* protects the opening; afterwards the fields below are constant */
        gboolean opened;
        int fd, live_fd;
        enum origin origin;
        unsigned rung;    /* where the pack's bytes came from when it was begun */
        VerityTree *tree; /* NULL for files of one chunk */
        gint chunks_left; /* atomic */
};

StageWorker *stage_worker_new(void)
{
        StageWorker *w = g_new0(StageWorker, 1);
        w->scratch = blob_buffer_new();
        w->hasher = hasher_new();
        w->chunk = g_malloc(CHUNK_SIZE);
        w->gather = g_malloc(CHUNK_SIZE);
        return w;
}

void stage_worker_free(StageWorker *w)
{
        if (w == NULL)
                return;
        blob_buffer_free(w->scratch);
        hasher_free(w->hasher);
        g_free(w->chunk);
        g_free(w->gather);
        g_free(w);
}

gboolean stage_worker_prefetch(StageWorker *w, PackReader *pack, guint64 offset, gsize len, GCancellable *c,
                               GError **error)
{
        w->ahead_rung = pack_source_rung(pack_reader_source(pack));
        return pack_reader_prefetch(pack, offset, len, w->scratch, c, error);
}

StageFile *stage_file_new(Plan *p, guint32 entry, PackReader *pack, const struct stage_options *options)
{
        StageFile *f = g_new0(StageFile, 1);
        f->plan = p;
        f->entry = entry;
        f->e = p->manifest->entries[entry];
        f->pe = &p->entries[entry];
        f->pack = pack;
        f->options = options;
        f->fd = f->live_fd = -1;
        f->n_chunks = MAX(1, f->e->size / CHUNK_SIZE + (f->e->size % CHUNK_SIZE != 0));
        f->chunks_left = (gint)f->n_chunks; /* 16 TiB in chunks of 1 MiB fit */
        f->extent_blob = g_new(guint64, f->e->n_extents + 1);
        guint64 blob = 0;
        for (size_t i = 0; i < f->e->n_extents; i++) {
                f->extent_blob[i] = blob;
                blob += f->e->extents[i]->length;
        }
        g_mutex_init(&f->open_lock);
        return f;
}

void stage_file_free(StageFile *f)
{
        if (f == NULL)
                return;
        if (f->fd >= 0)
                close(f->fd);
        if (f->live_fd >= 0)
                close(f->live_fd);
        verity_tree_free(f->tree);
        g_free(f->extent_blob);
        g_mutex_clear(&f->open_lock);
        g_free(f);
}

guint64 stage_file_chunks(const StageFile *f)
{
        return f->n_chunks;
}

static int open_live(StageFile *f)
{
        const char *dir = plan_directory(f->plan, f->pe->directory)->path;
        const char *slash = strrchr(f->pe->path, '/');
        const char *name = slash != NULL ? slash + 1 : f->pe->path;
        g_autofree char *path = *dir != '\0' ? g_strdup_printf("%s/%s", dir, name) : g_strdup(name);
        return fs_beneath_open(f->options->root_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME, 0,
                               NULL);
}

/* What an interrupted run left under this name; -1 if it is of no use. */
static int open_staged(int area_fd, const char *name)
{
        scoped_fd int fd = openat(area_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return -1;
        return g_steal_fd(&fd);
}

static gboolean file_create(StageFile *f, const char *name, gboolean resume, GError **error)
{
        int area_fd = stage_directory(f->options, f->pe);
        int fake = fault_point("stage-create");
        f->origin = f->pe->copy_live ? FROM_LIVE : FROM_PACK;
        f->rung = pack_source_rung(pack_reader_source(f->pack));
        f->fd = fake != 0 ? -1
                          : openat(area_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (f->fd < 0 && fake == 0 && errno == EEXIST) {
                f->fd = resume ? open_staged(area_fd, name) : -1;
                if (f->fd >= 0) {
                        f->origin = FROM_STAGED;
                } else {
                        if (!remove_tree(area_fd, name, error))
                                return FALSE;
                        f->fd = openat(area_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                       0600);
                }
        }
        if (f->fd < 0)
                return moult_error_errno(error, fake != 0 ? fake : errno, "creating the new /%s",
                                         f->pe->path);
        /* Fixed from the start: chunks come in any order, and holes have no bytes to write. */
        if ((f->n_chunks > 1 || f->e->n_extents > 0 || f->e->blob == 0 || f->origin == FROM_STAGED) &&
            ftruncate(f->fd, (off_t)f->e->size) < 0)
                return moult_error_errno(error, errno, "setting the size of the new /%s", f->pe->path);
        if (f->origin == FROM_LIVE && (f->live_fd = open_live(f)) < 0)
                f->origin = FROM_PACK;
        if (f->n_chunks > 1)
                f->tree = verity_tree_new(f->e->size);
        return TRUE;
}

static gboolean file_open(StageFile *f, GError **error)
{
        g_mutex_lock(&f->open_lock);
        gboolean ok = TRUE;
        if (!f->opened) {
                g_autofree char *name = plan_staged_path(f->plan, f->entry);
                ok = file_create(f, name, /* resume= */ TRUE, error);
                f->opened = ok;
        }
        g_mutex_unlock(&f->open_lock);
        return ok;
}

static gsize chunk_length(const StageFile *f, guint64 chunk)
{
        guint64 start = chunk * CHUNK_SIZE;
        return start < f->e->size ? (gsize)MIN((guint64)CHUNK_SIZE, f->e->size - start) : 0;
}

/* The parts of a chunk that hold data: calls @each for every one, with its offset in the blob. */
typedef gboolean (*each_run)(StageFile *f, StageWorker *w, guint64 file_offset, guint64 blob_offset,
                             gsize len, gpointer user, GError **error);

/* The first extent that ends after @offset. */
static size_t first_extent(const StageFile *f, guint64 offset)
{
        size_t low = 0, high = f->e->n_extents;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const Moult__Extent *x = f->e->extents[middle];
                if (x->offset + x->length <= offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static gboolean for_runs(StageFile *f, StageWorker *w, guint64 chunk, each_run each, gpointer user,
                         GError **error)
{
        guint64 start = chunk * CHUNK_SIZE, end = start + chunk_length(f, chunk);
        if (f->e->blob == 0)
                return TRUE;
        if (f->e->n_extents == 0)
                return each(f, w, start, start, (gsize)(end - start), user, error);
        for (size_t i = first_extent(f, start); i < f->e->n_extents && f->e->extents[i]->offset < end; i++) {
                const Moult__Extent *x = f->e->extents[i];
                guint64 from = MAX(start, x->offset), to = MIN(end, x->offset + x->length);
                guint64 blob = f->extent_blob[i] + (from - x->offset);
                if (!each(f, w, from, blob, (gsize)(to - from), user, error))
                        return FALSE;
        }
        return TRUE;
}

struct gathering {
        GCancellable *cancellable;
        guint64 have; /* blob chunk in w->gather plus 1; 0: none */
        gsize have_len;
        gboolean any;
};

/* Sparse files: a run's bytes lie in one or two chunks of the blob. */
static gboolean gather_run(StageFile *f, StageWorker *w, guint64 file_offset, guint64 blob_offset, gsize len,
                           gpointer user, GError **error)
{
        struct gathering *g = user;
        guint8 *to = w->chunk + file_offset % CHUNK_SIZE;
        g->any = TRUE;
        while (len > 0) {
                guint64 chunk = blob_offset / CHUNK_SIZE;
                gsize at = (gsize)(blob_offset % CHUNK_SIZE);
                if (g->have != chunk + 1) {
                        if (!pack_reader_read_chunk(f->pack, f->e->blob - 1, chunk, w->scratch, w->gather,
                                                    &g->have_len, g->cancellable, error))
                                return FALSE;
                        g->have = chunk + 1;
                }
                if (at >= g->have_len) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the data of /%s end too early",
                                    f->pe->path);
                        return FALSE;
                }
                gsize n = MIN(len, g->have_len - at);
                memcpy(to, w->gather + at, n);
                to += n;
                blob_offset += n;
                len -= n;
        }
        return TRUE;
}

/* What was read while the pack came from @rung is wrong. TRUE if it comes from elsewhere now: once more,
 * then. */
static gboolean worth_again(StageFile *f, StageWorker *w, unsigned rung)
{
        gboolean elsewhere = w->ahead_rung != rung;
        blob_buffer_forget(w->scratch);
        return pack_source_distrust(pack_reader_source(f->pack), rung) || elsewhere;
}

/* Fills w->chunk from the pack; *ret_hole: it is all hole. */
static gboolean chunk_read(StageFile *f, StageWorker *w, guint64 chunk, gboolean *ret_hole, GCancellable *c,
                           GError **error)
{
        gsize want = chunk_length(f, chunk), got;
        *ret_hole = FALSE;
        if (f->e->blob != 0 && f->e->n_extents == 0) {
                if (!pack_reader_read_chunk(f->pack, f->e->blob - 1, chunk, w->scratch, w->chunk, &got, c,
                                            error))
                        return FALSE;
                if (got == want)
                        return TRUE;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the data of /%s are not as long as listed", f->pe->path);
                return FALSE;
        }
        struct gathering g = {.cancellable = c};
        memset(w->chunk, 0, want);
        if (!for_runs(f, w, chunk, gather_run, &g, error))
                return FALSE;
        *ret_hole = !g.any;
        return TRUE;
}

/* The same, and a second time if the first was no chunk at all. */
static gboolean chunk_from_pack(StageFile *f, StageWorker *w, guint64 chunk, gboolean *ret_hole,
                                GCancellable *c, GError **error)
{
        unsigned rung = pack_source_rung(pack_reader_source(f->pack));
        g_autoptr(GError) why = NULL;
        if (chunk_read(f, w, chunk, ret_hole, c, &why))
                return TRUE;
        if (!g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CORRUPT) || !worth_again(f, w, rung)) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        return chunk_read(f, w, chunk, ret_hole, c, error);
}

/* True if all of the chunk is data in @fd, so that it may be worth reading. */
static gboolean chunk_is_there(int fd, guint64 start, gsize len)
{
        off_t data = lseek(fd, (off_t)start, SEEK_DATA);
        if (data != (off_t)start)
                return FALSE;
        off_t hole = lseek(fd, (off_t)start, SEEK_HOLE);
        return hole < 0 || hole >= (off_t)(start + len);
}

static gboolean write_run(StageFile *f, StageWorker *w, guint64 file_offset, guint64 blob_offset, gsize len,
                          gpointer user, GError **error)
{
        int fake = fault_point("stage-write");
        if (fake != 0)
                return moult_error_errno(error, fake, "writing the new /%s", f->pe->path);
        return fd_pwrite_all(f->fd, w->chunk + file_offset % CHUNK_SIZE, len, (off_t)file_offset, f->pe->path,
                             error);
}

static gboolean chunk_do(StageFile *f, StageWorker *w, guint64 chunk, enum origin origin, GCancellable *c,
                         GError **error)
{
        guint64 start = chunk * CHUNK_SIZE;
        gsize len = chunk_length(f, chunk);
        gboolean hole = FALSE, write = TRUE;

        if (origin == FROM_LIVE && fd_pread_all(f->live_fd, w->chunk, len, (off_t)start, f->pe->path, NULL)) {
                /* read */
        } else if (origin == FROM_STAGED && f->e->n_extents == 0 && chunk_is_there(f->fd, start, len) &&
                   fd_pread_all(f->fd, w->chunk, len, (off_t)start, f->pe->path, NULL)) {
                write = FALSE;
        } else if (!chunk_from_pack(f, w, chunk, &hole, c, error)) {
                return FALSE;
        }
        if (f->tree != NULL) {
                if (hole)
                        verity_tree_add_zero_chunk(f->tree, w->hasher, chunk);
                else
                        verity_tree_add_chunk(f->tree, w->hasher, chunk, w->chunk, len);
        }
        return !write || hole || len == 0 || for_runs(f, w, chunk, write_run, NULL, error);
}

static gboolean digest_fits(StageFile *f, StageWorker *w)
{
        guint8 digest[DIGEST_SIZE];
        if (f->tree != NULL)
                verity_tree_digest(f->tree, w->hasher, digest);
        else
                verity_digest_buffer(w->hasher, w->chunk, (size_t)f->e->size, digest);
        return memcmp(digest, f->e->digest.data, DIGEST_SIZE) == 0;
}

/* The guess was wrong: once more, from the pack alone, into a new file. */
static gboolean file_again(StageFile *f, StageWorker *w, GCancellable *c, GError **error)
{
        g_autofree char *name = plan_staged_path(f->plan, f->entry);
        int area_fd = stage_directory(f->options, f->pe);
        close(f->fd);
        f->fd = -1;
        verity_tree_free(g_steal_pointer(&f->tree));
        if (!remove_tree(area_fd, name, error))
                return FALSE;
        f->pe->copy_live = f->pe->seeded = FALSE;
        if (!file_create(f, name, /* resume= */ FALSE, error))
                return FALSE;
        for (guint64 i = 0; i < f->n_chunks; i++)
                if (!chunk_do(f, w, i, FROM_PACK, c, error))
                        return FALSE;
        return TRUE;
}

/* A label that the release does not list: what the policy gave the old file, or its directory, stays. */
static gboolean file_label(StageFile *f, const struct metadata_object *o, const Metadata *want,
                           GError **error)
{
        const struct plan_entry *at = f->pe;
        if (f->pe->seen != NULL) /* the target's metadata: with the label, if there is to be one */
                return TRUE;
        /* Below a new directory the file is made in that, and has its label. But what is merged is staged by
         * itself. */
        if (at->directory < 0 && at->how == HOW_MERGE)
                at = &f->plan->entries[at->carrier];
        if (metadata_has_label(want) || at->directory < 0)
                return TRUE;
        const char *dir = plan_directory(f->plan, at->directory)->path;
        const char *slash = strrchr(f->pe->path, '/');
        scoped_fd int fd =
                fs_beneath_open(f->options->root_fd, *dir != '\0' ? dir : ".", O_PATH | O_DIRECTORY, 0, NULL);
        if (fd < 0)
                return TRUE;
        struct metadata_object from = {
                fd, at == f->pe && at->old_inode != 0 ? (slash != NULL ? slash + 1 : f->pe->path) : ".", -1};
        return metadata_copy_label(&from, o, error);
}

static gboolean file_finish(StageFile *f, StageWorker *w, GCancellable *c, GError **error)
{
        gboolean fits = digest_fits(f, w);
        if (!fits && f->pe->seeded)
                stage_deltas_undo(f->options->deltas, f->pe->path,
                                  f->plan->manifest->blobs[f->e->blob - 1]->stored_size);
        if (!fits && f->origin != FROM_PACK) {
                if (!file_again(f, w, c, error))
                        return FALSE;
                fits = digest_fits(f, w);
        }
        if (!fits && worth_again(f, w, f->rung)) {
                if (!file_again(f, w, c, error))
                        return FALSE;
                fits = digest_fits(f, w);
        }
        if (!fits) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the content of /%s does not match its digest in the signed list: the pack or "
                            "the way it came (%s) is damaged",
                            f->pe->path, pack_source_name(pack_reader_source(f->pack)));
                return FALSE;
        }
        struct metadata_object o = {-1, f->pe->path, f->fd};
        g_autoptr(Metadata) want = metadata_from_entry(f->pe->seen != NULL ? f->pe->seen : f->e);
        gboolean fresh = f->origin != FROM_STAGED;
        if (!file_label(f, &o, want, error) || !metadata_apply(&o, S_IFREG, want, fresh, error) ||
            !metadata_verify(&o, S_IFREG, want, error))
                return FALSE;
        struct object_facts made;
        if (!classify_look(f->fd, "", &made, error))
                return FALSE;
        f->pe->new_inode = made.inode;
        f->pe->new_birth_ns = made.birth_ns;
        if (f->options->gentle && !fault_skip("sync-staged") && fsync(f->fd) < 0)
                return moult_error_errno(error, errno, "syncing the new /%s", f->pe->path);
        int fake = fault_point("stage-file");
        if (fake != 0)
                return moult_error_errno(error, fake, "finishing the new /%s", f->pe->path);
        close(g_steal_fd(&f->fd));
        return TRUE;
}

gboolean stage_file_chunks_do(StageFile *f, StageWorker *w, guint64 first, guint64 count, GCancellable *c,
                              GError **error)
{
        if (!file_open(f, error))
                return FALSE;
        for (guint64 i = first; i < first + count; i++)
                if (!chunk_do(f, w, i, f->origin, c, error))
                        return FALSE;
        if (count >= WRITEBACK_BYTES / CHUNK_SIZE) /* a hint: it does not matter if it fails */
                (void)sync_file_range(f->fd, (off_t)(first * CHUNK_SIZE), (off_t)(count * CHUNK_SIZE),
                                      SYNC_FILE_RANGE_WRITE);
        if (g_atomic_int_add(&f->chunks_left, -(gint)count) != (gint)count)
                return TRUE;
        return file_finish(f, w, c, error);
}
