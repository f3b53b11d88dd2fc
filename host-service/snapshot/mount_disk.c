/* host-service/snapshot/mount_disk.c - a disk of a restore point becomes readable: its files here, as they
 * are, or one file with its content that is fetched from the store. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/snapshot/mount_private.h"
#include "host-service/socket_group.h"

struct opening {
        struct mount *m;
        void (*then)(struct mount *m, const GError *error);
};

static void next(struct opening *o);

void mount_disk_free(gpointer data)
{
        struct mount_disk *d = data;

        disk_free(d->disk);
        g_clear_pointer(&d->files, file_chain_free);
        g_free(d->socket);
        g_free(d->part);
        g_free(d);
}

static struct mount_disk *present(const struct opening *o)
{
        return o->m->disks->pdata[o->m->next];
}

static void end(struct opening *o, const GError *error)
{
        if (error && o->m->next < o->m->disks->len)
                (void)unlink(present(o)->part);
        o->then(o->m, error);
        g_free(o);
}

static gpointer open_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct mount_disk *d = present(data);
        const struct disk_options options = {.size = d->d->size_bytes,
                                             .helper = ((struct opening *)data)->m->owner->env->disk_helper,
                                             .share_at = d->socket};

        fault_point("mount-open");
        d->disk = file_chain_open(d->files, &options, cancellable, error);
        fault_point("mount-opened");
        /* The file is had as long as it is open, and by nobody after that. */
        if (d->from_store)
                (void)unlink(d->part);
        return d->disk;
}

static void on_open(gpointer result, GError *error, gpointer user)
{
        struct opening *o = user;
        g_autoptr(GError) refused = NULL;

        if (!error && !socket_group_give(present(o)->socket, o->m->owner->group, &refused))
                error = refused;
        if (error) {
                end(o, error);
                return;
        }
        o->m->next++;
        next(o);
}

static void open_files(struct opening *o)
{
        const struct host_env *env = o->m->owner->env;

        env->worker->run(env->self, open_work, o, o->m->job.cancellable, on_open, o);
}

static void on_restored(const struct restore_result *result, const GError *error, gpointer user)
{
        struct opening *o = user;
        struct mount_disk *d = present(o);

        o->m->restore = NULL;
        if (error) {
                end(o, error);
                return;
        }
        job_task_hide(&o->m->job);
        d->from_store = TRUE;
        d->files = file_chain_new();
        file_chain_add(d->files, d->part, "qcow2");
        open_files(o);
}

/* What stands on a base that was changed is wrong here; the store has it as it was. */
static FileChain *files_here(const GPtrArray *line)
{
        return layer_line_base_is_same(line, NULL) ? layer_line_files(line, 0, line->len, NULL) : NULL;
}

static void next(struct opening *o)
{
        struct mount *m = o->m;
        struct mount_disk *d;

        if (m->next == m->disks->len) {
                end(o, NULL);
                return;
        }
        d = present(o);
        (void)unlink(d->part); /* of an earlier moultd */
        d->files = files_here(d->line);
        if (d->files) {
                open_files(o);
                return;
        }
        const struct restore_goal goal = {.line = d->line, .path = d->part, .standalone = TRUE};
        m->restore = restore_start(m->owner->env, m->owner->objects, &goal, on_restored, o);
        job_task_show(&m->job, m->owner->env, restore_done_bytes(m->restore),
                      restore_total_bytes(m->restore));
}

void mount_open(struct mount *m, void (*then)(struct mount *m, const GError *error))
{
        struct opening *o = g_new0(struct opening, 1);

        o->m = m;
        o->then = then;
        next(o);
}

void mount_close(struct mount *m)
{
        for (guint i = 0; i < m->disks->len; i++)
                g_clear_pointer(&((struct mount_disk *)m->disks->pdata[i])->disk, disk_free);
}
