/* host-service/snapshot/create_domain_name.c - a domain that was started from the well-known path of a disk.
 *
 * libvirt would go on calling the layer by that path, which is the new top's after a snapshot, and write it
 * into saved images and definitions. It cannot be told another name while the domain runs. So the top gets a
 * name of its own, the definition is changed to that (it is the same file), and the snapshot is refused until
 * the domain was started anew: once for each disk. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/fault.h"
#include "host-service/snapshot/layer_name.h"

/* The definition names it already. */
static gboolean is_named(const SnapshotCreate *s, const struct snapshot_disk *d)
{
        const char *file = create_domain_file(s, "defined", d);
        g_autofree char *name = g_path_get_basename(file), *base = layer_name_base(name);
        g_autofree char *own = g_path_get_basename(d->path);

        return g_strcmp0(base, own) == 0;
}

static void refuse(SnapshotCreate *s)
{
        g_autoptr(GError) why = g_error_new(
                MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                "VM \"%s\" was started from its disks' old names, by which libvirt would go on calling the "
                "files below after a snapshot. Its definition has names that stay now: shut it down and "
                "start "
                "it ('virsh shutdown', 'virsh start'; a reboot is not enough), and take the snapshot then. "
                "No "
                "other one of its snapshots will need that",
                s->r->vm);

        create_fail(s, why);
}

static void on_defined(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        s->renamed = !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED);
        if (error)
                create_fail(s, error);
        else
                refuse(s);
}

static void on_named(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        JsonObject *changes;

        if (!create_came_back(s))
                return;
        if (error) {
                create_fail(s, error);
                return;
        }
        changes = json_object_new();
        for (guint i = 0; i < s->r->disks->len; i++) {
                const struct snapshot_disk *d = s->disks[i].disk;

                if (d->is_first && !is_named(s, d))
                        create_define(changes, d, d->layer);
        }
        s->renamed = TRUE;
        fault_point("snapshot-name");
        create_ask_domain(s, VIRT_DISKS_DEFINE, changes, on_defined);
}

static gboolean name_one(SnapshotCreate *s, struct making *m, GError **error)
{
        return !m->disk->is_first || is_named(s, m->disk) ||
               (create_top_is_right(s, m, error) && layer_files_name_top(m->files, error));
}

void step_name_domain(SnapshotCreate *s)
{
        if (s->is_domain && create_has_first(s))
                create_run_files(s, name_one, on_named, s->cancellable);
        else
                create_next(s);
}
