/* host-service/snapshot/rollback_end.c - how a rollback ends, and when it is tried again. */
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/snapshot/rollback_private.h"
#include "host-service/snapshot/upload.h"

#define AGAIN_MS       5000u
#define STORE_AGAIN_MS 1000u

void rollback_end(struct rollback *t, const GError *why)
{
        SnapshotRollbacks *r = t->owner;
        JsonObject *o = NULL;

        if (!why) {
                o = json_object_new();
                json_object_set_string_member(o, "vm", t->vm);
                json_object_set_string_member(o, "to", t->to->name);
                json_object_set_string_member(o, "before", t->before->name);
                json_object_set_boolean_member(o, "running", rollback_is_running(t));
                snapshot_upload_begin(r->env, r->jobs, t->before);
        }
        event_log(why ? EVENT_WARNING : EVENT_NOTICE,
                  why ? "snapshot-rollback-failed" : "snapshot-rolled-back", why ? why->message : t->to->name,
                  "vm", t->vm, "snapshot", t->to ? t->to->id : "", NULL);
        job_task_hide(&t->job);
        job_task_report(&t->job, o, why);
        if (t->held)
                layer_refs_drop_all(r->refs, t->held);
        g_ptr_array_remove(r->tasks, t);
        if (r->over && !r->closing)
                r->over(r->over_user);
}

static gboolean end_layer(Catalogue *c, const char *id, SnapshotState state, gint64 when_us, GError **error)
{
        return state == SNAPSHOT_TAKEN ? catalogue_layer_seal(c, id, when_us, error)
                                       : catalogue_layer_drop(c, id, error);
}

static gboolean end_rows(struct rollback *t, SnapshotState state, GError **error)
{
        Catalogue *c = t->owner->catalogue;
        gboolean ok;

        if (!catalogue_begin(c, error))
                return FALSE;
        t->before->state = state;
        ok = catalogue_snapshot_update(c, t->before, error);
        for (guint i = 0; ok && i < t->before->disks->len; i++) {
                const struct snapshot_disk *d = t->before->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);

                ok = end_layer(c, id, state, t->before->taken_us, error) &&
                     (!t->ways || !t->ways[i].has_copy ||
                      end_layer(c, d->next_on, state, t->before->taken_us, error));
        }
        return catalogue_end(c, ok, error);
}

/* What has happened is true whether it can be written or not. */
static void not_stored(struct rollback *t, const GError *error, GSourceFunc again)
{
        event_log(EVENT_ERROR, "snapshot-not-stored", error->message, "vm", t->vm, "snapshot", t->job.id,
                  NULL);
        t->again = host_timer_add(t->owner->env, STORE_AGAIN_MS, again, t);
}

/* ---- the way back ---- */

static gboolean remove_one(struct rollback *t, struct way *w, GError **error)
{
        if (w->part)
                unlink(w->part);
        if (w->has_copy)
                unlink(w->below);
        return !w->files || layer_files_remove_next(w->files, error);
}

static void failed_for_good(struct rollback *t);

static gboolean on_failed_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        failed_for_good(t);
        return G_SOURCE_REMOVE;
}

static void failed_for_good(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->is_known) {
                g_free(t->before->why);
                t->before->why = g_strdup(t->error->message);
                if (!end_rows(t, SNAPSHOT_FAILED, &error)) {
                        not_stored(t, error, on_failed_again);
                        return;
                }
        }
        rollback_end(t, t->error);
}

static gboolean on_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        rollback_resume(t);
        return G_SOURCE_REMOVE;
}

static void try_again(struct rollback *t, const GError *error)
{
        event_log(EVENT_ERROR,
                  t->before->state == SNAPSHOT_STOPPED ? "snapshot-rollback-stopped" : "snapshot-not-placed",
                  error->message, "vm", t->vm, "snapshot", t->job.id, NULL);
        t->again = host_timer_add(t->owner->env, AGAIN_MS, on_again, t);
}

/* One that an earlier moultd has begun, and a path that may have been given away, are looked at until it is
 * known what is true, and then brought to that end. */
void rollback_fail(struct rollback *t, const GError *error)
{
        if (t->unsure || t->placing) {
                try_again(t, error);
                return;
        }
        if (t->error) { /* on the way back: what is left is an empty file */
                failed_for_good(t);
                return;
        }
        t->error = g_error_copy(error);
        if (t->ways)
                rollback_run(t, remove_one, failed_for_good, NULL);
        else
                failed_for_good(t);
}

static gboolean on_store_again(gpointer user);

void rollback_record(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->before->taken_us == 0)
                t->before->taken_us = host_wall_us(t->owner->env);
        if (end_rows(t, SNAPSHOT_TAKEN, &error))
                rollback_end(t, NULL);
        else
                not_stored(t, error, on_store_again);
}

static gboolean on_store_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        rollback_record(t);
        return G_SOURCE_REMOVE;
}
