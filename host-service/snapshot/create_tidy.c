/* host-service/snapshot/create_tidy.c - after the first snapshot QEMU opens the layer by its own name, and
 * forgets that it ever had another.
 *
 * For each disk: look which nodes remember the well-known path (none: done), open the layer by its name over
 * the node that it stands on, give it to the new top as what is below, and let the old nodes go. */
#include "common/error.h"
#include "common/events.h"
#include "host-service/snapshot/block_commands.h"
#include "host-service/snapshot/create_private.h"

static void tidied(SnapshotCreate *s, const GError *error)
{
        if (error)
                event_log(EVENT_WARNING, "snapshot-name-kept",
                          "QEMU still has the layer open by the disk's well-known path: until the VM is "
                          "started "
                          "anew, no block job (block-commit, block-stream) must be run on it",
                          "vm", s->r->vm, "disk", s->disks[s->k].disk->device, "why", error->message, NULL);
        s->k++;
        step_tidy(s);
}

static void on_old_file_deleted(JsonNode *result, const GError *error, gpointer user)
{
        tidied(user, NULL);
}

/* Nodes of -drive have no name that could be said ("#block123"), and go by themselves. */
static gboolean has_name(const char *node)
{
        return node && *node != '#';
}

static void on_old_deleted(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        const char *file = s->disks[s->k].top_file;

        if (has_name(file))
                create_command(s, "blockdev-del", block_del(file), on_old_file_deleted);
        else
                tidied(s, NULL);
}

static void on_reopened(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        const char *top = s->disks[s->k].top;

        if (error)
                tidied(s, error);
        else if (has_name(top))
                create_command(s, "blockdev-del", block_del(top), on_old_deleted);
        else
                on_old_deleted(NULL, NULL, s);
}

static void on_layer_opened(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        char file[NODE_NAME_SIZE], image[NODE_NAME_SIZE], layer[NODE_NAME_SIZE];

        if (error) {
                tidied(s, error);
                return;
        }
        node_name(file, s->r->id, s->k, NODE_NEXT_FILE);
        node_name(image, s->r->id, s->k, NODE_NEXT);
        node_name(layer, s->r->id, s->k, NODE_LAYER);
        create_command(s, "blockdev-reopen", block_reopen(image, file, layer), on_reopened);
}

static void on_file_opened(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        struct making *m = &s->disks[s->k];
        char file[NODE_NAME_SIZE], layer[NODE_NAME_SIZE];

        if (error) {
                tidied(s, error);
                return;
        }
        node_name(file, s->r->id, s->k, NODE_LAYER_FILE);
        node_name(layer, s->r->id, s->k, NODE_LAYER);
        create_command(s, "blockdev-add", block_add_image(layer, m->disk->format, file, m->base, TRUE),
                       on_layer_opened);
}

/* What QEMU had found when it was asked: before the switch the layer is the top, afterwards it is below. */
static const struct vm_image *base_of(const SnapshotCreate *s)
{
        const struct snapshot_disk *disk = s->disks[s->k].disk;
        g_autofree char *next = create_file_beside(disk, disk->next);

        for (guint i = 0; i < s->found->len; i++) {
                const struct vm_disk *d = s->found->pdata[i];
                guint at = g_strcmp0(d->file, next) == 0 ? 1 : 0;

                if (g_str_equal(d->device, disk->device))
                        return d->below->len > at ? d->below->pdata[at] : NULL;
        }
        return NULL;
}

static void on_nodes(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        struct making *m = &s->disks[s->k];
        const struct vm_image *base = base_of(s);
        char file[NODE_NAME_SIZE];
        g_autofree char *path = NULL;
        g_autoptr(GError) lost = NULL;

        if (error) {
                tidied(s, error);
                return;
        }
        g_free(m->top);
        m->top = vm_disk_node_of(result, m->disk->path, m->disk->format);
        m->top_file = vm_disk_node_of(result, m->disk->path, "file");
        m->base = base && base->file ? vm_disk_node_of(result, base->file, base->format) : NULL;
        if (!m->top) { /* done already */
                tidied(s, NULL);
                return;
        }
        if (base && !m->base) {
                lost = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                           "the node that the layer stands on was not found");
                tidied(s, lost);
                return;
        }
        path = create_file_beside(m->disk, m->disk->layer);
        node_name(file, s->r->id, s->k, NODE_LAYER_FILE);
        create_command(s, "blockdev-add", block_add_file(file, path, TRUE), on_file_opened);
}

/* QEMU has the new top; one that was started from the well-known path meanwhile remembers nothing else. */
static gboolean is_on_next(const SnapshotCreate *s)
{
        const struct snapshot_disk *disk = s->disks[s->k].disk;
        g_autofree char *next = create_file_beside(disk, disk->next);

        for (guint i = 0; s->found && !s->switched && i < s->found->len; i++)
                if (g_strcmp0(((const struct vm_disk *)s->found->pdata[i])->file, next) == 0)
                        return TRUE;
        return s->switched;
}

void step_tidy(SnapshotCreate *s)
{

        while (s->k < s->r->disks->len && !(s->disks[s->k].disk->is_first && is_on_next(s)))
                s->k++;
        if (s->k == s->r->disks->len) {
                create_next(s);
                return;
        }
        create_command(s, "query-named-block-nodes", block_nodes_flat(), on_nodes);
}
