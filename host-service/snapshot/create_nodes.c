/* host-service/snapshot/create_nodes.c - what a snapshot says to QEMU: new nodes, the switch, and the way
 * back. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/block_commands.h"

static void on_image_added(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error) {
                create_fail(s, error);
                return;
        }
        s->k++;
        step_add_nodes(s);
}

static void on_file_added(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE];

        if (error) {
                create_fail(s, error);
                return;
        }
        node_name(file, s->r->id, s->k, NODE_NEXT_FILE);
        node_name(image, s->r->id, s->k, NODE_NEXT);
        create_command(s, "blockdev-add", block_add_image(image, "qcow2", file, NULL, FALSE), on_image_added);
}

void step_add_nodes(SnapshotCreate *s)
{
        char file[NODE_NAME_SIZE];
        g_autofree char *path = NULL;

        if (s->is_domain ||
            s->k == s->r->disks->len) { /* libvirt opens them itself, as a part of its switch */
                create_next(s);
                return;
        }
        path = create_file_beside(s->disks[s->k].disk, s->disks[s->k].disk->next);
        node_name(file, s->r->id, s->k, NODE_NEXT_FILE);
        create_command(s, "blockdev-add", block_add_file(file, path, FALSE), on_file_added);
}

static void on_stopped(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

static void send_stop(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;

        /* Noted before it is done; one that stood by itself is not continued by us. */
        if (s->r->running) {
                s->r->state = SNAPSHOT_STOPPED;
                if (!catalogue_snapshot_update(s->catalogue, s->r, &error)) {
                        create_fail(s, error);
                        return;
                }
                s->stopped = TRUE;
        }
        fault_point("snapshot-stop");
        create_command(s, "stop", NULL, on_stopped);
}

static void on_status_now(HypervisorStatus status, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        g_autoptr(GError) gone = NULL;

        if (!error && status != HYPERVISOR_GONE) {
                s->r->running = status == HYPERVISOR_RUNNING;
                send_stop(s);
                return;
        }
        gone = error ? g_error_copy(error)
                     : g_error_new_literal(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "the VM has ended meanwhile");
        create_fail(s, gone);
}

/* Only for what QEMU has opened by the well-known path. Whether it runs may have changed since it was asked
 * first. */
void step_stop(SnapshotCreate *s)
{
        Hypervisor *h = s->guests->ops->hypervisor(s->guests->self, s->r->vm);

        if (create_has_first(s) && h)
                hypervisor_query_status(h, on_status_now, s);
        else
                create_next(s);
}

/* A refusal, too, may come from a QEMU that was started anew, and has the new top open already. */
void create_on_switched(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error) {
                s->error = g_error_copy(error);
                create_settle(s);
                return;
        }
        s->switched = TRUE;
        s->r->taken_us = host_wall_us(s->env);
        create_next(s);
}

static JsonObject *domains_switch(const SnapshotCreate *s)
{
        JsonObject *o = json_object_new();

        for (guint i = 0; i < s->r->disks->len; i++) {
                const struct snapshot_disk *d = s->disks[i].disk;
                g_autofree char *next = create_file_beside(d, d->next);

                json_object_set_string_member(o, d->device, next);
        }
        return o;
}

static void switch_nodes(SnapshotCreate *s)
{
        guint n = s->r->disks->len;
        g_autofree const char **tops = g_new0(const char *, n), **overlays = g_new0(const char *, n);
        g_autofree char *names = g_malloc0((gsize)n * NODE_NAME_SIZE);

        for (guint i = 0; i < n; i++) {
                node_name(names + (gsize)i * NODE_NAME_SIZE, s->r->id, i, NODE_NEXT);
                tops[i] = s->disks[i].top;
                overlays[i] = names + (gsize)i * NODE_NAME_SIZE;
        }
        create_command(s, "transaction", block_switch(tops, overlays, n), create_on_switched);
}

void step_switch(SnapshotCreate *s)
{
        fault_point("snapshot-switch");
        if (s->is_domain)
                create_ask_domain(s, VIRT_DISKS_SWITCH, domains_switch(s), create_on_switched);
        else
                switch_nodes(s);
}

/* The row says that the VM was stopped, and is not final: it is tried again. */
static void on_gone_on(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error) {
                event_log(EVENT_ERROR, "snapshot-vm-stopped",
                          "the VM was stopped for a snapshot and could not be continued yet; `cont` in its "
                          "monitor does "
                          "that, too",
                          "vm", s->r->vm, "why", error->message, NULL);
                create_end_with(s, error);
                return;
        }
        s->stopped = FALSE;
        create_next(s);
}

void step_go_on(SnapshotCreate *s)
{
        fault_point("snapshot-go-on");
        if (s->stopped)
                create_command(s, "cont", NULL, on_gone_on);
        else
                create_next(s);
}

/* Nodes of what was not switched to; those that are not there are refused, which is as good. */
static void on_node_deleted(JsonNode *result, const GError *error, gpointer user);

void step_del_nodes(SnapshotCreate *s)
{
        char node[NODE_NAME_SIZE];

        if (!s->disks || s->is_domain || s->k == 2 * s->r->disks->len || s->status == HYPERVISOR_GONE) {
                create_next(s);
                return;
        }
        node_name(node, s->r->id, s->k / 2, s->k % 2 == 0 ? NODE_NEXT : NODE_NEXT_FILE);
        create_command(s, "blockdev-del", block_del(node), on_node_deleted);
}

static void on_node_deleted(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        s->k++;
        step_del_nodes(s);
}
