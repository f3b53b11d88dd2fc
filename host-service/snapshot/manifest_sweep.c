/* host-service/snapshot/manifest_sweep.c - removing manifests, again and again while the store is ill. */
#include "host-service/snapshot/manifest_sweep.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/catalogue/removals.h"
#include "host-service/layers/snapshot_manifest.h"
#include "host-service/store/transfer.h"

#define PARALLEL      4
#define AGAIN_MS      (60u * 1000u)
#define AGAIN_LAST_MS (30u * 60u * 1000u)

struct ManifestSweep {
        const struct host_env *env;
        Catalogue *catalogue;
        manifest_swept_func swept;
        gpointer user;
        GPtrArray *rows; /* of RemovalRecord; NULL: no pass is under way */
        gboolean *done;  /* by row; a thread writes its own */
        Transfer *transfer;
        gboolean again, gone;
        GSource *soon;
        guint again_ms;
};

static gboolean begin(gpointer user);

static void end_pass(ManifestSweep *s, const GError *error)
{
        guint left = 0;

        for (guint i = 0; i < s->rows->len; i++) {
                const RemovalRecord *r = s->rows->pdata[i];

                if (!s->done[i] || !catalogue_removal_done(s->catalogue, r->snapshot, NULL))
                        left++;
        }
        g_clear_pointer(&s->rows, g_ptr_array_unref);
        g_clear_pointer(&s->done, g_free);
        if (s->gone)
                return;
        if (error)
                event_log(EVENT_WARNING, "snapshot-manifest-kept", error->message, NULL);
        s->again_ms = left == 0 ? 0 : s->again_ms ? MIN(2 * s->again_ms, AGAIN_LAST_MS) : AGAIN_MS;
        if (s->again) { /* who asked meanwhile is told after that one */
                manifest_sweep_run(s);
                return;
        }
        if (left > 0 && s->env->objects)
                s->soon = host_timer_add(s->env, s->again_ms, begin, s);
        s->swept(left, error, s->user);
}

static void on_removed(const GError *error, gpointer user)
{
        ManifestSweep *s = user;

        s->transfer = NULL;
        end_pass(s, error);
}

static gboolean remove_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        ManifestSweep *s = user;
        ObjectStore *o = s->env->objects;
        const RemovalRecord *r = s->rows->pdata[index];
        g_autofree char *key = snapshot_key(r->vm, r->snapshot);

        fault_point("manifest-remove");
        s->done[index] = o->ops->remove(o, key, cancellable, error);
        return s->done[index];
}

static gboolean begin(gpointer user)
{
        ManifestSweep *s = user;
        g_autoptr(GError) error = NULL;

        host_timer_clear(&s->soon);
        s->again = FALSE;
        s->rows = catalogue_removal_list(s->catalogue, &error);
        if (!s->rows)
                s->rows = g_ptr_array_new();
        s->done = g_new0(gboolean, s->rows->len + 1);
        if (!s->env->objects || s->rows->len == 0) /* without a store they wait for one */
                end_pass(s, error);
        else
                s->transfer = transfer_start(s->env, "removing manifests of restore points", s->rows->len,
                                             PARALLEL, remove_step, on_removed, s);
        return G_SOURCE_REMOVE;
}

ManifestSweep *manifest_sweep_new(const struct host_env *env, Catalogue *c, manifest_swept_func swept,
                                  gpointer user)
{
        ManifestSweep *s = g_new0(ManifestSweep, 1);

        s->env = env;
        s->catalogue = c;
        s->swept = swept;
        s->user = user;
        return s;
}

void manifest_sweep_free(ManifestSweep *s)
{
        if (!s)
                return;
        s->gone = TRUE;
        host_timer_clear(&s->soon);
        if (s->transfer)
                transfer_cancel(s->transfer);
        while (s->transfer)
                g_main_context_iteration(s->env->context, TRUE);
        g_free(s);
}

void manifest_sweep_run(ManifestSweep *s)
{
        if (s->rows) {
                s->again = TRUE;
                return;
        }
        host_timer_clear(&s->soon);
        s->soon = host_timer_add(s->env, 0, begin, s);
}
