/* host-service/snapshot/mount.c - which restore points are mounted, and the jobs that begin and end it. */
#include "host-service/snapshot/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "host-service/catalogue/json.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/mount_private.h"
#include "host-service/socket_group.h"

static void mount_free(gpointer data)
{
        struct mount *m = data;

        g_clear_pointer(&m->disks, g_ptr_array_unref);
        g_clear_pointer(&m->held, g_ptr_array_unref);
        g_clear_pointer(&m->point, restore_point_free);
        job_task_clear(&m->job);
        g_free(m);
}

/* Its layers may go, if they were only kept for it. */
static void drop(struct mount *m)
{
        SnapshotMounts *owner = m->owner;

        if (m->held)
                layer_refs_drop_all(owner->refs, m->held);
        g_ptr_array_remove(owner->mounts, m);
}

/* ---- telling ---- */

static JsonObject *disk_to_json(const struct mount_disk *d)
{
        JsonObject *o = json_object_new();
        g_autofree char *escaped = g_uri_escape_string(d->socket, "/", FALSE);
        g_autofree char *uri = g_strconcat("nbd+unix:///?socket=", escaped, NULL);

        json_object_set_string_member(o, "device", d->d->device);
        json_object_set_string_member(o, "uri", uri);
        json_object_set_string_member(o, "socket", d->socket);
        json_object_set_int_member(o, "size_bytes", (gint64)d->d->size_bytes);
        json_object_set_string_member(o, "from", d->from_store ? "store" : "files");
        json_object_set_boolean_member(o, "alive", d->disk && disk_is_alive(d->disk));
        return o;
}

static JsonObject *mount_to_json(const struct mount *m)
{
        JsonObject *o = json_object_new();
        JsonArray *disks = json_array_new();

        json_object_set_string_member(o, "id", m->job.id);
        json_object_set_string_member(o, "vm", m->point->s->vm);
        json_object_set_string_member(o, "snapshot", m->point->s->name);
        json_object_set_string_member(o, "snapshot_id", m->point->s->id);
        json_object_set_time(o, "mounted", m->mounted_us);
        for (guint i = 0; i < m->disks->len; i++)
                json_array_add_object_element(disks, disk_to_json(m->disks->pdata[i]));
        json_object_set_array_member(o, "disks", disks);
        return o;
}

JsonArray *snapshot_mounts_to_json(const SnapshotMounts *m)
{
        JsonArray *a = json_array_new();

        for (guint i = 0; i < m->mounts->len; i++) {
                const struct mount *one = m->mounts->pdata[i];

                if (one->mounted_us && !one->closing)
                        json_array_add_object_element(a, mount_to_json(one));
        }
        return a;
}

gboolean snapshot_mounts_has(const SnapshotMounts *m, const char *snapshot)
{
        for (guint i = 0; i < m->mounts->len; i++) {
                const struct mount *one = m->mounts->pdata[i];

                if (one->point && g_str_equal(one->point->s->id, snapshot))
                        return TRUE;
        }
        return FALSE;
}

/* ---- mounting ---- */

static void on_mounted(struct mount *m, const GError *error)
{
        job_task_hide(&m->job);
        if (!error) {
                m->mounted_us = host_wall_us(m->owner->env);
                event_log(EVENT_INFO, "snapshot-mounted", m->point->s->name, "vm", m->point->s->vm,
                          "snapshot", m->point->s->id, NULL);
                job_task_report(&m->job, mount_to_json(m), NULL);
                return;
        }
        mount_close(m); /* of those before it; each was asked nothing yet, and ends at once */
        job_task_report(&m->job, NULL, error);
        drop(m);
}

static gboolean add_disks(struct mount *m, const char *device, const char *scratch, GError **error)
{
        const RestorePoint *p = m->point;

        for (guint i = 0; i < p->s->disks->len; i++) {
                const struct snapshot_disk *d = p->s->disks->pdata[i];
                struct mount_disk *to;

                if (device && !g_str_equal(d->device, device))
                        continue;
                to = g_new0(struct mount_disk, 1);
                to->d = d;
                to->line = p->lines->pdata[i];
                to->socket = g_strdup_printf("%s/%s-%u", m->owner->dir, m->job.id, i);
                to->part = g_strdup_printf("%s/mount-%s-%u.part", scratch, m->job.id, i);
                g_ptr_array_add(m->disks, to);
        }
        if (m->disks->len > 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "snapshot %s has no disk %s", p->s->name,
                    device ? device : "at all");
        return FALSE;
}

static gboolean begin(struct mount *m, JsonObject *o, GError **error)
{
        const char *scratch = json_object_get_string_member_with_default(o, "scratch", NULL);
        g_autofree char *state = g_path_get_dirname(m->owner->env->catalogue_path),
                        *dir = scratch ? g_strdup(scratch) : g_build_filename(state, "scratch", NULL);
        SnapshotRecord *s = catalogue_snapshot_get(m->owner->catalogue,
                                                   json_object_get_string_member(o, "snapshot"), error);

        m->point = s ? restore_point_load(m->owner->catalogue, s, error) : NULL;
        if (!m->point)
                return FALSE;
        if (s->state != SNAPSHOT_TAKEN) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "snapshot %s is not taken yet",
                            s->name);
                return FALSE;
        }
        if (g_mkdir_with_parents(dir, 0700) != 0)
                return moult_error_errno(error, errno, "making the directory for what is fetched, %s", dir);
        return add_disks(m, json_object_get_string_member_with_default(o, "disk", NULL), dir, error);
}

static void start_mount(const OperationRecord *op, gpointer user)
{
        SnapshotMounts *owner = user;
        struct mount *m = g_new0(struct mount, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        g_autoptr(GError) error = NULL;

        m->owner = owner;
        m->disks = g_ptr_array_new_with_free_func(mount_disk_free);
        job_task_init(&m->job, owner->catalogue, owner->jobs, op->id);
        g_ptr_array_add(owner->mounts, m);
        if (!begin(m, json_node_get_object(node), &error)) {
                job_task_report(&m->job, NULL, error);
                drop(m);
                return;
        }
        m->held = g_ptr_array_new_with_free_func(g_free);
        restore_point_add_ids(m->point, m->held);
        layer_refs_take_all(owner->refs, m->held);
        mount_open(m, on_mounted);
}

static void stop(struct mount *m)
{
        if (m->restore)
                restore_cancel(m->restore);
}

static void cancel_mount(const OperationRecord *op, gpointer user)
{
        SnapshotMounts *owner = user;

        for (guint i = 0; i < owner->mounts->len; i++) {
                struct mount *m = owner->mounts->pdata[i];

                if (!g_str_equal(m->job.id, op->id))
                        continue;
                job_task_cancel(&m->job);
                stop(m);
                return;
        }
}

/* ---- unmounting ---- */

struct unmount {
        SnapshotMounts *owner;
        struct job_task job;
        char *vm;
        GPtrArray *mounts; /* that it ends; the owner's */
};

static gpointer close_work(gpointer data, GCancellable *cancellable, GError **error)
{
        struct unmount *u = data;

        for (guint i = 0; i < u->mounts->len; i++)
                mount_close(u->mounts->pdata[i]);
        return u;
}

static void unmount_free(struct unmount *u)
{
        job_task_clear(&u->job);
        g_ptr_array_unref(u->mounts);
        g_free(u->vm);
        g_free(u);
}

static void on_closed(gpointer result, GError *error, gpointer user)
{
        struct unmount *u = user;
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "vm", u->vm);
        json_object_set_int_member(o, "unmounted", u->mounts->len);
        for (guint i = 0; i < u->mounts->len; i++)
                drop(u->mounts->pdata[i]);
        event_log(EVENT_INFO, "snapshot-unmounted", "", "vm", u->vm, NULL);
        job_task_report(&u->job, o, NULL);
        u->owner->ending--;
        unmount_free(u);
}

static gboolean is_meant(const struct mount *m, const char *vm, const char *snapshot)
{
        return m->mounted_us && !m->closing && g_str_equal(m->point->s->vm, vm) &&
               (!snapshot || g_str_equal(m->point->s->id, snapshot));
}

static void start_unmount(const OperationRecord *op, gpointer user)
{
        SnapshotMounts *owner = user;
        struct unmount *u = g_new0(struct unmount, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        JsonObject *o = json_node_get_object(node);
        g_autoptr(GError) none = NULL;

        u->owner = owner;
        u->vm = g_strdup(json_object_get_string_member(o, "vm"));
        u->mounts = g_ptr_array_new();
        job_task_init(&u->job, owner->catalogue, owner->jobs, op->id);
        for (guint i = 0; i < owner->mounts->len; i++) {
                struct mount *m = owner->mounts->pdata[i];

                if (!is_meant(m, u->vm, json_object_get_string_member_with_default(o, "snapshot", NULL)))
                        continue;
                m->closing = TRUE;
                g_ptr_array_add(u->mounts, m);
        }
        if (u->mounts->len == 0) {
                none = g_error_new(
                        MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "nothing of VM \"%s\" that was asked for is mounted; a mount ends when moultd "
                        "ends, too",
                        u->vm);
                job_task_report(&u->job, NULL, none);
                unmount_free(u);
                return;
        }
        owner->ending++;
        owner->env->worker->run(owner->env->self, close_work, u, NULL, on_closed, u);
}

/* What was mounted has ended with the moultd before this one. */
static void resume_unmount(const OperationRecord *op, gpointer user)
{
        SnapshotMounts *owner = user;

        jobs_finish(owner->jobs, op->id, OPERATION_SUCCEEDED, NULL, NULL);
}

static void cancel_unmount(const OperationRecord *op, gpointer user)
{
}

/* ---- life ---- */

SnapshotMounts *snapshot_mounts_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                    ObjectStore *objects, LayerRefs *refs, const char *dir, const char *group)
{
        static const struct job_kind mount_kind = {"snapshot-mount", start_mount, start_mount, cancel_mount},
                                     unmount_kind = {"snapshot-unmount", start_unmount, resume_unmount,
                                                     cancel_unmount};
        SnapshotMounts *m = g_new0(SnapshotMounts, 1);

        m->env = env;
        m->catalogue = c;
        m->jobs = jobs;
        m->objects = objects;
        m->refs = refs;
        m->dir = g_strdup(dir);
        m->group = g_strdup(group);
        m->mounts = g_ptr_array_new_with_free_func(mount_free);
        jobs_register(jobs, &mount_kind, m);
        jobs_register(jobs, &unmount_kind, m);
        return m;
}

/* Members of the group find the sockets, and nobody else. Not by the set-group-id bit: moultd's unit may not
 * set it. */
gboolean snapshot_mounts_begin(SnapshotMounts *m, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(m->dir), *name = g_path_get_basename(m->dir);
        scoped_fd int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s", parent);
        if (!remove_tree(fd, name, error))
                return FALSE;
        if (mkdir(m->dir, 0700) != 0)
                return moult_error_errno(error, errno, "making the directory of mounts, %s", m->dir);
        if (!socket_group_give(m->dir, m->group, error))
                return FALSE;
        return chmod(m->dir, 0750) == 0 ||
               moult_error_errno(error, errno, "opening the directory of mounts, %s", m->dir);
}

void snapshot_mounts_free(SnapshotMounts *m)
{
        if (!m)
                return;
        for (guint i = 0; i < m->mounts->len; i++) {
                struct mount *one = m->mounts->pdata[i];

                job_task_leave(&one->job);
                stop(one);
        }
        for (guint i = 0; i < m->mounts->len;) {
                struct mount *one = m->mounts->pdata[i];

                if (one->mounted_us && !one->closing)
                        drop(one);
                else
                        i++;
        }
        while (m->mounts->len > 0 || m->ending > 0)
                g_main_context_iteration(m->env->context, TRUE);
        (void)rmdir(m->dir);
        g_ptr_array_unref(m->mounts);
        g_free(m->dir);
        g_free(m->group);
        g_free(m);
}
