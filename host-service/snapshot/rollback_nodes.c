/* host-service/snapshot/rollback_nodes.c - what a rollback tells the QEMU of a VM: new nodes, the switch.
 *
 * QEMU can put a node over a device's top, at one instant for all disks, and nothing else in its place. So
 * the new top is put over the present one (which changes nothing of what is seen, it is empty), and is then
 * taken off it and put on the restore point, while the VM stands. What the guest had is closed after that. */
#include "common/error.h"
#include "common/fault.h"
#include "host-service/hypervisor/qmp_message.h"
#include "host-service/snapshot/block_commands.h"
#include "host-service/snapshot/rollback_private.h"

/* The name of one of the nodes of the disk @w; @depth: in the restore point's chain, for those. */
static const char *node_of(char ret[static NODE_NAME_SIZE], const struct rollback *t, const struct way *w,
                           NodeRole role, guint depth)
{
        gboolean of_point = role == NODE_POINT || role == NODE_POINT_FILE;

        node_name(ret, t->job.id, of_point ? w->before->number * VM_CHAIN_MAX + depth : w->before->number,
                  role);
        return ret;
}

static char *beside(const struct way *w, const char *name)
{
        g_autofree char *dir = g_path_get_dirname(w->to->path);

        return g_build_filename(dir, name, NULL);
}

const struct vm_disk *rollback_disk_of(const struct rollback *t, const struct way *w)
{
        g_autofree char *top = beside(w, w->before->layer), *next = beside(w, w->before->next);

        for (guint i = 0; i < t->found->len; i++) {
                const struct vm_disk *d = t->found->pdata[i];

                if (g_strcmp0(d->file, next) == 0 || g_strcmp0(d->file, top) == 0 ||
                    g_strcmp0(d->file, w->to->path) == 0)
                        return d;
        }
        return NULL;
}

gboolean rollback_is_on(const struct rollback *t, const struct way *w)
{
        const struct vm_disk *d = rollback_disk_of(t, w);
        const struct vm_image *below = d && d->below->len > 0 ? d->below->pdata[0] : NULL;

        return w->live == SETTLE_TAKEN && below && g_strcmp0(below->file, w->below) == 0;
}

/* ---- new nodes ---- */

static void queue_del(struct rollback *t, const char *node)
{
        rollback_queue(t, "blockdev-del", block_del(node), TRUE);
}

/* Those that are not there are refused, which is as good. */
void rollback_step_drop_nodes(struct rollback *t)
{
        char node[NODE_NAME_SIZE];

        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct way *w = &t->ways[i];

                if (w->live != SETTLE_BACK)
                        continue;
                queue_del(t, node_of(node, t, w, NODE_NEXT, 0));
                queue_del(t, node_of(node, t, w, NODE_NEXT_FILE, 0));
                for (guint depth = 0; depth < w->line->len; depth++) {
                        queue_del(t, node_of(node, t, w, NODE_POINT, depth));
                        queue_del(t, node_of(node, t, w, NODE_POINT_FILE, depth));
                }
        }
        rollback_send_all(t);
}

static void queue_point(struct rollback *t, const struct way *w, const FileChain *files)
{
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE], below[NODE_NAME_SIZE];

        for (guint n = files->images->len; n-- > 0;) {
                const struct disk_image *f = &g_array_index(files->images, struct disk_image, n);
                gboolean is_last = n + 1 == files->images->len;

                node_of(file, t, w, NODE_POINT_FILE, n);
                rollback_queue(t, "blockdev-add", block_add_file(file, f->path, TRUE), FALSE);
                rollback_queue(t, "blockdev-add",
                               block_add_image(node_of(image, t, w, NODE_POINT, n), f->format, file,
                                               is_last ? NULL : node_of(below, t, w, NODE_POINT, n + 1),
                                               TRUE),
                               FALSE);
        }
}

/* All that the new top will stand on, by QEMU's nodes: no header is followed. */
static gboolean queue_disk(struct rollback *t, const struct way *w, GError **error)
{
        g_autoptr(GPtrArray) line = catalogue_layer_line(t->owner->catalogue, w->before->next_on, error);
        g_autoptr(FileChain) files = line ? layer_line_files(line, 0, line->len, error) : NULL;
        g_autofree char *next = beside(w, w->before->next);
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE];

        if (!files)
                return FALSE;
        queue_point(t, w, files);
        node_of(file, t, w, NODE_NEXT_FILE, 0);
        rollback_queue(t, "blockdev-add", block_add_file(file, next, FALSE), FALSE);
        rollback_queue(t, "blockdev-add",
                       block_add_image(node_of(image, t, w, NODE_NEXT, 0), "qcow2", file, NULL, FALSE),
                       FALSE);
        return TRUE;
}

void rollback_step_add_nodes(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        fault_point("rollback-add");
        for (guint i = 0; i < t->to->disks->len; i++) {
                if (t->ways[i].live != SETTLE_BACK || queue_disk(t, &t->ways[i], &error))
                        continue;
                g_queue_clear_full(&t->commands, rollback_command_free);
                rollback_place_failed(t, error);
                return;
        }
        rollback_send_all(t);
}

/* ---- the switch ---- */

void rollback_step_switch(struct rollback *t)
{
        guint n = 0, all = t->to->disks->len;
        g_autofree const char **tops = g_new0(const char *, all), **overlays = g_new0(const char *, all);
        g_autofree char *names = g_malloc0((gsize)all * NODE_NAME_SIZE);

        for (guint i = 0; i < all; i++) {
                char *name = names + (gsize)i * NODE_NAME_SIZE;

                if (t->ways[i].live != SETTLE_BACK)
                        continue;
                tops[n] = t->ways[i].old;
                overlays[n++] = node_of(name, t, &t->ways[i], NODE_NEXT, 0);
        }
        fault_point("rollback-switch");
        if (n > 0)
                rollback_queue(t, "transaction", block_switch(tops, overlays, n), FALSE);
        rollback_send_all(t);
}

/* One that QEMU was started from since has no node of ours, and is right. */
static gboolean has_our_top(const struct rollback *t, const struct way *w)
{
        const struct vm_disk *d = rollback_disk_of(t, w);
        char node[NODE_NAME_SIZE];

        return w->live == SETTLE_BACK || (d && g_str_equal(d->node, node_of(node, t, w, NODE_NEXT, 0)));
}

/* All disks or none: as long as none is, the switch can be taken back (rollback_return.c). */
void rollback_step_reopen(struct rollback *t)
{
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE], below[NODE_NAME_SIZE];
        g_autoptr(GError) error = NULL;
        JsonObject *all = NULL;
        int fault;

        if ((fault = fault_point("rollback-reopen")) != 0) {
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "blockdev-reopen: %s", g_strerror(fault));
                rollback_place_failed(t, error);
                return;
        }
        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct way *w = &t->ways[i];

                if (has_our_top(t, w) && !rollback_is_on(t, w))
                        all = block_reopen_with(all, block_reopen(node_of(image, t, w, NODE_NEXT, 0),
                                                                  node_of(file, t, w, NODE_NEXT_FILE, 0),
                                                                  node_of(below, t, w, NODE_POINT, 0)));
        }
        if (all)
                rollback_queue(t, "blockdev-reopen", all, FALSE);
        rollback_send_all(t);
}

/* ---- what is left of the other state ---- */

/* Ours, of any time, and those that remember one of the disks' paths. */
static gboolean is_old(const struct rollback *t, const char *node, const char *name)
{
        g_autofree char *file = vm_disk_file_of(name);

        if (g_str_has_prefix(node, "moult-"))
                return TRUE;
        for (guint i = 0; file && *node != '#' && i < t->to->disks->len; i++) {
                g_autofree char *top = beside(&t->ways[i], t->ways[i].before->layer);

                if (g_str_equal(file, t->ways[i].to->path) || g_str_equal(file, top))
                        return TRUE;
        }
        return FALSE;
}

static void tidy_one(struct rollback *t);

/* What something stands on is refused; so it is gone through until a whole round has let nothing go. */
static void on_tidied(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;

        if (!rollback_came_back(t))
                return;
        if (error) {
                t->k++;
        } else {
                g_ptr_array_remove_index(t->old, t->k);
                t->dropped = TRUE;
        }
        tidy_one(t);
}

static void tidy_one(struct rollback *t)
{
        if (t->k == t->old->len && t->dropped) {
                t->k = 0;
                t->dropped = FALSE;
        }
        if (t->k < t->old->len)
                rollback_command(t, "blockdev-del", block_del(t->old->pdata[t->k]), on_tidied);
        else
                rollback_next(t);
}

static void on_nodes(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        JsonArray *nodes = error ? NULL : qmp_array(result);

        if (!rollback_came_back(t))
                return;
        g_clear_pointer(&t->old, g_ptr_array_unref);
        t->old = g_ptr_array_new_with_free_func(g_free);
        for (guint i = 0; nodes && i < json_array_get_length(nodes); i++) {
                JsonObject *n = qmp_object(json_array_get_element(nodes, i));
                const char *name = n ? qmp_string(n, "node-name") : NULL;

                if (name && is_old(t, name, qmp_string(n, "file")))
                        g_ptr_array_add(t->old, g_strdup(name));
        }
        t->k = 0;
        t->dropped = FALSE;
        tidy_one(t);
}

void rollback_step_tidy(struct rollback *t)
{
        fault_point("rollback-tidy");
        rollback_command(t, "query-named-block-nodes", block_nodes_flat(), on_nodes);
}
