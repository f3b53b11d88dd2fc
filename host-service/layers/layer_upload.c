/* host-service/layers/layer_upload.c - the steps of an upload, in order: cut, find, send, map, confirm,
 * verify. */
#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/layers/layer_put.h"
#include "host-service/layers/layer_task.h"
#include "host-service/layers/layer_walk.h"
#include "host-service/layers/token_bucket.h"
#include "host-service/store/transfer.h"

#define PARALLEL 4 /* chunks under way at once */

struct LayerUpload {
        const struct host_env *env;
        char *id, *what; /* what: for the log */
        struct layer_put put;
        struct layer_upload_options options;
        struct token_bucket bucket;
        struct layer_progress progress;
        gint64 readable; /* bytes of data that the reader has */
        GCancellable *cancellable;
        gboolean cancelled;
        Transfer *transfer; /* NULL while the layer is cut */
        gboolean confirming;
        layer_upload_done done;
        gpointer user;
};

static void end(LayerUpload *u, const GError *error)
{
        const struct layer_put *p = &u->put;
        struct layer_upload_result r = {
                .sent_chunks = (guint64)p->sent_chunks,
                .sent_bytes = (guint64)p->sent_bytes,
                .already_there = p->is_there,
        };

        if (!error) {
                memcpy(r.map_digest, p->digest, sizeof r.map_digest);
                r.data_bytes = layer_map_data_bytes(p->map);
                r.chunks = p->map->chunks->len;
        }
        u->done(error ? NULL : &r, error, u->user);
        layer_put_clear(&u->put);
        g_object_unref(u->cancellable);
        g_free(u->id);
        g_free(u->what);
        g_free(u);
}

/* A reader, and GLib, may have another word for it. */
static void end_early(LayerUpload *u, const GError *error)
{
        g_autoptr(GError) cancelled = g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled");

        end(u, u->cancelled ? cancelled : error);
}

static guint pace(gpointer user)
{
        LayerUpload *u = user;

        return token_bucket_wait_ms(&u->bucket, host_monotonic_us(u->env));
}

static void transfer(LayerUpload *u, guint count, transfer_step_func step, transfer_done_func done)
{
        u->transfer = transfer_start(u->env, u->what, count, PARALLEL, step, done, u);
        transfer_set_pace(u->transfer, pace);
        if (u->cancelled)
                transfer_cancel(u->transfer);
}

static void count_sent(LayerUpload *u, gsize bytes)
{
        token_bucket_spend(&u->bucket, bytes);
        __atomic_add_fetch(&u->progress.moved_bytes, (gint64)bytes, __ATOMIC_RELAXED);
}

static void on_verified(const GError *error, gpointer user)
{
        LayerUpload *u = user;

        u->transfer = NULL;
        end(u, error);
}

static gboolean verify_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        return layer_put_verify(&((LayerUpload *)user)->put, index, cancellable, error);
}

static void on_confirmed(const GError *error, gpointer user)
{
        LayerUpload *u = user;

        u->transfer = NULL;
        if (error || !u->options.verify)
                end(u, error);
        else
                transfer(u, u->put.map->chunks->len, verify_step, on_verified);
}

static gboolean chunk_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        LayerUpload *u = user;
        gsize sent;

        if (!layer_put_chunk(&u->put, index, &sent, cancellable, error))
                return FALSE;
        count_sent(u, sent);
        if (!u->confirming)
                __atomic_add_fetch(&u->progress.done,
                                   g_array_index(u->put.map->chunks, struct layer_chunk, index).len,
                                   __ATOMIC_RELAXED);
        return TRUE;
}

static gboolean map_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        LayerUpload *u = user;
        gsize sent;

        if (!layer_put_map(&u->put, &sent, cancellable, error))
                return FALSE;
        count_sent(u, sent);
        return TRUE;
}

static void on_map_put(const GError *error, gpointer user)
{
        LayerUpload *u = user;

        u->transfer = NULL;
        u->confirming = TRUE;
        if (error)
                end(u, error);
        else
                transfer(u, u->put.map->chunks->len, chunk_step, on_confirmed);
}

static void on_sent(const GError *error, gpointer user)
{
        LayerUpload *u = user;

        u->transfer = NULL;
        if (error)
                end(u, error);
        else
                transfer(u, 1, map_step, on_map_put);
}

static gboolean find_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        return layer_put_find(&((LayerUpload *)user)->put, cancellable, error);
}

/* Also if the map is there: what it has lost is put back. */
static void on_found(const GError *error, gpointer user)
{
        LayerUpload *u = user;

        u->transfer = NULL;
        if (error) {
                end(u, error);
                return;
        }
        if (u->put.replaces)
                event_log(EVENT_NOTICE, "layer-map-replaced",
                          "the store has another map of the layer, or a damaged one: it is replaced when the "
                          "chunks are there",
                          "layer", u->id, "store", u->put.push.objects->name, NULL);
        transfer(u, u->put.map->chunks->len, chunk_step, on_sent);
}

static gpointer cut_work(gpointer data, GCancellable *cancellable, GError **error)
{
        LayerUpload *u = data;
        uint64_t bytes = 0;

        if (!layer_walk_count(u->put.reader, &bytes, cancellable, error)) {
                g_prefix_error(error, "reading layer %s: ", u->id);
                return NULL;
        }
        u->readable = (gint64)bytes;
        __atomic_store_n(&u->progress.total, 2 * u->readable, __ATOMIC_RELAXED); /* read, then sent */
        return layer_put_cut(&u->put, &u->progress.done, cancellable, error) ? u : NULL;
}

static void on_cut(gpointer result, GError *error, gpointer user)
{
        LayerUpload *u = user;
        gint64 chunks = 0;

        if (error) {
                end_early(u, error);
                return;
        }
        for (guint i = 0; i < u->put.map->chunks->len; i++)
                chunks += g_array_index(u->put.map->chunks, struct layer_chunk, i).len;
        /* what was left out is done */
        __atomic_add_fetch(&u->progress.done, u->readable - chunks, __ATOMIC_RELAXED);
        transfer(u, 1, find_step, on_found);
}

LayerUpload *layer_upload_start(const struct host_env *env, ObjectStore *objects, const char *id,
                                struct layer_reader *reader, struct layer_reader *parent,
                                const struct layer_upload_options *options, layer_upload_done done,
                                gpointer user)
{
        LayerUpload *u = g_new0(LayerUpload, 1);

        g_assert(layer_id_is_valid(id));
        u->env = env;
        u->id = g_strdup(id);
        u->what = g_strconcat("uploading layer ", id, NULL);
        if (options)
                u->options = *options;
        u->done = done;
        u->user = user;
        u->cancellable = g_cancellable_new();
        layer_put_init(&u->put, objects, u->id, reader, parent);
        token_bucket_init(&u->bucket, u->options.rate_bytes_per_s, host_monotonic_us(env));
        env->worker->run(env->self, cut_work, u, u->cancellable, on_cut, u);
        return u;
}

void layer_upload_cancel(LayerUpload *u)
{
        u->cancelled = TRUE;
        g_cancellable_cancel(u->cancellable);
        if (u->transfer)
                transfer_cancel(u->transfer);
}

const struct layer_progress *layer_upload_progress(const LayerUpload *u)
{
        return &u->progress;
}
