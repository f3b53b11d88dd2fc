/* host-service/snapshot/rollback_return.c - a switch that QEMU does not let come to its end is taken back:
 * the guest, which stands, gets the disks that it had.
 *
 * The new tops lie over the present ones, and nobody has written to them: not a path is theirs, and the guest
 * did not go on. QEMU takes an image off a device only by committing it into what it stands on, which copies
 * nothing of an empty one: the present top is the device's again. A job that an earlier moultd has begun is
 * found by its name. docs/snapshots.md, *While the VM runs*. */
#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/hypervisor/qmp_message.h"
#include "host-service/snapshot/block_commands.h"
#include "host-service/snapshot/rollback_private.h"

#define LOOK_MS 20u
#define LOOKS   250u /* 5 s for what copies nothing */

/* ---- may it ---- */

gboolean rollback_may_return(const struct rollback *t)
{
        if (!t->status || rollback_goes_on(t))
                return FALSE;
        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct way *w = &t->ways[i];

                if (w->look.well_known != WELL_KNOWN_TOP || w->live == SETTLE_FOREIGN ||
                    (w->live == SETTLE_TAKEN && rollback_is_on(t, w)))
                        return FALSE;
        }
        return TRUE;
}

/* ---- QEMU's jobs ---- */

static char *job_of(const struct rollback *t, const struct way *w)
{
        char node[NODE_NAME_SIZE];

        node_name(node, t->job.id, w->before->number, NODE_NEXT);
        return g_strdup_printf("%s-back", node);
}

static JsonObject *find_job(JsonArray *jobs, const char *id)
{
        for (guint i = 0; i < json_array_get_length(jobs); i++) {
                JsonObject *job = qmp_object(json_array_get_element(jobs, i));

                if (job && g_strcmp0(qmp_string(job, "device"), id) == 0)
                        return job;
        }
        return NULL;
}

static gboolean is_ready(JsonObject *job)
{
        JsonNode *ready = qmp_member(job, "ready");

        return ready && JSON_NODE_HOLDS_VALUE(ready) && json_node_get_boolean(ready);
}

static void on_jobs(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        JsonArray *jobs = error ? NULL : qmp_array(result);
        g_autoptr(GError) late = NULL;
        guint found = 0;

        if (!rollback_came_back(t))
                return;
        for (guint i = 0; jobs && i < t->to->disks->len; i++) {
                g_autofree char *id = job_of(t, &t->ways[i]);
                JsonObject *job = find_job(jobs, id);

                found += job != NULL;
                if (job && is_ready(job))
                        rollback_queue(t, "block-job-complete", block_job_complete(id), TRUE);
        }
        if (jobs && found == 0) {
                rollback_look(t); /* they have ended, in whichever way: what QEMU has open tells */
        } else if (jobs && t->waits++ < LOOKS) {
                rollback_send_all(t);
        } else {
                late = g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                   "QEMU does not take the new disks of VM \"%s\" off again", t->vm);
                g_queue_clear_full(&t->commands, rollback_command_free);
                rollback_place_failed(t, error ? error : late);
        }
}

/* ---- steps ---- */

static void on_nodes(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;

        if (!rollback_came_back(t))
                return;
        for (guint i = 0; !error && i < t->to->disks->len; i++) {
                const struct way *w = &t->ways[i];
                const struct vm_disk *d = rollback_disk_of(t, w);
                const struct vm_image *old = d && d->below->len > 0 ? d->below->pdata[0] : NULL;
                g_autofree char *node =
                        old && old->file ? vm_disk_node_of(result, old->file, old->format) : NULL;
                g_autofree char *id = job_of(t, w);

                if (w->live == SETTLE_TAKEN && node) /* refused if an earlier moultd has begun it */
                        rollback_queue(t, "block-commit", block_commit(id, d->node, node), TRUE);
        }
        rollback_send_all(t);
}

static void step_commit(struct rollback *t)
{
        fault_point("rollback-return");
        event_log(
                EVENT_WARNING, "snapshot-rollback-returns",
                "QEMU goes on refusing the disks of the restore point; the guest gets back those that it had",
                "vm", t->vm, "snapshot", t->job.id, NULL);
        t->waits = 0;
        rollback_command(t, "query-named-block-nodes", block_nodes_flat(), on_nodes);
}

static void step_look(struct rollback *t)
{
        rollback_command(t, "query-block-jobs", NULL, on_jobs);
}

static gboolean on_look_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        rollback_take(t, rollback_way_return + 1);
        return G_SOURCE_REMOVE;
}

/* It has begun, or was told to end: nobody tells us when it has. */
static void step_look_again(struct rollback *t)
{
        t->again = host_timer_add(t->owner->env, LOOK_MS, on_look_again, t);
}

const rollback_step rollback_way_return[] = {step_commit, step_look, step_look_again};
