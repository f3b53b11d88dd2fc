/* guest-agent/source_session.c - Fetch requests behind a blocking read. */
#include "guest-agent/source_session.h"

#include <string.h>

#include "common/error.h"
#include "guest-agent/worker.h"
#include "proto/limits.h"

#define FETCH_SILENCE_US (15 * G_USEC_PER_SEC)

struct source {
        PackSource base;
        Peers *peers;
        GMainContext *context;
        Moult__SourceKind kind;
        guint8 digest[32];

        GMutex lock;   /* of all below, and of every fetch's fields but `source`, `offset`, `length` */
        GCond changed; /* a fetch moved, a slot is free, somebody was cancelled */
        unsigned in_flight;
        gint64 last_byte_us;
        gboolean superseded, refused;
};

/* One request. The reader and the main loop hold a reference each. */
struct fetch {
        struct source *source; /* a reference */
        uint64_t offset;
        uint32_t length;
        uint8_t *dst; /* NULL once the reader has gone */
        uint32_t received;
        gboolean done;
        GError *error;

        Session *session; /* main loop only: where it was sent, while it is out */
        guint64 request_id;
};

static void fetch_clear(gpointer data)
{
        struct fetch *f = data;

        g_clear_error(&f->error);
        pack_source_unref(&f->source->base);
}

static void fetch_unref(struct fetch *f)
{
        g_atomic_rc_box_release_full(f, fetch_clear);
}

/* Under the lock. */
static void fetch_finish(struct fetch *f, GError *error)
{
        f->done = TRUE;
        f->error = error;
        f->source->in_flight--;
        g_cond_broadcast(&f->source->changed);
}

/* Pure: NULL if this is the next part of what was asked for. */
static const char *data_refusal(const struct fetch *f, const Moult__Data *d)
{
        if (d->offset != f->offset + f->received)
                return "data for another offset";
        if (d->bytes.len > f->length - f->received)
                return "more data than was asked for";
        if (d->last != (d->bytes.len == f->length - f->received))
                return "the end of the data is not where it was asked for";
        if (d->bytes.len == 0)
                return "no data";
        return NULL;
}

static gboolean is_refusal(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED);
}

/* Under the lock. True when no more parts are to come. */
static gboolean fetch_take(struct fetch *f, const Message *reply, const GError *error)
{
        const char *why = NULL;

        if (error) {
                f->source->refused |= is_refusal(error);
                fetch_finish(f, g_error_copy(error));
                return TRUE;
        }
        why = reply->body_case == MOULT__MESSAGE__BODY_DATA ? data_refusal(f, reply->data)
                                                            : "not an answer to a fetch";
        if (why) {
                fetch_finish(f, g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                            "the host answered a fetch with %s", why));
                return TRUE;
        }
        if (f->dst)
                memcpy(f->dst + f->received, reply->data->bytes.data, reply->data->bytes.len);
        f->received += (uint32_t)reply->data->bytes.len;
        f->source->last_byte_us = g_get_monotonic_time();
        g_cond_broadcast(&f->source->changed);
        if (f->received == f->length)
                fetch_finish(f, NULL);
        return f->done;
}

static void fetch_reply(Session *s, const Message *reply, const GError *error, gpointer user)
{
        struct fetch *f = user;
        struct source *src = f->source;
        gboolean ended, asked_for_more;

        g_mutex_lock(&src->lock);
        ended = fetch_take(f, reply, error);
        asked_for_more =
                ended && reply && reply->body_case == MOULT__MESSAGE__BODY_DATA && !reply->data->last;
        g_mutex_unlock(&src->lock);
        if (!ended)
                return;
        if (asked_for_more)
                session_forget(s, f->request_id);
        g_clear_pointer(&f->session, session_unref);
        fetch_unref(f);
}

/* Main loop: the reader has gone. */
static void fetch_abandon(gpointer user)
{
        struct fetch *f = user;
        struct source *src = f->source;

        if (f->session) {
                session_forget(f->session, f->request_id);
                g_clear_pointer(&f->session, session_unref);
                g_mutex_lock(&src->lock);
                fetch_finish(f, NULL);
                g_mutex_unlock(&src->lock);
                fetch_unref(f);
        }
        fetch_unref(f);
}

/* Main loop. */
static void fetch_post(gpointer user)
{
        struct fetch *f = user;
        struct source *src = f->source;
        Peer *host = peers_host(src->peers, src->kind);
        Moult__Fetch body = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;

        if (!host) {
                g_mutex_lock(&src->lock);
                fetch_finish(f, g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "no session to the host over %s",
                                            src->base.ops->name));
                g_mutex_unlock(&src->lock);
                fetch_unref(f);
                return;
        }
        body.manifest_digest = (ProtobufCBinaryData){sizeof src->digest, src->digest};
        body.offset = f->offset;
        body.length = f->length;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &body;
        f->session = session_ref(peer_session(host));
        f->request_id = session_request(f->session, &m, /* timeout_ms= */ 0, fetch_reply, f);
}

static void wake_readers(GCancellable *c, gpointer user)
{
        struct source *src = user;

        g_mutex_lock(&src->lock);
        g_cond_broadcast(&src->changed);
        g_mutex_unlock(&src->lock);
}

/* Under the lock: waits for a change. FALSE with @error when there is no sense in waiting on. */
static gboolean wait_change(struct source *src, gint64 since_us, GCancellable *c, GError **error)
{
        gint64 silent_since = MAX(since_us, src->last_byte_us);

        if (g_cancellable_set_error_if_cancelled(c, error))
                return FALSE;
        if (src->superseded) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "left for a better source");
                return FALSE;
        }
        if (g_cond_wait_until(&src->changed, &src->lock, silent_since + FETCH_SILENCE_US))
                return TRUE;
        if (MAX(since_us, src->last_byte_us) > silent_since)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT, "the host sent nothing over %s for %d s",
                    src->base.ops->name, (int)(FETCH_SILENCE_US / G_USEC_PER_SEC));
        return FALSE;
}

/* Under the lock: a fetch that is on its way to the main loop, or NULL. */
static struct fetch *fetch_begin(struct source *src, uint64_t offset, uint32_t length, uint8_t *dst)
{
        struct fetch *f = g_atomic_rc_box_new0(struct fetch);

        *f = (struct fetch){.source = src, .offset = offset, .length = length, .dst = dst};
        pack_source_ref(&src->base);
        src->in_flight++;
        main_context_post(src->context, fetch_post, g_atomic_rc_box_acquire(f));
        return f;
}

/* One read: the fetches that it has out, oldest first. */
struct reading {
        uint64_t offset;
        uint8_t *dst;
        size_t left; /* not asked for yet */
        GQueue out;
};

static void reading_ask(struct reading *r, struct source *src)
{
        while (r->left > 0 && src->in_flight < LIMIT_FETCHES_IN_FLIGHT) {
                uint32_t length = (uint32_t)MIN(r->left, LIMIT_FETCH_BYTES);

                g_queue_push_tail(&r->out, fetch_begin(src, r->offset, length, r->dst));
                r->offset += length;
                r->dst += length;
                r->left -= length;
        }
}

/* Under the lock. */
static gboolean reading_run(struct reading *r, struct source *src, GCancellable *c, GError **error)
{
        gint64 since_us = g_get_monotonic_time();

        for (;;) {
                struct fetch *f;

                reading_ask(r, src);
                f = g_queue_peek_head(&r->out);
                if (f && f->done) {
                        g_queue_pop_head(&r->out);
                        if (f->error)
                                g_propagate_error(error, g_error_copy(f->error));
                        gboolean ok = f->error == NULL;
                        fetch_unref(f);
                        if (!ok)
                                return FALSE;
                        continue;
                }
                if (!f && r->left == 0)
                        return TRUE;
                if (!wait_change(src, since_us, c, error))
                        return FALSE;
        }
}

static gboolean source_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *c,
                            GError **error)
{
        struct source *src = (struct source *)self;
        struct reading r = {offset, buf, len, G_QUEUE_INIT};
        gulong handler = c ? g_cancellable_connect(c, G_CALLBACK(wake_readers), src, NULL) : 0;
        struct fetch *f;
        gboolean ok;

        g_mutex_lock(&src->lock);
        ok = reading_run(&r, src, c, error);
        while ((f = g_queue_pop_head(&r.out))) {
                f->dst = NULL;
                main_context_post(src->context, fetch_abandon, f);
        }
        g_mutex_unlock(&src->lock);
        if (handler)
                g_cancellable_disconnect(c, handler);
        return ok;
}

static void source_free(PackSource *self)
{
        struct source *src = (struct source *)self;

        g_mutex_clear(&src->lock);
        g_cond_clear(&src->changed);
        g_main_context_unref(src->context);
        g_free(src);
}

static const struct pack_source_ops serial_ops = {.name = "virtio-serial",
                                                  .kind = MOULT__SOURCE_KIND__SOURCE_SERIAL,
                                                  .read = source_read,
                                                  .free = source_free};
static const struct pack_source_ops tls_ops = {
        .name = "tls", .kind = MOULT__SOURCE_KIND__SOURCE_TLS, .read = source_read, .free = source_free};

PackSource *source_session_new(Peers *peers, Moult__SourceKind kind, const guint8 manifest_digest[static 32],
                               uint64_t size)
{
        struct source *src = g_new0(struct source, 1);

        pack_source_init(&src->base, kind == MOULT__SOURCE_KIND__SOURCE_TLS ? &tls_ops : &serial_ops, size);
        src->peers = peers;
        src->context = peers_context(peers);
        src->kind = kind;
        memcpy(src->digest, manifest_digest, sizeof src->digest);
        g_mutex_init(&src->lock);
        g_cond_init(&src->changed);
        return &src->base;
}

void source_session_supersede(PackSource *source)
{
        struct source *src = (struct source *)source;

        g_mutex_lock(&src->lock);
        src->superseded = TRUE;
        g_cond_broadcast(&src->changed);
        g_mutex_unlock(&src->lock);
}

gboolean source_session_is_refused(PackSource *source)
{
        struct source *src = (struct source *)source;

        g_mutex_lock(&src->lock);
        gboolean refused = src->refused;
        g_mutex_unlock(&src->lock);
        return refused;
}

gint64 source_session_last_byte_us(PackSource *source)
{
        struct source *src = (struct source *)source;

        g_mutex_lock(&src->lock);
        gint64 us = src->last_byte_us;
        g_mutex_unlock(&src->lock);
        return us;
}
