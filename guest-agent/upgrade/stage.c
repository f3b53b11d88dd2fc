/* guest-agent/upgrade/stage.c - makes every new object complete, next to where it will live. */
#include "guest-agent/upgrade/stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/remove_tree.h"
#include "guest-agent/upgrade/pace.h"
#include "guest-agent/upgrade/stage_delta.h"
#include "guest-agent/upgrade/stage_file.h"
#include "guest-agent/upgrade/staging_area.h"
#include "proto/channel.pb-c.h"
#include "shm/entry_metadata.h"

#define UNIT_CHUNKS    8u     /* of a large file */
#define UNIT_FILES     128u   /* small ones in one unit */
#define UNIT_GAP_BYTES 65536u /* between neighbours that one read may pass over */
#define UNIT_GAP_SESSION                                                                                     \
        8192u /* the same where each byte is sent: little more than what blobs are aligned to */
#define WORKERS_MAX        16u
#define IOPRIO_IDLE        (3 << 13)
#define IOPRIO_WHO_PROCESS 1
#define WORKER_NICE        10

struct unit {
        guint first, count;            /* jobs */
        guint64 first_chunk, n_chunks; /* of the one job, if it is large */
        guint64 span_offset, span_len; /* in the pack; for the batch */
};

struct job {
        guint32 entry;
        guint64 offset;  /* of its blob in the pack */
        gboolean here;   /* something was staged for it before: the pack is asked only if that is wrong */
        StageFile *file; /* large files: shared by units; made up front */
};

struct staging {
        Plan *plan;
        PackReader *pack;
        const struct stage_options *options;
        GCancellable *cancellable;
        GArray *jobs, *units;
        guint64 gap_bytes;
        gint next_unit; /* atomic */
        gint stop;      /* atomic: somebody failed */
        GMutex lock;    /* protects error, and told_bytes of the plan's entries */
        GError *error;
};

static int job_compare(gconstpointer a, gconstpointer b)
{
        const struct job *x = a, *y = b;
        if (x->offset != y->offset)
                return x->offset < y->offset ? -1 : 1;
        return x->entry < y->entry ? -1 : 1;
}

static void job_clear(gpointer p)
{
        stage_file_free(((struct job *)p)->file);
}

/* By a delta, or by a run that was interrupted. */
static gboolean is_here(const struct staging *s, guint32 i)
{
        const struct plan_entry *pe = &s->plan->entries[i];
        g_autofree char *name = plan_staged_path(s->plan, i);
        struct stat st;
        if (s->plan->manifest->entries[i]->n_extents > 0) /* staging takes nothing of that */
                return FALSE;
        return pe->seeded ||
               (fstatat(stage_directory(s->options, pe), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                S_ISREG(st.st_mode) && (guint64)st.st_size == s->plan->manifest->entries[i]->size);
}

static void collect_jobs(struct staging *s)
{
        const Plan *p = s->plan;
        s->jobs = g_array_new(FALSE, TRUE, sizeof(struct job));
        g_array_set_clear_func(s->jobs, job_clear);
        for (guint32 i = 0; i < p->n_entries; i++) {
                const Moult__Entry *e = p->manifest->entries[i];
                if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE || !p->entries[i].selected ||
                    !plan_is_staged(&p->entries[i]) ||
                    p->entries[i].deferred != (s->options->what == STAGE_DEFERRED))
                        continue;
                struct job j = {.entry = i,
                                .here = is_here(s, i),
                                .offset = e->blob > 0 ? p->manifest->blobs[e->blob - 1]->offset : 0};
                g_array_append_val(s->jobs, j);
        }
        g_array_sort(s->jobs, job_compare);
}

static void units_of_large(struct staging *s, guint index)
{
        struct job *j = &g_array_index(s->jobs, struct job, index);
        j->file = stage_file_new(s->plan, j->entry, s->pack, s->options);
        guint64 n = stage_file_chunks(j->file);
        for (guint64 at = 0; at < n; at += UNIT_CHUNKS) {
                struct unit u = {
                        .first = index, .count = 1, .first_chunk = at, .n_chunks = MIN(UNIT_CHUNKS, n - at)};
                g_array_append_val(s->units, u);
        }
}

static void collect_units(struct staging *s)
{
        const Manifest *m = s->plan->manifest;
        struct unit batch = {0};
        s->units = g_array_new(FALSE, TRUE, sizeof(struct unit));
        for (guint i = 0; i < s->jobs->len; i++) {
                const struct job *j = &g_array_index(s->jobs, struct job, i);
                const Moult__Entry *e = m->entries[j->entry];
                if (e->size > CHUNK_SIZE) {
                        if (batch.count > 0)
                                g_array_append_val(s->units, batch);
                        batch = (struct unit){0};
                        units_of_large(s, i);
                        continue;
                }
                guint64 stored = e->blob > 0 && !j->here ? m->blobs[e->blob - 1]->stored_size : 0;
                guint64 span_end = batch.span_offset + batch.span_len;
                if (batch.count > 0 &&
                    (batch.count == UNIT_FILES ||
                     (batch.span_len > 0 && stored > 0 && j->offset > span_end + s->gap_bytes) ||
                     (batch.span_len > 0 && stored > 0 &&
                      j->offset + stored > batch.span_offset + CHUNK_SIZE))) {
                        g_array_append_val(s->units, batch);
                        batch = (struct unit){0};
                }
                if (batch.count++ == 0)
                        batch.first = i;
                if (stored > 0 && batch.span_len == 0)
                        batch.span_offset = j->offset;
                if (stored > 0)
                        batch.span_len = MAX(batch.span_len, j->offset + stored - batch.span_offset);
        }
        if (batch.count > 0)
                g_array_append_val(s->units, batch);
}

/* One read for the whole batch pays where a read is a round trip; a local file needs none. */
static gboolean wants_prefetch(PackReader *pack)
{
        return pack_reader_source(pack)->ops->kind != MOULT__SOURCE_KIND__SOURCE_FILE;
}

/* What a delta gave was told when it came. */
static void tell_progress(struct staging *s, guint32 entry, guint64 bytes)
{
        struct plan_entry *pe = &s->plan->entries[entry];
        if (s->options->progress == NULL)
                return;
        g_mutex_lock(&s->lock);
        guint64 told = MIN(pe->told_bytes, bytes);
        pe->told_bytes -= told;
        g_mutex_unlock(&s->lock);
        s->options->progress(bytes - told, s->options->user);
}

static gboolean batch_do(struct staging *s, const struct unit *u, StageWorker *w, GError **error)
{
        if (u->count > 1 && u->span_len > 0 && wants_prefetch(s->pack) &&
            !stage_worker_prefetch(w, s->pack, u->span_offset, (gsize)u->span_len, s->cancellable, error))
                return FALSE;
        for (guint i = u->first; i < u->first + u->count; i++) {
                const struct job *j = &g_array_index(s->jobs, struct job, i);
                if (g_atomic_int_get(&s->stop) || g_cancellable_set_error_if_cancelled(s->cancellable, error))
                        return FALSE;
                StageFile *f = stage_file_new(s->plan, j->entry, s->pack, s->options);
                gboolean ok = stage_file_chunks_do(f, w, 0, 1, s->cancellable, error);
                stage_file_free(f);
                if (!ok)
                        return FALSE;
                tell_progress(s, j->entry, s->plan->manifest->entries[j->entry]->size);
        }
        return TRUE;
}

static guint64 data_of_unit(const struct staging *s, const struct job *j, const struct unit *u)
{
        guint64 size = s->plan->manifest->entries[j->entry]->size, start = u->first_chunk * CHUNK_SIZE;
        return MIN(size - start, u->n_chunks * CHUNK_SIZE);
}

static gboolean unit_do(struct staging *s, const struct unit *u, StageWorker *w, GError **error)
{
        if (s->options->gentle)
                pace_wait(s->cancellable);
        if (g_cancellable_set_error_if_cancelled(s->cancellable, error))
                return FALSE;
        if (u->n_chunks == 0)
                return batch_do(s, u, w, error);
        const struct job *j = &g_array_index(s->jobs, struct job, u->first);
        if (!stage_file_chunks_do(j->file, w, u->first_chunk, u->n_chunks, s->cancellable, error))
                return FALSE;
        tell_progress(s, j->entry, data_of_unit(s, j, u));
        return TRUE;
}

static gpointer worker(gpointer p)
{
        struct staging *s = p;
        g_autoptr(StageWorker) w = stage_worker_new();
        while (!g_atomic_int_get(&s->stop)) {
                g_autoptr(GError) error = NULL;
                guint i = (guint)g_atomic_int_add(&s->next_unit, 1);
                if (i >= s->units->len)
                        break;
                if (unit_do(s, &g_array_index(s->units, struct unit, i), w, &error))
                        continue;
                g_atomic_int_set(&s->stop, 1);
                g_mutex_lock(&s->lock);
                if (s->error == NULL)
                        s->error = g_steal_pointer(&error);
                g_mutex_unlock(&s->lock);
        }
        return NULL;
}

static void be_polite(const struct staging *s)
{
        if (!s->options->idle_io)
                return;
        (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), WORKER_NICE);
}

/* The guest's own work comes first. A thread of its own, because priorities are a thread's for life. */
static gpointer polite_worker(gpointer p)
{
        be_polite(p);
        return worker(p);
}

/* A thread of its own for the same reason. */
static gpointer delta_worker(gpointer p)
{
        struct staging *s = p;
        be_polite(s);
        stage_deltas_run(s->plan, s->pack, s->options, s->cancellable);
        return NULL;
}

static gboolean stage_files(struct staging *s, GError **error)
{
        if (s->options->what == STAGE_NOW)
                g_thread_join(g_thread_new("moult-delta", delta_worker, s));
        collect_jobs(s);
        collect_units(s);

        GThread *threads[WORKERS_MAX];
        guint n = MIN(MIN(MAX(s->options->workers, 1u), WORKERS_MAX), s->units->len);
        for (guint i = 0; i < n; i++)
                threads[i] = g_thread_new("moult-stage", polite_worker, s);
        for (guint i = 0; i < n; i++)
                g_thread_join(threads[i]);
        if (s->error != NULL) {
                g_propagate_error(error, g_steal_pointer(&s->error));
                return FALSE;
        }
        return TRUE;
}

/* --- everything that is not a file's content --- */

static int make_object(int area_fd, const char *name, const Moult__Entry *e)
{
        g_autofree char *target = NULL;
        switch (e->type) {
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                target = g_strndup((const char *)e->link_target.data, e->link_target.len);
                return symlinkat(target, area_fd, name);
        case MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE:
                return mknodat(area_fd, name, S_IFCHR | 0600, makedev(e->dev_major, e->dev_minor));
        case MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE:
                return mknodat(area_fd, name, S_IFBLK | 0600, makedev(e->dev_major, e->dev_minor));
        case MOULT__ENTRY_TYPE__ENTRY_FIFO:
                return mkfifoat(area_fd, name, 0600);
        default:
                errno = EINVAL;
                return -1;
        }
}

static mode_t type_bits(Moult__EntryType type)
{
        switch (type) {
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return S_IFLNK;
        case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                return S_IFDIR;
        default:
                return S_IFIFO; /* anything that has a mode of its own */
        }
}

/* Objects with a place of their own in the live tree get the label of the directory there, not of the staging
 * area. */
static gboolean label_like_parent(struct staging *s, const struct plan_entry *pe, int area_fd,
                                  const char *name, GError **error)
{
        if (pe->directory < 0)
                return TRUE;
        const char *dir = plan_directory(s->plan, pe->directory)->path;
        scoped_fd int fd =
                fs_beneath_open(s->options->root_fd, *dir != '\0' ? dir : ".", O_PATH | O_DIRECTORY, 0, NULL);
        struct metadata_object from = {fd, ".", -1}, to = {area_fd, name, -1};
        return fd < 0 || metadata_copy_label(&from, &to, error);
}

static gboolean finish_object(struct staging *s, guint32 i, const char *name, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[i];
        const Moult__Entry *e = s->plan->manifest->entries[i];
        int area_fd = stage_directory(s->options, pe);
        struct metadata_object o = {area_fd, name, -1};
        g_autoptr(Metadata) want = metadata_from_entry(e);
        if (!metadata_has_label(want) && !label_like_parent(s, pe, area_fd, name, error))
                return FALSE;
        mode_t type = type_bits(e->type);
        if (!metadata_apply(&o, type, want, TRUE, error) || !metadata_verify(&o, type, want, error)) {
                g_prefix_error(error, "the new /%s: ", pe->path);
                return FALSE;
        }
        struct object_facts made;
        if (!classify_look(area_fd, name, &made, error))
                return FALSE;
        pe->new_inode = made.inode;
        pe->new_birth_ns = made.birth_ns;
        return TRUE;
}

static gboolean stage_object(struct staging *s, guint32 i, GError **error)
{
        const struct plan_entry *pe = &s->plan->entries[i];
        int area_fd = stage_directory(s->options, pe);
        g_autofree char *name = plan_staged_path(s->plan, i);
        int fake = fault_point("stage-object");
        if (!remove_tree(area_fd, name, error)) /* of an interrupted run */
                return FALSE;
        if (fake != 0 || make_object(area_fd, name, s->plan->manifest->entries[i]) < 0)
                return moult_error_errno(error, fake != 0 ? fake : errno, "making the new /%s", pe->path);
        return finish_object(s, i, name, error);
}

/* The file that is to get another name is still the one that the plan compared. */
static gboolean is_compared(const struct plan_entry *target, const struct object_facts *o)
{
        return o->exists && o->inode == target->old_inode && o->birth_ns == target->old_birth_ns &&
               o->size == target->old_size && o->ctime.tv_sec == target->old_ctime.tv_sec &&
               o->ctime.tv_nsec == target->old_ctime.tv_nsec;
}

/* A name for a live file that stays. It changes the file's change time, which the plan learns from the same
 * look that tells whether the right file was taken. */
static gboolean link_to_live(struct staging *s, guint32 i, int area_fd, const char *name, GError **error)
{
        struct plan_entry *target = &s->plan->entries[s->plan->entries[i].link_of];
        const char *slash = strrchr(target->path, '/');
        const char *live = slash != NULL ? slash + 1 : target->path;
        const char *dir = plan_directory(s->plan, target->directory)->path;
        struct object_facts before, taken;
        scoped_fd int fd = fs_beneath_open(s->options->root_fd, *dir != '\0' ? dir : ".",
                                           O_PATH | O_DIRECTORY, 0, error);
        if (fd < 0 || !classify_look(fd, live, &before, error))
                return FALSE;
        gboolean same = is_compared(target, &before);
        /* Of an interrupted run: only now, since a name that goes changes the file's time, too. */
        if (!remove_tree(area_fd, name, error))
                return FALSE;
        if (same && linkat(fd, live, area_fd, name, 0) < 0)
                return moult_error_errno(error, errno, "linking to the live /%s", target->path);
        if (same && !classify_look(area_fd, name, &taken, error))
                return FALSE;
        if (same && taken.inode == before.inode && taken.birth_ns == before.birth_ns &&
            taken.size == before.size && taken.mtime.tv_sec == before.mtime.tv_sec &&
            taken.mtime.tv_nsec == before.mtime.tv_nsec) {
                target->old_ctime = taken.ctime;
                return TRUE;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_DRIFT, "/%s was changed by somebody else: try again",
                    target->path);
        return FALSE;
}

static gboolean stage_link(struct staging *s, guint32 i, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[i];
        int area_fd = stage_directory(s->options, pe);
        g_autofree char *name = plan_staged_path(s->plan, i);
        int fake = fault_point("stage-link");

        if (fake != 0)
                return moult_error_errno(error, fake, "linking the new /%s", pe->path);
        if (pe->link_live) {
                if (!link_to_live(s, i, area_fd, name, error)) {
                        g_prefix_error(error, "the new /%s: ", pe->path);
                        return FALSE;
                }
        } else {
                g_autofree char *from = plan_staged_path(s->plan, (guint)pe->link_of);
                if (!remove_tree(area_fd, name, error))
                        return FALSE;
                if (linkat(area_fd, from, area_fd, name, 0) < 0)
                        return moult_error_errno(error, errno, "linking the new /%s", pe->path);
        }
        struct object_facts made;
        if (!classify_look(area_fd, name, &made, error))
                return FALSE;
        pe->new_inode = made.inode;
        pe->new_birth_ns = made.birth_ns;
        return TRUE;
}

static gboolean make_directories(struct staging *s, GError **error)
{
        for (guint32 i = 0; i < s->plan->n_entries; i++) {
                const struct plan_entry *pe = &s->plan->entries[i];
                if (s->plan->manifest->entries[i]->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY ||
                    !pe->selected || !plan_is_staged(pe))
                        continue;
                int area_fd = stage_directory(s->options, pe);
                g_autofree char *name = plan_staged_path(s->plan, i);
                int fake = fault_point("stage-directory");
                if (fake == 0 && mkdirat(area_fd, name, 0700) == 0) {
                        /* At once: what is made in it inherits the label. */
                        if (!label_like_parent(s, pe, area_fd, name, error))
                                return FALSE;
                        continue;
                }
                int saved = fake != 0 ? fake : errno;
                if (saved != EEXIST)
                        return moult_error_errno(error, saved, "making the new directory /%s", pe->path);
                /* Of an interrupted run, perhaps finished: what is made in it must not inherit anything. */
                scoped_fd int fd = openat(area_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening the staged directory of /%s",
                                                 pe->path);
                if (!staging_make_private(fd, name, error))
                        return FALSE;
        }
        return TRUE;
}

/* Children before parents: what is made in a directory changes its time. */
static gboolean finish_directories(struct staging *s, GError **error)
{
        for (guint32 i = s->plan->n_entries; i > 0; i--) {
                const struct plan_entry *pe = &s->plan->entries[i - 1];
                if (s->plan->manifest->entries[i - 1]->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY ||
                    !pe->selected || !plan_is_staged(pe))
                        continue;
                g_autofree char *name = plan_staged_path(s->plan, i - 1);
                if (!finish_object(s, i - 1, name, error))
                        return FALSE;
                if (!s->options->gentle || fault_skip("sync-staged"))
                        continue;
                scoped_fd int fd = openat(stage_directory(s->options, pe), name,
                                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || fsync(fd) < 0)
                        return moult_error_errno(error, errno, "syncing the new directory /%s", pe->path);
        }
        return TRUE;
}

static gboolean stage_others(struct staging *s, GError **error)
{
        for (guint32 i = 0; i < s->plan->n_entries; i++) {
                const struct plan_entry *pe = &s->plan->entries[i];
                if (!pe->selected || !plan_is_staged(pe))
                        continue;
                switch (s->plan->manifest->entries[i]->type) {
                case MOULT__ENTRY_TYPE__ENTRY_FILE:
                case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                        break;
                case MOULT__ENTRY_TYPE__ENTRY_HARDLINK:
                        if (!stage_link(s, i, error))
                                return FALSE;
                        break;
                default:
                        if (!stage_object(s, i, error))
                                return FALSE;
                }
        }
        return TRUE;
}

/* --- leftovers of an interrupted run that the plan does not know any more --- */

/* @area: -1: what is merged. */
static void expected_names(const struct staging *s, gint32 area, GHashTable *names)
{
        for (guint32 i = 0; i < s->plan->n_entries; i++) {
                const struct plan_entry *pe = &s->plan->entries[i];
                gint32 place = pe->how == HOW_MERGE ? -1 : pe->area;
                if (pe->selected && place == area && plan_is_staged(pe))
                        g_hash_table_add(names, plan_staged_path(s->plan, i));
        }
}

static gboolean sweep_directory(int fd, const char *prefix, GHashTable *names, GError **error)
{
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        if (dir == NULL)
                return moult_error_errno(error, errno, "listing the staging directory");
        gboolean ok = TRUE;
        struct dirent *de;
        while (ok && (de = readdir(dir)) != NULL) {
                if (g_str_equal(de->d_name, ".") || g_str_equal(de->d_name, ".."))
                        continue;
                g_autofree char *name = g_strconcat(prefix, de->d_name, NULL);
                if (!g_hash_table_contains(names, name)) {
                        ok = remove_tree(fd, de->d_name, error);
                        continue;
                }
                scoped_fd int sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (sub >= 0) {
                        g_autofree char *below = g_strconcat(name, "/", NULL);
                        ok = sweep_directory(sub, below, names, error);
                }
        }
        closedir(dir);
        return ok;
}

static gboolean sweep(struct staging *s, GError **error)
{
        for (gint32 a = -1; a < (gint32)s->plan->areas->len; a++) {
                int fd = a < 0 ? s->options->incoming_fd : s->options->area_fds[a];
                if (fd < 0)
                        continue;
                g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
                expected_names(s, a, names);
                if (!sweep_directory(fd, "", names, error))
                        return FALSE;
        }
        return TRUE;
}

gboolean stage_run(Plan *p, PackReader *pack, const struct stage_options *options, GCancellable *cancellable,
                   GError **error)
{
        struct staging s = {.plan = p, .pack = pack, .options = options, .cancellable = cancellable};
        g_mutex_init(&s.lock);
        s.gap_bytes = stage_deltas_pay(pack) ? UNIT_GAP_SESSION : UNIT_GAP_BYTES;
        /* What is deferred are files, each by itself. */
        gboolean only_files = options->what == STAGE_DEFERRED;
        gboolean ok = (only_files || (sweep(&s, error) && make_directories(&s, error))) &&
                      stage_files(&s, error) &&
                      (only_files || (stage_others(&s, error) && finish_directories(&s, error)));
        g_clear_pointer(&s.jobs, g_array_unref);
        g_clear_pointer(&s.units, g_array_unref);
        g_mutex_clear(&s.lock);
        return ok;
}
