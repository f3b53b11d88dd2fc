/* host-service/snapshot/merge_nodes.c - what a merge says to QEMU: the new file's nodes, the top onto them,
 * its header, and the old ones away. */
#include <string.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/hypervisor/qmp_message.h"
#include "host-service/snapshot/block_commands.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/merge_private.h"

static void own_node(char ret[static NODE_NAME_SIZE], const SnapshotMerge *m, NodeRole role)
{
        g_autofree char *name = g_path_get_basename(m->r->file), *base = layer_name_base(name);
        struct layer_name n;

        g_assert(base && layer_name_parse(name, base, &n)); /* it is ours */
        node_name(ret, n.id, n.disk, role);
}

static void ask_for_nodes(SnapshotMerge *m, hypervisor_reply_func done)
{
        merge_command(m, "query-named-block-nodes", block_nodes_flat(), done);
}

/* ---- which nodes there are ---- */

static JsonObject *node_named(JsonNode *result, const char *name)
{
        JsonArray *nodes = qmp_array(result);

        for (guint i = 0; nodes && i < json_array_get_length(nodes); i++) {
                JsonObject *n = qmp_object(json_array_get_element(nodes, i));

                if (n && g_strcmp0(qmp_string(n, "node-name"), name) == 0)
                        return n;
        }
        return NULL;
}

static void on_nodes(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        const struct vm_disk *d = merge_settle_disk(m->r, m->found);
        g_autoptr(GError) lost = NULL;
        JsonObject *top;

        if (error) {
                merge_settle_again(m, error);
                return;
        }
        g_clear_pointer(&m->top, g_free);
        g_clear_pointer(&m->top_file, g_free);
        g_clear_pointer(&m->below, g_free);
        g_clear_pointer(&m->top_options, json_object_unref);
        top = node_named(result, d->node);
        m->top = g_strdup(d->node);
        m->top_options = top ? json_object_ref(top) : NULL;
        m->top_file = vm_disk_node_of(result, d->file, "file");
        m->below = m->r->below ? vm_disk_node_of(result, m->r->below, m->r->below_format) : NULL;
        if (top && m->top_file && (m->below || !m->r->below)) {
                merge_next(m);
                return;
        }
        lost = g_error_new(MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                           "QEMU does not tell the nodes of the disk %s, its file and what it stands on",
                           m->r->device);
        merge_settle_again(m, lost);
}

static void step_find_nodes(SnapshotMerge *m)
{
        ask_for_nodes(m, on_nodes);
}

/* ---- the new file's ---- */

/* A node that is not there is refused, which is as good. */
static void on_new_file_dropped(JsonNode *result, const GError *error, gpointer user)
{
        merge_next(user);
}

static void on_new_dropped(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        char file[NODE_NAME_SIZE];

        own_node(file, m, NODE_MERGED_FILE);
        merge_command(m, "blockdev-del", block_del(file), on_new_file_dropped);
}

static void step_drop_new(SnapshotMerge *m)
{
        char image[NODE_NAME_SIZE];

        if (!m->found) {
                merge_next(m);
                return;
        }
        own_node(image, m, NODE_MERGED);
        merge_command(m, "blockdev-del", block_del(image), on_new_dropped);
}

static void on_done(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        if (error)
                merge_settle_again(m, error);
        else
                merge_next(m);
}

static void step_add_file(SnapshotMerge *m)
{
        char file[NODE_NAME_SIZE];

        own_node(file, m, NODE_MERGED_FILE);
        fault_point("merge-add");
        merge_command(m, "blockdev-add", block_add_file(file, m->r->file, TRUE), on_done);
}

static void step_add_image(SnapshotMerge *m)
{
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE];

        own_node(file, m, NODE_MERGED_FILE);
        own_node(image, m, NODE_MERGED);
        merge_command(m, "blockdev-add", block_add_image(image, "qcow2", file, m->below, TRUE), on_done);
}

/* ---- the top ---- */

static void reopen_drive(SnapshotMerge *m, const char *image)
{
        const struct vm_disk *d = merge_settle_disk(m->r, m->found);
        JsonObject *arguments = block_reopen_drive(d->device, image);
        g_autoptr(GError) odd = NULL;

        if (arguments) {
                merge_command(m, "human-monitor-command", arguments, on_done);
                return;
        }
        odd = g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                          "the drive %s has a name that cannot be said in QEMU's monitor: its history is not "
                          "merged",
                          d->device);
        merge_settle_again(m, odd);
}

static void step_reopen(SnapshotMerge *m)
{
        char image[NODE_NAME_SIZE];

        own_node(image, m, NODE_MERGED);
        fault_point("merge-reopen");
        if (*m->top == '#') {
                reopen_drive(m, image);
                return;
        }
        merge_command(m, "blockdev-reopen",
                      block_keep_options(block_reopen(m->top, m->top_file, image), m->top_options), on_done);
}

static void step_change_header(SnapshotMerge *m)
{
        fault_point("merge-header");
        merge_command(m, "change-backing-file", block_change_backing(m->top, m->r->file), on_done);
}

/* ---- the old ones ---- */

static gboolean is_old(const SnapshotMerge *m, JsonObject *node, const char *file, gboolean is_file)
{
        g_autofree char *of = vm_disk_file_of(qmp_string(node, "file"));

        return g_strcmp0(of, file) == 0 && (g_strcmp0(qmp_string(node, "drv"), "file") == 0) == is_file;
}

/* Nodes that QEMU has named itself ("#block123") go by themselves. */
static void gather(SnapshotMerge *m, JsonArray *nodes, const char *file, gboolean is_file)
{
        for (guint i = 0; i < json_array_get_length(nodes); i++) {
                JsonObject *n = qmp_object(json_array_get_element(nodes, i));
                const char *name = n ? qmp_string(n, "node-name") : NULL;

                if (name && *name != '#' && is_old(m, n, file, is_file))
                        g_ptr_array_add(m->old, g_strdup(name));
        }
}

static void on_old_found(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;
        JsonArray *nodes = qmp_array(result);

        if (error) {
                merge_settle_again(m, error);
                return;
        }
        g_clear_pointer(&m->old, g_ptr_array_unref);
        m->old = g_ptr_array_new_with_free_func(g_free);
        m->k = 0;
        if (nodes) { /* the top one first, each image before its file */
                gather(m, nodes, m->r->upper_file, FALSE);
                gather(m, nodes, m->r->upper_file, TRUE);
                gather(m, nodes, m->r->lower_file, FALSE);
                gather(m, nodes, m->r->lower_file, TRUE);
        }
        merge_next(m);
}

static void step_find_old(SnapshotMerge *m)
{
        if (m->found)
                ask_for_nodes(m, on_old_found);
        else
                merge_next(m);
}

static void step_drop_old(SnapshotMerge *m);

/* One that somebody else has in use stays, and its file with it: the sweep sees QEMU's lock. */
static void on_old_dropped(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotMerge *m = user;

        m->k++;
        step_drop_old(m);
}

static void step_drop_old(SnapshotMerge *m)
{
        if (m->found && m->k < m->old->len)
                merge_command(m, "blockdev-del", block_del(m->old->pdata[m->k]), on_old_dropped);
        else
                merge_next(m);
}

/* ---- ways ---- */

static MergeSettle settle(const SnapshotMerge *m)
{
        return merge_settle(m->r, m->found, &m->look);
}

static const merge_step way_put[] = {step_find_nodes, step_drop_new, step_add_file,
                                     step_add_image,  step_reopen,   merge_step_settle};
static const merge_step way_put_off[] = {merge_step_set_header};
static const merge_step way_half[] = {step_find_nodes, step_change_header, merge_step_settle};
static const merge_step way_tidy[] = {step_find_old, step_drop_old, merge_step_record};
static const merge_step way_back[] = {step_drop_new, merge_step_remove};

const struct merge_kind merge_by_qemu = {.settle = settle,
                                         .put = way_put,
                                         .put_off = way_put_off,
                                         .half = way_half,
                                         .tidy = way_tidy,
                                         .back = way_back};
