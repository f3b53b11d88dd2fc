/* guest-agent/stale_scan.c - one look at all processes. */
#include "guest-agent/stale_scan.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest-agent/stale_files.h"
#include "guest-agent/stale_init.h"
#include "guest-agent/stale_mounts.h"
#include "guest-agent/stale_parse.h"
#include "guest-agent/stale_process.h"
#include "proto/limits.h"

/* From a worker to the daemon that has the pid file. */
#define ANCESTORS_MAX 16

struct job {
        char *root;
        Manifest *manifest;
        int state_fd;

        GMutex lock; /* of all below; a leaf */
        GCond moved;
        StaleScan *scan; /* NULL: nobody waits for it any more */
        gint64 at;       /* the process that is looked at */
        gboolean done;
};

/* The thread's own. */
struct scanning {
        struct job *job;
        struct stale_view view;
        StaleInit *init;
        GHashTable *namespaces; /* guint64* inode -> struct stale_lagging*: one without mounts has followed */
};

static void found_free(gpointer p)
{
        struct stale_found *f = p;

        g_free(f->command);
        g_free(f->unit);
        g_ptr_array_unref(f->files);
        g_free(f);
}

static void lagging_free(gpointer p)
{
        struct stale_lagging *l = p;

        g_free(l->command);
        g_free(l->unit);
        g_ptr_array_unref(l->mounts);
        g_free(l);
}

static StaleScan *scan_new(void)
{
        StaleScan *s = g_new0(StaleScan, 1);

        s->processes = g_ptr_array_new_with_free_func(found_free);
        s->namespaces = g_ptr_array_new_with_free_func(lagging_free);
        s->units = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        return s;
}

void stale_scan_free(StaleScan *s)
{
        if (!s)
                return;
        g_ptr_array_unref(s->processes);
        g_ptr_array_unref(s->namespaces);
        g_hash_table_unref(s->units);
        g_free(s);
}

static void job_clear(gpointer data)
{
        struct job *j = data;

        g_free(j->root);
        g_clear_pointer(&j->manifest, manifest_free);
        if (j->state_fd >= 0)
                close(j->state_fd);
        g_mutex_clear(&j->lock);
        g_cond_clear(&j->moved);
        stale_scan_free(j->scan);
}

static void job_unref(struct job *j)
{
        g_atomic_rc_box_release_full(j, job_clear);
}

/* ---- where a process belongs ---- */

static char *script_of(const struct scanning *s, const StaleProcess *p)
{
        gint64 pid = p->pid, parent = p->parent;

        for (int i = 0; s->init && pid > 1 && i < ANCESTORS_MAX; i++) {
                const char *script = stale_init_find(s->init, pid);
                StaleLook look;
                g_autoptr(StaleProcess) above = script ? NULL : stale_process_open(parent, &look);

                if (script)
                        return g_strdup(script);
                pid = above ? above->pid : 0;
                parent = above ? above->parent : 0;
        }
        return NULL;
}

static char *unit_of(const struct scanning *s, const StaleProcess *p)
{
        char *unit = stale_process_unit(p);

        return unit ? unit : script_of(s, p);
}

static void note_unit(StaleScan *scan, const char *unit)
{
        if (unit)
                g_hash_table_add(scan->units, g_strdup(unit));
}

/* ---- mount namespaces ---- */

static struct stale_lagging *lagging_new(const struct scanning *s, const StaleProcess *p)
{
        g_autoptr(MountTable) theirs =
                stale_process_sees_our_tree(p, &s->view) ? stale_process_mounts(p) : NULL;
        struct stale_lagging *l = g_new0(struct stale_lagging, 1);

        l->inode = p->mount_namespace;
        l->pid = p->pid;
        l->mounts = theirs ? stale_mounts_differ(s->view.mounts, theirs, s->job->root)
                           : g_ptr_array_new_with_free_func(g_free);
        if (l->mounts->len > 0) {
                l->command = stale_process_command(p);
                l->unit = unit_of(s, p);
        }
        return l;
}

/* The namespace of @p, if it is behind; counts @p in. */
static struct stale_lagging *lagging_of(struct scanning *s, const StaleProcess *p)
{
        struct stale_lagging *l;

        if (p->mount_namespace == s->view.mount_namespace)
                return NULL;
        l = g_hash_table_lookup(s->namespaces, &p->mount_namespace);
        if (!l) {
                l = lagging_new(s, p);
                g_hash_table_insert(s->namespaces, &l->inode, l);
        }
        l->processes++;
        return l->mounts->len > 0 ? l : NULL;
}

/* ---- processes ---- */

static gint by_text(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct stale_found *found_new(const struct scanning *s, const StaleProcess *p)
{
        struct stale_found *f = g_new0(struct stale_found, 1);
        GHashTableIter iter;
        gpointer name;

        f->pid = p->pid;
        f->command = stale_process_command(p);
        f->unit = unit_of(s, p);
        f->files_total = g_hash_table_size(p->files);
        f->files = g_ptr_array_new_with_free_func(g_free);
        g_hash_table_iter_init(&iter, p->files);
        while (g_hash_table_iter_next(&iter, &name, NULL))
                g_ptr_array_add(f->files, g_strdup(name));
        g_ptr_array_sort(f->files, by_text);
        g_ptr_array_set_size(f->files, (gint)MIN(f->files->len, LIMIT_STALE_FILES));
        return f;
}

/* FALSE: nobody waits any more. Takes over @f. */
static gboolean publish(struct scanning *s, gint64 pid, StaleLook look, struct stale_found *f,
                        const struct stale_lagging *l)
{
        StaleScan *scan;
        gboolean wanted;

        g_mutex_lock(&s->job->lock);
        scan = s->job->scan;
        wanted = scan != NULL;
        if (wanted) {
                scan->looked_at++;
                scan->denied += look == STALE_LOOK_DENIED;
                if (look == STALE_LOOK_DENIED && scan->denied == 1)
                        scan->denied_first = pid;
                scan->processes_total += f != NULL;
                note_unit(scan, f ? f->unit : l ? l->unit : NULL);
                if (f && scan->processes->len < LIMIT_STALE_PROCESSES)
                        g_ptr_array_add(scan->processes, g_steal_pointer(&f));
        }
        g_mutex_unlock(&s->job->lock);
        if (f)
                found_free(f);
        return wanted;
}

static gboolean look_at(struct scanning *s, gint64 pid)
{
        struct stale_lagging *lagging = NULL;
        struct stale_found *f = NULL;
        StaleLook look;

        g_mutex_lock(&s->job->lock);
        s->job->at = pid;
        g_mutex_unlock(&s->job->lock);
        g_autoptr(StaleProcess) p = stale_process_open(pid, &look);
        if (p) {
                lagging = lagging_of(s, p);
                look = stale_process_look(p, &s->view, lagging != NULL);
                if (g_hash_table_size(p->files) > 0)
                        f = found_new(s, p);
        }
        if (f && !f->command) /* it ended while we were looking: it runs no code at all */
                g_clear_pointer(&f, found_free);
        return publish(s, pid, look, f, lagging);
}

static void look_at_all(struct scanning *s)
{
        DIR *dir = opendir("/proc");
        struct dirent *de;

        while (dir && (de = readdir(dir))) {
                gint64 pid = stale_pid_file_parse(de->d_name);

                if (pid > 0 && pid != getpid() && !look_at(s, pid))
                        break;
        }
        if (dir)
                closedir(dir);
}

/* ---- the thread ---- */

static void publish_namespaces(struct scanning *s)
{
        GHashTableIter iter;
        gpointer l;

        g_mutex_lock(&s->job->lock);
        g_hash_table_iter_init(&iter, s->namespaces);
        while (g_hash_table_iter_next(&iter, NULL, &l)) {
                if (s->job->scan && ((struct stale_lagging *)l)->mounts->len > 0)
                        g_ptr_array_add(s->job->scan->namespaces, l);
                else
                        lagging_free(l);
        }
        s->job->done = TRUE;
        g_cond_signal(&s->job->moved);
        g_mutex_unlock(&s->job->lock);
}

static gboolean view_open(struct stale_view *v, struct job *j)
{
        StaleLook look;
        g_autoptr(StaleProcess) self = stale_process_open(getpid(), &look);

        v->mounts = self ? mount_table_load(NULL) : NULL;
        if (!v->mounts || stat("/", &v->root) < 0)
                return FALSE;
        v->mount_namespace = self->mount_namespace;
        v->aside = stale_aside_new(g_steal_fd(&j->state_fd));
        v->files = stale_files_new(j->root, g_steal_pointer(&j->manifest));
        return TRUE;
}

static gpointer scan_thread(gpointer data)
{
        struct job *j = data;
        struct scanning s = {.job = j};

        s.namespaces = g_hash_table_new(g_int64_hash, g_int64_equal);
        if (view_open(&s.view, j)) {
                s.init = stale_init_new();
                look_at_all(&s);
        }
        publish_namespaces(&s);
        g_hash_table_unref(s.namespaces);
        stale_init_free(s.init);
        stale_files_free(s.view.files);
        stale_aside_free(s.view.aside);
        mount_table_free((MountTable *)s.view.mounts);
        job_unref(j);
        return NULL;
}

StaleScan *stale_scan(const char *root, Manifest *m, int state_fd, guint patience_ms)
{
        struct job *j = g_atomic_rc_box_new0(struct job);
        gint64 until_us = g_get_monotonic_time() + (gint64)patience_ms * 1000;
        StaleScan *scan;

        j->root = realpath(root, NULL);
        if (!j->root)
                j->root = g_strdup(root);
        j->manifest = m;
        j->state_fd = state_fd;
        j->scan = scan_new();
        g_mutex_init(&j->lock);
        g_cond_init(&j->moved);
        g_thread_unref(g_thread_new("stale", scan_thread, g_atomic_rc_box_acquire(j)));
        g_mutex_lock(&j->lock);
        while (!j->done && g_cond_wait_until(&j->moved, &j->lock, until_us))
                ;
        scan = g_steal_pointer(&j->scan);
        scan->stuck = j->done ? 0 : MAX(j->at, 1);
        g_mutex_unlock(&j->lock);
        job_unref(j);
        return scan;
}
