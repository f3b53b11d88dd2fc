/* host-service/snapshot/layers_sweep.c - one VM after the other, one layer after the other; files in a worker
 * thread. */
#include "host-service/snapshot/layers_sweep.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/merges.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/merge_files.h"

struct LayersSweep {
        const struct host_env *env;
        Catalogue *catalogue;
        const LayerRefs *refs;
        GHashTable *vms; /* names: to be looked at by the next run */
        GPtrArray *now;  /* of this run; NULL: none is under way */
        GPtrArray *unneeded;
        guint k;
        gboolean kept; /* of the present VM: something could not go yet */
        gboolean working, again, gone;
        GSource *soon;
        GCancellable *cancellable;
};

/* ---- who needs what ---- */

/* With all that it stands on. */
static void need(GHashTable *rows, GHashTable *needed, const char *id)
{
        for (const LayerRecord *r; id && (r = g_hash_table_lookup(rows, id)); id = r->parent)
                if (!g_hash_table_add(needed, r->id))
                        return;
}

static void need_snapshot(GHashTable *rows, GHashTable *needed, const SnapshotRecord *s)
{
        for (guint i = 0; i < s->disks->len; i++) {
                const struct snapshot_disk *d = s->disks->pdata[i];
                g_autofree char *id = layer_name_id(d->layer);

                need(rows, needed, id);
                need(rows, needed, d->next_on);
        }
}

static void need_merge(GHashTable *rows, GHashTable *needed, const MergeRecord *m)
{
        need(rows, needed, m->id);
        need(rows, needed, m->upper);
        need(rows, needed, m->lower);
}

GPtrArray *layers_sweep_unneeded(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) layers = catalogue_layer_list(c, vm, error);
        g_autoptr(GPtrArray) snapshots = layers ? catalogue_snapshot_list(c, vm, G_MAXUINT, error) : NULL;
        g_autoptr(GPtrArray) merges = snapshots ? catalogue_merge_list(c, vm, error) : NULL;
        g_autoptr(GHashTable) rows = g_hash_table_new(g_str_hash, g_str_equal),
                              needed = g_hash_table_new(g_str_hash, g_str_equal);
        GPtrArray *unneeded;

        if (!merges)
                return NULL;
        for (guint i = 0; i < layers->len; i++)
                g_hash_table_insert(rows, ((LayerRecord *)layers->pdata[i])->id, layers->pdata[i]);
        for (guint i = 0; i < snapshots->len; i++)
                need_snapshot(rows, needed, snapshots->pdata[i]);
        for (guint i = 0; i < merges->len; i++)
                need_merge(rows, needed, merges->pdata[i]);
        unneeded = g_ptr_array_new_with_free_func((GDestroyNotify)layer_record_free);
        for (guint i = layers->len; i-- > 0;) {
                LayerRecord *r = layers->pdata[i];

                if (r->sealed_us && !g_hash_table_contains(needed, r->id))
                        g_ptr_array_add(unneeded, g_steal_pointer(&layers->pdata[i]));
        }
        return unneeded;
}

/* ---- one after the other ---- */

static void next(LayersSweep *s);

static void really_free(LayersSweep *s)
{
        host_timer_clear(&s->soon);
        g_hash_table_unref(s->vms);
        g_clear_pointer(&s->now, g_ptr_array_unref);
        g_clear_pointer(&s->unneeded, g_ptr_array_unref);
        g_object_unref(s->cancellable);
        g_free(s);
}

LayersSweep *layers_sweep_new(const struct host_env *env, Catalogue *c, const LayerRefs *refs)
{
        LayersSweep *s = g_new0(LayersSweep, 1);

        s->env = env;
        s->catalogue = c;
        s->refs = refs;
        s->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        s->cancellable = g_cancellable_new();
        return s;
}

void layers_sweep_free(LayersSweep *s)
{
        if (!s)
                return;
        s->gone = TRUE;
        if (!s->working)
                really_free(s);
}

static const LayerRecord *present(const LayersSweep *s)
{
        return s->unneeded->pdata[s->k];
}

static void keep(LayersSweep *s, const GError *why)
{
        event_log(EVENT_WARNING, "layer-kept", why->message, "vm", present(s)->vm, "layer", present(s)->id,
                  NULL);
        s->kept = TRUE;
        s->k++;
}

static void forget(LayersSweep *s)
{
        g_autoptr(GError) error = NULL;

        if (catalogue_layer_forget(s->catalogue, present(s)->id, &error))
                s->k++;
        else
                keep(s, error);
}

static gpointer work(gpointer data, GCancellable *cancellable, GError **error)
{
        LayersSweep *s = data;

        fault_point("layer-sweep");
        if (!merge_files_remove(present(s)->file, error))
                return NULL;
        fault_point("layer-swept");
        return s;
}

static void on_removed(gpointer result, GError *error, gpointer user)
{
        LayersSweep *s = user;

        s->working = FALSE;
        if (s->gone) {
                really_free(s);
                return;
        }
        if (error)
                keep(s, error);
        else
                forget(s);
        next(s);
}

static void end_vm(LayersSweep *s)
{
        g_clear_pointer(&s->unneeded, g_ptr_array_unref);
        if (s->kept)
                g_hash_table_add(s->vms, g_strdup(s->now->pdata[s->now->len - 1]));
        g_ptr_array_set_size(s->now, (gint)s->now->len - 1);
}

/* What became needed since, by a job that has just begun, is not there any more to be found. */
static void next(LayersSweep *s)
{
        while (s->k < s->unneeded->len) {
                if (layer_refs_count(s->refs, present(s)->id) > 0) {
                        s->kept = TRUE;
                        s->k++;
                } else if (!present(s)->file) {
                        forget(s);
                } else {
                        s->working = TRUE;
                        s->env->worker->run(s->env->self, work, s, s->cancellable, on_removed, s);
                        return;
                }
        }
        end_vm(s);
        s->again = s->again || s->now->len > 0;
        if (s->now->len == 0)
                g_clear_pointer(&s->now, g_ptr_array_unref);
        if (s->again)
                layers_sweep_run(s);
}

static void take_vms(LayersSweep *s)
{
        GHashTableIter i;
        gpointer name;

        s->now = g_ptr_array_new_with_free_func(g_free);
        g_hash_table_iter_init(&i, s->vms);
        while (g_hash_table_iter_next(&i, &name, NULL)) {
                g_ptr_array_add(s->now, name);
                g_hash_table_iter_steal(&i);
        }
}

/* One VM for each turn of the loop: rows are read on it. */
static gboolean begin(gpointer user)
{
        LayersSweep *s = user;
        g_autoptr(GError) error = NULL;

        host_timer_clear(&s->soon);
        s->again = FALSE;
        if (!s->now)
                take_vms(s);
        if (s->now->len == 0) {
                g_clear_pointer(&s->now, g_ptr_array_unref);
                return G_SOURCE_REMOVE;
        }
        s->k = 0;
        s->kept = FALSE;
        s->unneeded = layers_sweep_unneeded(s->catalogue, s->now->pdata[s->now->len - 1], &error);
        if (!s->unneeded) {
                event_log(EVENT_WARNING, "layer-kept", error->message, "vm",
                          (const char *)s->now->pdata[s->now->len - 1], NULL);
                s->unneeded = g_ptr_array_new();
                s->kept = TRUE;
        }
        next(s);
        return G_SOURCE_REMOVE;
}

void layers_sweep_look(LayersSweep *s, const char *vm)
{
        g_autoptr(GPtrArray) all = vm ? NULL : catalogue_layer_vms(s->catalogue, NULL);

        if (vm)
                g_hash_table_add(s->vms, g_strdup(vm));
        for (guint i = 0; all && i < all->len; i++)
                g_hash_table_add(s->vms, g_strdup(all->pdata[i]));
}

void layers_sweep_run(LayersSweep *s)
{
        if (s->unneeded)
                s->again = TRUE; /* after the present one */
        else if (!s->soon)
                s->soon = host_timer_add(s->env, 0, begin, s);
}
