/* host-service/snapshot/export.c - restore points as files. */
#include "host-service/snapshot/export.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/catalogue/json.h"
#include "host-service/jobs/job_task.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/restore.h"

struct SnapshotExports {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        ObjectStore *objects;
        LayerRefs *refs;
        GPtrArray *tasks; /* of struct task */
};

struct task {
        SnapshotExports *owner;
        struct job_task job;
        SnapshotRecord *s;
        GPtrArray *line;
        GPtrArray *held; /* ids of its layers, to which we have references */
        char *path, *part;
        Restore *restore;
};

static void task_free(gpointer data)
{
        struct task *t = data;

        snapshot_record_free(t->s);
        g_clear_pointer(&t->line, g_ptr_array_unref);
        g_clear_pointer(&t->held, g_ptr_array_unref);
        job_task_clear(&t->job);
        g_free(t->path);
        g_free(t->part);
        g_free(t);
}

static void end(struct task *t, JsonObject *result, const GError *why)
{
        job_task_hide(&t->job);
        job_task_report(&t->job, result, why);
        if (t->held)
                layer_refs_drop_all(t->owner->refs, t->held);
        g_ptr_array_remove(t->owner->tasks, t);
}

/* Nothing that is there is replaced. */
static gboolean give_name(struct task *t, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(t->path);
        scoped_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        fault_point("export-name");
        if (fd < 0 || link(t->part, t->path) != 0)
                return moult_error_errno(error, errno, "giving what was exported its name %s", t->path);
        unlink(t->part);
        return fsync(fd) == 0 || moult_error_errno(error, errno, "syncing the directory %s", dir);
}

/* Of what the operator has named, before there is a file with another name. */
static gboolean can_write(const char *path, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(path);

        if (access(path, F_OK) == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is there already: choose another name", path);
                return FALSE;
        }
        return access(dir, W_OK | X_OK) == 0 ||
               moult_error_errno(error, errno, "exporting to %s: moultd cannot make files in %s", path, dir);
}

static void on_restored(const struct restore_result *result, const GError *error, gpointer user)
{
        struct task *t = user;
        g_autoptr(GError) why = NULL;
        JsonObject *o;

        t->restore = NULL;
        if (error || !give_name(t, &why)) {
                unlink(t->part);
                end(t, NULL, error ? error : why);
                return;
        }
        o = json_object_new();
        json_object_set_string_member(o, "vm", t->s->vm);
        json_object_set_string_member(o, "snapshot", t->s->name);
        json_object_set_string_member(o, "path", t->path);
        json_object_set_string_member(o, "from", result->from_store ? "store" : "files");
        json_object_set_int_member(o, "bytes", (gint64)result->bytes);
        json_object_set_int_member(o, "fetched_bytes", (gint64)result->fetched);
        end(t, o, NULL);
}

static const struct snapshot_disk *choose(const SnapshotRecord *s, const char *device, GError **error)
{
        g_autoptr(GString) known = g_string_new(NULL);

        for (guint i = 0; i < s->disks->len; i++) {
                const struct snapshot_disk *d = s->disks->pdata[i];

                if (device ? g_str_equal(d->device, device) : s->disks->len == 1)
                        return d;
                g_string_append_printf(known, "%s%s", i ? ", " : "", d->device);
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    device ? "the snapshot has no disk of that name; it has %s" : "say which disk: %s",
                    known->str);
        return NULL;
}

static gboolean begin(struct task *t, JsonObject *o, GError **error)
{
        SnapshotExports *e = t->owner;
        const struct snapshot_disk *d;
        g_autofree char *id = NULL;

        t->s = catalogue_snapshot_get(e->catalogue, json_object_get_string_member(o, "snapshot"), error);
        d = t->s ? choose(t->s, json_object_get_string_member_with_default(o, "disk", NULL), error) : NULL;
        id = d ? layer_name_id(d->layer) : NULL;
        t->line = id ? catalogue_layer_line(e->catalogue, id, error) : NULL;
        if (!t->line)
                return FALSE;
        t->path = g_strdup(json_object_get_string_member(o, "path"));
        t->part = g_strdup_printf("%s.%s.part", t->path, t->job.id);
        if (!can_write(t->path, error))
                return FALSE;
        unlink(t->part); /* of an earlier moultd */
        return TRUE;
}

static void start(const OperationRecord *op, gpointer user)
{
        SnapshotExports *e = user;
        struct task *t = g_new0(struct task, 1);
        g_autoptr(JsonNode) node = json_from_string(op->request, NULL);
        g_autoptr(GError) error = NULL;

        t->owner = e;
        job_task_init(&t->job, e->catalogue, e->jobs, op->id);
        g_ptr_array_add(e->tasks, t);
        if (!begin(t, json_node_get_object(node), &error)) {
                end(t, NULL, error);
                return;
        }
        t->held = g_ptr_array_new_with_free_func(g_free);
        layer_line_add_ids(t->line, t->held);
        layer_refs_take_all(e->refs, t->held);
        const struct restore_goal goal = {.line = t->line, .path = t->part, .standalone = TRUE};
        t->restore = restore_start(e->env, e->objects, &goal, on_restored, t);
        job_task_show(&t->job, e->env, restore_done_bytes(t->restore), restore_total_bytes(t->restore));
}

static void cancel(const OperationRecord *op, gpointer user)
{
        SnapshotExports *e = user;

        for (guint i = 0; i < e->tasks->len; i++) {
                struct task *t = e->tasks->pdata[i];

                if (!g_str_equal(t->job.id, op->id))
                        continue;
                job_task_cancel(&t->job);
                restore_cancel(t->restore);
        }
}

SnapshotExports *snapshot_exports_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                      ObjectStore *objects, LayerRefs *refs)
{
        static const struct job_kind kind = {"snapshot-export", start, start, cancel};
        SnapshotExports *e = g_new0(SnapshotExports, 1);

        e->env = env;
        e->catalogue = c;
        e->jobs = jobs;
        e->objects = objects;
        e->refs = refs;
        e->tasks = g_ptr_array_new_with_free_func(task_free);
        jobs_register(jobs, &kind, e);
        return e;
}

void snapshot_exports_free(SnapshotExports *e)
{
        if (!e)
                return;
        for (guint i = 0; i < e->tasks->len; i++) {
                struct task *t = e->tasks->pdata[i];

                job_task_leave(&t->job);
                restore_cancel(t->restore);
        }
        while (e->tasks->len > 0)
                g_main_context_iteration(e->env->context, TRUE);
        g_ptr_array_unref(e->tasks);
        g_free(e);
}
