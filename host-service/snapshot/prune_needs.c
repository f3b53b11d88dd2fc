/* host-service/snapshot/prune_needs.c - what a restore point cannot go for. */
#include "host-service/snapshot/prune_needs.h"

#include "common/error.h"
#include "host-service/catalogue/layers.h"
#include "host-service/catalogue/removals.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/layer_name.h"

struct needs {
        Catalogue *catalogue;
        GHashTable *owners; /* id of a layer -> SnapshotRecord whose disk it is */
        GHashTable *needed;
};

static void add(struct needs *n, const SnapshotRecord *s, char *why)
{
        if (g_hash_table_contains(n->needed, s->id))
                g_free(why);
        else
                g_hash_table_insert(n->needed, s->id, why);
}

/* The first restore point on the way down from the layer @id; NULL with @error, or without: there is none. */
static const SnapshotRecord *owner_of(struct needs *n, const char *id, GError **error)
{
        g_autoptr(GPtrArray) line = catalogue_layer_line(n->catalogue, id, error);

        for (guint i = 0; line && i < line->len; i++) {
                const SnapshotRecord *s =
                        g_hash_table_lookup(n->owners, ((const LayerRecord *)line->pdata[i])->id);

                if (s)
                        return s;
        }
        return NULL;
}

/* The newest of a disk says what the disk's top is, and what that stands on: after a rollback an older one.
 */
static gboolean need_for_disk(struct needs *n, const SnapshotRecord *s, const struct snapshot_disk *d,
                              GError **error)
{
        g_autoptr(GError) why = NULL;
        const SnapshotRecord *base;

        add(n, s, g_strdup_printf("needed: disk %s goes on from it", d->device));
        if (!d->next_on)
                return TRUE;
        base = owner_of(n, d->next_on, &why);
        if (why) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        if (base)
                add(n, base, g_strdup_printf("needed: disk %s stands on it", d->device));
        return TRUE;
}

static gboolean need_for_disks(struct needs *n, const GPtrArray *snapshots, GError **error)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < snapshots->len; i++) {
                const SnapshotRecord *s = snapshots->pdata[i];

                for (guint k = 0; s->state == SNAPSHOT_TAKEN && k < s->disks->len; k++) {
                        const struct snapshot_disk *d = s->disks->pdata[k];

                        if (g_hash_table_add(seen, d->path) && !need_for_disk(n, s, d, error))
                                return FALSE;
                }
        }
        return TRUE;
}

static void need_for_jobs(struct needs *n, const GPtrArray *snapshots)
{
        for (guint i = 0; i < snapshots->len; i++) {
                const SnapshotRecord *s = snapshots->pdata[i];
                g_autofree char *job = catalogue_snapshot_job(n->catalogue, s->id);

                if (job)
                        add(n, s, g_strdup_printf("needed: job %s is not over", job));
        }
}

GHashTable *prune_needs(Catalogue *c, const GPtrArray *snapshots, GError **error)
{
        g_autoptr(GHashTable) owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GHashTable) needed = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
        struct needs n = {c, owners, needed};

        for (guint i = 0; i < snapshots->len; i++) {
                SnapshotRecord *s = snapshots->pdata[i];

                for (guint k = 0; k < s->disks->len; k++) {
                        char *id = layer_name_id(((const struct snapshot_disk *)s->disks->pdata[k])->layer);

                        if (id)
                                g_hash_table_replace(owners, id, s);
                }
        }
        if (!need_for_disks(&n, snapshots, error))
                return NULL;
        need_for_jobs(&n, snapshots);
        return g_steal_pointer(&needed);
}
