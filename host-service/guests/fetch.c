/* host-service/guests/fetch.c - serves blocks of offered packs over a session. */
#include "host-service/guests/fetch.h"

#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/guests/budget.h"
#include "proto/limits.h"

/* Requests served in a second and at once. With blocks of a MiB that is no bound; a guest that asks for
 * single bytes waits, instead of keeping our threads busy. */
#define REQUEST_RATE  2000u
#define REQUEST_BURST 2000u
#define RATE_WAIT_MS  20u

struct FetchPack {
        gint refs;
        const struct host_env *env;
        guint8 digest[DIGEST_SIZE];
        char *store_name;
        guint64 size_bytes;
        GMutex lock; /* fd: several workers may read the first time at once */
        int fd;
};

/* What a worker needs of one request; owns itself until the loop has it back. */
typedef struct {
        FetchServer *server; /* NULL: gone meanwhile; loop thread only */
        FetchPack *pack;
        guint64 request_id;
        guint64 offset;
        guint32 length;
        GCancellable *cancel;
} FetchJob;

struct FetchServer {
        const struct host_env *env;
        Session *session;
        fetch_lookup_func lookup;
        gpointer user;
        GQueue waiting; /* of FetchJob */
        FetchJob *reading;
        struct budget requests;
        GSource *later; /* pumps when the budget has filled up again */
        guint64 sent;
};

FetchPack *fetch_pack_new(const struct host_env *env, const guint8 digest[static DIGEST_SIZE],
                          const char *store_name, guint64 size_bytes)
{
        FetchPack *p = g_new0(FetchPack, 1);

        p->refs = 1;
        p->env = env;
        memcpy(p->digest, digest, DIGEST_SIZE);
        p->store_name = g_strdup(store_name);
        p->size_bytes = size_bytes;
        p->fd = -1;
        g_mutex_init(&p->lock);
        return p;
}

FetchPack *fetch_pack_ref(FetchPack *p)
{
        p->refs++;
        return p;
}

void fetch_pack_unref(FetchPack *p)
{
        if (!p || --p->refs > 0)
                return;
        if (p->fd >= 0)
                g_close(p->fd, NULL);
        g_mutex_clear(&p->lock);
        g_free(p->store_name);
        g_free(p);
}

const guint8 *fetch_pack_digest(const FetchPack *p)
{
        return p->digest;
}

static void job_free(FetchJob *job)
{
        if (!job)
                return;
        fetch_pack_unref(job->pack);
        g_object_unref(job->cancel);
        g_free(job);
}

FetchServer *fetch_server_new(const struct host_env *env, Session *session, fetch_lookup_func lookup,
                              gpointer user)
{
        FetchServer *f = g_new0(FetchServer, 1);

        f->env = env;
        f->session = session;
        f->lookup = lookup;
        f->user = user;
        f->requests = budget_new(REQUEST_RATE, REQUEST_BURST);
        g_queue_init(&f->waiting);
        return f;
}

void fetch_server_reset(FetchServer *f)
{
        FetchJob *job;

        host_timer_clear(&f->later);
        while ((job = g_queue_pop_head(&f->waiting)))
                job_free(job);
        if (f->reading) { /* on_read() frees it */
                g_cancellable_cancel(f->reading->cancel);
                f->reading->server = NULL;
                f->reading = NULL;
        }
}

void fetch_server_free(FetchServer *f)
{
        if (!f)
                return;
        fetch_server_reset(f);
        g_free(f);
}

guint64 fetch_server_sent(const FetchServer *f)
{
        return f->sent;
}

/* Worker thread. */
static int pack_fd(FetchPack *p, GError **error)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&p->lock);

        if (p->fd < 0)
                p->fd = p->env->store->open(p->env->self, p->store_name, error);
        return p->fd;
}

/* Worker thread. The GBytes of the request. */
static gpointer read_job(gpointer data, GCancellable *cancellable, GError **error)
{
        FetchJob *job = data;
        g_autofree void *buf = NULL;
        int fd;

        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return NULL;
        fd = pack_fd(job->pack, error);
        if (fd < 0)
                return NULL;
        buf = g_malloc(job->length);
        if (!fd_pread_all(fd, buf, job->length, (off_t)job->offset, job->pack->store_name, error))
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&buf), job->length);
}

static void answer_error(Session *s, guint64 request_id, const GError *error)
{
        Message request = MOULT__MESSAGE__INIT;

        request.id = request_id;
        session_reply_error(s, &request, error);
}

static void answer_data(FetchServer *f, const FetchJob *job, GBytes *bytes)
{
        Message request = MOULT__MESSAGE__INIT;
        const guint8 *data = g_bytes_get_data(bytes, NULL);

        request.id = job->request_id;
        for (guint32 at = 0; at < job->length && session_is_established(f->session); at += LIMIT_DATA_BYTES) {
                Moult__Data part = MOULT__DATA__INIT;
                Message reply = MOULT__MESSAGE__INIT;
                guint32 n = MIN(LIMIT_DATA_BYTES, job->length - at);

                part.offset = job->offset + at;
                part.bytes = message_blob(data + at, n);
                part.last = at + n == job->length;
                reply.body_case = MOULT__MESSAGE__BODY_DATA;
                reply.data = &part;
                session_reply(f->session, &request, &reply);
                f->sent += n;
        }
}

static void pump(FetchServer *f);

static void on_read(gpointer result, GError *error, gpointer user)
{
        FetchJob *job = user;
        FetchServer *f = job->server;
        g_autoptr(GBytes) bytes = result;

        if (f) {
                f->reading = NULL;
                if (bytes)
                        answer_data(f, job, bytes);
                else
                        answer_error(f->session, job->request_id, error);
        }
        job_free(job);
        if (f)
                pump(f);
}

static gboolean pump_later(gpointer user)
{
        FetchServer *f = user;

        host_timer_clear(&f->later);
        pump(f);
        return G_SOURCE_REMOVE;
}

static void pump(FetchServer *f)
{
        if (f->later || f->reading || g_queue_is_empty(&f->waiting) ||
            session_queued(f->session) >= LIMIT_SEND_LOW)
                return;
        if (!budget_take(&f->requests, 1, host_monotonic_us(f->env))) {
                f->later = host_timer_add(f->env, RATE_WAIT_MS, pump_later, f);
                return;
        }
        f->reading = g_queue_pop_head(&f->waiting);
        f->env->worker->run(f->env->self, read_job, f->reading, f->reading->cancel, on_read, f->reading);
}

/* NULL, or why this request is not served; *ret_code says of which class that is. */
static const char *request_refusal(const Moult__Fetch *q, const FetchPack *pack, guint waiting,
                                   MoultError *ret_code)
{
        *ret_code = MOULT_ERROR_NOT_FOUND;
        if (!pack)
                return "this pack is not offered to this guest now";
        *ret_code = MOULT_ERROR_CORRUPT;
        if (q->length == 0 || q->length > LIMIT_FETCH_BYTES)
                return "length out of range";
        if (q->offset > pack->size_bytes || q->length > pack->size_bytes - q->offset)
                return "the range leaves the pack";
        *ret_code = MOULT_ERROR_BUSY;
        if (waiting >= LIMIT_FETCHES_IN_FLIGHT)
                return "too many requests in flight";
        return NULL;
}

gboolean fetch_server_request(FetchServer *f, const Message *request)
{
        const Moult__Fetch *q = request->fetch;
        FetchPack *pack = f->lookup(q->manifest_digest.data, q->manifest_digest.len, f->user);
        guint waiting = g_queue_get_length(&f->waiting) + (f->reading ? 1 : 0);
        MoultError code;
        const char *why = request_refusal(q, pack, waiting, &code);
        FetchJob *job;

        if (why) {
                g_autoptr(GError) error =
                        g_error_new(MOULT_ERROR, (gint)code, "fetch of %u bytes at %" G_GUINT64_FORMAT ": %s",
                                    q->length, (guint64)q->offset, why);

                session_reply_error(f->session, request, error);
                return FALSE;
        }
        job = g_new0(FetchJob, 1);
        job->server = f;
        job->pack = fetch_pack_ref(pack);
        job->request_id = request->id;
        job->offset = q->offset;
        job->length = q->length;
        job->cancel = g_cancellable_new();
        g_queue_push_tail(&f->waiting, job);
        pump(f);
        return TRUE;
}

void fetch_server_writable(FetchServer *f)
{
        pump(f);
}
