/* host-service/layers/layer_restore.c - the steps of a restore, in order: maps, plan, write. */
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_get.h"
#include "host-service/layers/token_bucket.h"
#include "host-service/store/transfer.h"

#define PARALLEL 4 /* chunks under way at once */

struct LayerRestore {
        const struct host_env *env;
        struct layer_get get;
        struct layer_ref *refs;
        uint8_t (*digests)[DIGEST_SIZE]; /* that refs point to */
        guint n;
        struct layer_restore_options options;
        struct token_bucket bucket;
        struct layer_progress progress;
        Transfer *transfer; /* NULL while the plan is made */
        GCancellable *cancellable;
        gboolean cancelled;
        layer_restore_done done;
        gpointer user;
};

static void end(LayerRestore *r, const GError *error)
{
        const struct layer_get *g = &r->get;
        const struct layer_restore_result result = {
                .data_bytes = g->data_bytes,
                .zero_bytes = g->zero_bytes,
                .chunks = g->first ? g->first->len : 0,
                .found = (guint)g->found,
                .fetched_bytes = (guint64)g->fetched_bytes,
        };

        r->done(error ? NULL : &result, error, r->user);
        layer_get_clear(&r->get);
        for (guint i = 0; i < r->n; i++)
                g_free((char *)r->refs[i].id);
        g_free(r->refs);
        g_free(r->digests);
        g_object_unref(r->cancellable);
        g_free(r);
}

/* A reader, and GLib, may have another word for it. */
static void end_early(LayerRestore *r, const GError *error)
{
        g_autoptr(GError) cancelled = g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled");

        end(r, r->cancelled ? cancelled : error);
}

static guint pace(gpointer user)
{
        LayerRestore *r = user;

        return token_bucket_wait_ms(&r->bucket, host_monotonic_us(r->env));
}

static void transfer(LayerRestore *r, guint count, transfer_step_func step, transfer_done_func done)
{
        r->transfer =
                transfer_start(r->env, "restoring a disk from its layers", count, PARALLEL, step, done, r);
        transfer_set_pace(r->transfer, pace);
        if (r->cancelled)
                transfer_cancel(r->transfer);
}

static void on_written(const GError *error, gpointer user)
{
        LayerRestore *r = user;

        r->transfer = NULL;
        end(r, error);
}

static gboolean write_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        LayerRestore *r = user;
        guint64 written;
        gsize fetched;

        if (!layer_get_write(&r->get, index, &fetched, &written, cancellable, error))
                return FALSE;
        token_bucket_spend(&r->bucket, fetched);
        __atomic_add_fetch(&r->progress.moved_bytes, (gint64)fetched, __ATOMIC_RELAXED);
        __atomic_add_fetch(&r->progress.done, (gint64)written, __ATOMIC_RELAXED);
        if (r->options.done)
                __atomic_add_fetch(r->options.done, (gint64)written, __ATOMIC_RELAXED);
        return TRUE;
}

static gpointer plan_work(gpointer data, GCancellable *cancellable, GError **error)
{
        LayerRestore *r = data;

        return layer_get_plan(&r->get, error) ? r : NULL;
}

static void on_planned(gpointer result, GError *error, gpointer user)
{
        LayerRestore *r = user;

        if (error) {
                end_early(r, error);
                return;
        }
        r->progress.total = (gint64)r->get.data_bytes;
        if (r->options.total)
                __atomic_store_n(r->options.total, r->progress.total, __ATOMIC_RELAXED);
        transfer(r, layer_get_steps(&r->get), write_step, on_written);
}

static gboolean map_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        LayerRestore *r = user;

        return layer_get_map(&r->get, index, &r->refs[index], cancellable, error);
}

static void on_maps(const GError *error, gpointer user)
{
        LayerRestore *r = user;

        r->transfer = NULL;
        if (error)
                end(r, error);
        else
                r->env->worker->run(r->env->self, plan_work, r, r->cancellable, on_planned, r);
}

static void copy_refs(LayerRestore *r, const struct layer_ref *refs)
{
        r->refs = g_new0(struct layer_ref, r->n);
        r->digests = g_malloc0(r->n * sizeof *r->digests);
        for (guint i = 0; i < r->n; i++) {
                r->refs[i].id = g_strdup(refs[i].id);
                if (refs[i].map_digest)
                        r->refs[i].map_digest = memcpy(r->digests[i], refs[i].map_digest, DIGEST_SIZE);
        }
}

LayerRestore *layer_restore_start(const struct host_env *env, ObjectStore *objects,
                                  const struct layer_ref *newest_first, guint n, struct layer_writer *writer,
                                  const struct layer_restore_options *options, layer_restore_done done,
                                  gpointer user)
{
        LayerRestore *r = g_new0(LayerRestore, 1);

        g_assert(n > 0);
        r->env = env;
        r->n = n;
        copy_refs(r, newest_first);
        if (options)
                r->options = *options;
        r->done = done;
        r->user = user;
        r->cancellable = g_cancellable_new();
        layer_get_init(&r->get, objects, writer, n, &r->options);
        token_bucket_init(&r->bucket, r->options.rate_bytes_per_s, host_monotonic_us(env));
        transfer(r, n, map_step, on_maps);
        return r;
}

void layer_restore_cancel(LayerRestore *r)
{
        r->cancelled = TRUE;
        g_cancellable_cancel(r->cancellable);
        if (r->transfer)
                transfer_cancel(r->transfer);
}

const struct layer_progress *layer_restore_progress(const LayerRestore *r)
{
        return &r->progress;
}
