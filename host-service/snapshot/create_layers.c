/* host-service/snapshot/create_layers.c - what a snapshot's layers stand on, and their rows. */
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/layers.h"
#include "host-service/catalogue/operations.h"
#include "host-service/snapshot/create_private.h"
#include "host-service/snapshot/layer_line.h"
#include "host-service/snapshot/layer_name.h"

static const struct vm_disk *found_disk(const SnapshotCreate *s, const struct making *m)
{
        for (guint i = 0; i < s->found->len; i++) {
                const struct vm_disk *d = s->found->pdata[i];

                if (g_str_equal(d->device, m->disk->device))
                        return d;
        }
        g_assert_not_reached(); /* it was chosen from there */
}

/* ---- which files a base is ---- */

/* A QEMU that was started anew has the top by the well-known path. It has had its own name since its birth,
 * and gets no other. */
static void use_own_name(SnapshotCreate *s, struct making *m)
{
        struct snapshot_disk *d = s->r->disks->pdata[m->disk->number];
        g_autofree char *file = create_file_beside(d, m->own_name);
        struct stat disk, own;

        if (stat(d->path, &disk) != 0 || stat(file, &own) != 0 || disk.st_dev != own.st_dev ||
            disk.st_ino != own.st_ino)
                return;
        g_free(d->layer);
        d->layer = g_strdup(m->own_name);
}

static gboolean look_below(SnapshotCreate *s, struct making *m, GError **error)
{
        const struct vm_disk *d = found_disk(s, m);
        g_autoptr(FileChain) below = file_chain_new();

        for (guint i = 0; i < d->below->len; i++) {
                const struct vm_image *image = d->below->pdata[i];

                file_chain_add(below, image->file ? image->file : "", image->format);
        }
        m->base_identity = file_chain_identity(below);
        if (m->own_name)
                use_own_name(s, m);
        return TRUE;
}

static void on_looked(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (!create_came_back(s))
                return;
        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

void step_look_below(SnapshotCreate *s)
{
        for (guint i = 0; i < s->r->disks->len; i++) {
                struct snapshot_top top = {0};

                if (s->disks[i].disk->is_first &&
                    catalogue_snapshot_top(s->catalogue, s->r->vm, s->disks[i].disk->path, &top, NULL))
                        s->disks[i].own_name = g_steal_pointer(&top.name);
                snapshot_top_clear(&top);
        }
        create_run_files(s, look_below, on_looked, s->cancellable);
}

/* ---- rows ---- */

static char *files_below(const struct vm_disk *d)
{
        g_autoptr(JsonArray) all = json_array_new();

        for (guint i = 1; i < d->below->len; i++) {
                const struct vm_image *image = d->below->pdata[i];
                JsonObject *o = json_object_new();

                json_object_set_text(o, "file", image->file);
                json_object_set_text(o, "format", image->format);
                json_array_add_object_element(all, o);
        }
        g_autoptr(JsonNode) node = json_node_init_array(json_node_alloc(), all);
        return json_to_string(node, FALSE);
}

/* Siblings that were cloned from it share it. One that cannot be told from others is a new one each time. */
static LayerRecord *base_of(SnapshotCreate *s, const struct making *m, const struct vm_disk *d,
                            GError **error)
{
        const struct vm_image *top = d->below->pdata[0];
        g_autofree char *below = files_below(d), *id = operation_id_new(s->catalogue);
        g_autoptr(LayerRecord) r = NULL;
        g_autoptr(GError) why = NULL;

        if (top->file && !strchr(m->base_identity, '?'))
                r = catalogue_layer_base(s->catalogue, top->file, below, m->base_identity, &why);
        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        if (r)
                return g_steal_pointer(&r);
        r = g_new0(LayerRecord, 1);
        r->id = g_strconcat("base-", id, NULL);
        r->file = g_strdup(top->file);
        r->format = g_strdup(top->format);
        r->size_bytes = d->size_bytes;
        r->sealed_us = s->r->created_us;
        r->below = g_steal_pointer(&below);
        r->identity = g_strdup(m->base_identity);
        return catalogue_layer_add(s->catalogue, r, error) ? g_steal_pointer(&r) : NULL;
}

/* QEMU still has the layer below by the well-known path, which is the top's by now. */
static LayerRecord *parent_by_path(SnapshotCreate *s, const struct making *m, GError **error)
{
        struct snapshot_top top;
        g_autofree char *id = NULL;

        if (!catalogue_snapshot_top(s->catalogue, s->r->vm, m->disk->path, &top, error))
                return NULL;
        id = top.on ? g_strdup(top.on) : layer_name_id(top.layer);
        snapshot_top_clear(&top);
        return catalogue_layer_get(s->catalogue, id, error);
}

static LayerRecord *parent_of(SnapshotCreate *s, const struct making *m, const struct vm_disk *d,
                              GError **error)
{
        const struct vm_image *below = d->below->pdata[0];
        g_autoptr(GError) why = NULL;
        LayerRecord *r = NULL;

        if (g_strcmp0(below->file, m->disk->path) == 0)
                return parent_by_path(s, m, error);
        if (below->file)
                r = catalogue_layer_of_file(s->catalogue, below->file, &why);
        if (!why)
                return r ? r : base_of(s, m, d, error);
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
}

static gboolean add_row(SnapshotCreate *s, const struct making *m, GError **error)
{
        const struct vm_disk *d = found_disk(s, m);
        g_autoptr(LayerRecord) r = g_new0(LayerRecord, 1), parent = NULL;

        if (d->below->len > 0 && !(parent = parent_of(s, m, d, error)))
                return FALSE;
        r->id = layer_name_id(m->disk->layer);
        r->vm = g_strdup(s->r->vm);
        r->disk = m->disk->number;
        r->parent = parent ? g_strdup(parent->id) : NULL;
        r->file = create_file_beside(m->disk, m->disk->layer);
        r->file_on = g_strdup(r->parent);
        r->format = g_strdup(m->disk->format);
        r->size_bytes = m->disk->size_bytes;
        return catalogue_layer_add(s->catalogue, r, error);
}

gboolean create_add_layers(SnapshotCreate *s, GError **error)
{
        for (guint i = 0; i < s->r->disks->len; i++)
                if (!add_row(s, &s->disks[i], error))
                        return FALSE;
        return TRUE;
}

gboolean create_end_layers(SnapshotCreate *s, gboolean taken, GError **error)
{
        for (guint i = 0; i < s->r->disks->len; i++) {
                const struct snapshot_disk *d = s->r->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);
                g_autoptr(GError) none = NULL;
                g_autoptr(LayerRecord) r = catalogue_layer_get(s->catalogue, id, &none);

                if (g_error_matches(none, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        continue; /* never written, or by a moultd that had no such rows */
                if (!(taken ? catalogue_layer_seal(s->catalogue, id, s->r->taken_us, error)
                            : catalogue_layer_drop(s->catalogue, id, error)))
                        return FALSE;
        }
        return TRUE;
}
