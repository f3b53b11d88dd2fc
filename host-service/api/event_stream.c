/* host-service/api/event_stream.c - cursors into the event log, one for each listening client. */
#include "host-service/api/event_stream.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/event_log.h"

#define BATCH_EVENTS 256
#define HEARTBEAT_MS 15000
#define RETRY_MS     1000

struct stream {
        struct api_streams *owner;
        SoupServerMessage *msg;
        gint64 cursor; /* number of the last event that was looked at, also of those that are not for us */
        char *operation, *vm;
        gboolean sending; /* a chunk is with the peer */
        gboolean quiet;   /* nothing was sent since the last heartbeat */
        gboolean ended;   /* nothing more is sent */
};

struct api_streams {
        const struct host_env *env;
        Catalogue *catalogue;
        GPtrArray *streams;
        GSource *heartbeat, *wake;
        GSource *retry; /* the log could not be read */
};

static gboolean retry(gpointer user);

static void stream_free(struct stream *s)
{
        g_signal_handlers_disconnect_by_data(s->msg, s);
        g_object_unref(s->msg);
        g_free(s->operation);
        g_free(s->vm);
        g_free(s);
}

static void send_text(struct stream *s, char *text)
{
        gsize len = strlen(text);

        s->sending = TRUE;
        s->quiet = FALSE;
        soup_message_body_append(soup_server_message_get_response_body(s->msg), SOUP_MEMORY_TAKE, text, len);
        soup_server_message_unpause(s->msg);
}

/* A reader that was so slow that events which it has not seen were forgotten: it must not go on as if there
 * were none. It comes back with the last number that it saw, and is told (410). */
static void end_stream(struct stream *s)
{
        s->ended = TRUE;
        soup_message_body_complete(soup_server_message_get_response_body(s->msg));
        soup_server_message_unpause(s->msg);
}

static void retry_later(struct api_streams *a, const GError *error)
{
        if (a->retry)
                return;
        event_log(EVENT_ERROR, "event-log-unreadable", error->message, NULL);
        a->retry = host_timer_add(a->env, RETRY_MS, retry, a);
}

/* The next rows after the cursor, if the peer has taken the last ones. */
static void pump(struct stream *s)
{
        Catalogue *c = s->owner->catalogue;
        gint64 last = catalogue_event_last(c);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) events = NULL;
        g_autoptr(GString) text = NULL;

        if (s->sending || s->ended)
                return;
        if (s->cursor < catalogue_event_forgotten(c)) {
                end_stream(s);
                return;
        }
        events = catalogue_event_list(c, s->cursor, s->operation, s->vm, BATCH_EVENTS, &error);
        if (!events) {
                retry_later(s->owner, error);
                return;
        }
        if (events->len < BATCH_EVENTS)
                s->cursor = MAX(s->cursor, last);
        if (events->len == 0)
                return;
        text = g_string_new(NULL);
        for (guint i = 0; i < events->len; i++) {
                const EventRecord *e = g_ptr_array_index(events, i);
                JsonObject *o = json_object_new();
                g_autofree char *data = NULL;

                json_object_set_int_member(o, "seq", e->seq);
                json_object_set_string_member(o, "type", e->type);
                json_object_set_time(o, "time", e->time_us);
                json_object_set_text(o, "operation", e->operation);
                json_object_set_text(o, "vm", e->vm);
                json_object_set_member(o, "data", json_from_string(e->data, NULL));
                data = json_object_text(o); /* one line: JSON text has no raw line breaks */
                g_string_append_printf(text, "id: %" G_GINT64_FORMAT "\nevent: %s\ndata: %s\n\n", e->seq,
                                       e->type, data);
                s->cursor = MAX(s->cursor, e->seq);
        }
        send_text(s, g_string_free(g_steal_pointer(&text), FALSE));
}

static void on_wrote_chunk(SoupServerMessage *msg, gpointer user)
{
        struct stream *s = user;

        s->sending = FALSE;
        pump(s);
        if (!s->sending && !s->ended)
                soup_server_message_pause(msg);
}

static void on_finished(SoupServerMessage *msg, gpointer user)
{
        struct stream *s = user;

        struct api_streams *a = s->owner;

        g_ptr_array_remove_fast(a->streams, s);
        if (a->streams->len == 0) {
                host_timer_clear(&a->heartbeat);
                host_timer_clear(&a->retry);
        }
}

static void pump_all(struct api_streams *a)
{
        for (guint i = 0; i < a->streams->len; i++)
                pump(g_ptr_array_index(a->streams, i));
}

static gboolean retry(gpointer user)
{
        struct api_streams *a = user;

        host_timer_clear(&a->retry);
        pump_all(a);
        return G_SOURCE_REMOVE;
}

static gboolean wake(gpointer user)
{
        struct api_streams *a = user;

        g_clear_pointer(&a->wake, g_source_unref);
        pump_all(a);
        return G_SOURCE_REMOVE;
}

/* Many commits in one turn of the loop wake the streams once. */
static void on_events(gint64 last_seq, gpointer user)
{
        struct api_streams *a = user;

        if (a->wake)
                return;
        a->wake = g_idle_source_new();
        g_source_set_callback(a->wake, wake, a, NULL);
        g_source_attach(a->wake, a->env->context);
}

static gboolean heartbeat(gpointer user)
{
        struct api_streams *a = user;

        for (guint i = 0; i < a->streams->len; i++) {
                struct stream *s = g_ptr_array_index(a->streams, i);

                if (s->quiet && !s->sending && !s->ended)
                        send_text(s, g_strdup(": heartbeat\n\n"));
                s->quiet = TRUE;
        }
        return G_SOURCE_CONTINUE;
}

struct api_streams *api_streams_new(const struct host_env *env, Catalogue *c)
{
        struct api_streams *a = g_new0(struct api_streams, 1);

        a->env = env;
        a->catalogue = c;
        a->streams = g_ptr_array_new_with_free_func((GDestroyNotify)stream_free);
        catalogue_listen(c, on_events, a);
        return a;
}

void api_streams_free(struct api_streams *a)
{
        if (!a)
                return;
        catalogue_unlisten(a->catalogue, on_events, a);
        host_timer_clear(&a->heartbeat);
        host_timer_clear(&a->wake);
        host_timer_clear(&a->retry);
        g_ptr_array_unref(a->streams);
        g_free(a);
}

guint api_streams_count(const struct api_streams *a)
{
        return a->streams->len;
}

gboolean api_streams_add(struct api_streams *a, SoupServerMessage *msg, gint64 after, const char *operation,
                         const char *vm, GError **error)
{
        SoupMessageHeaders *headers = soup_server_message_get_response_headers(msg);
        struct stream *s;

        if (a->streams->len >= API_STREAMS_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%u event streams are open already; close one first", a->streams->len);
                return FALSE;
        }
        /* The beat runs only while somebody listens: an idle daemon has no wake-ups. */
        if (!a->heartbeat)
                a->heartbeat = host_timer_add(a->env, HEARTBEAT_MS, heartbeat, a);
        s = g_new0(struct stream, 1);
        s->owner = a;
        s->msg = g_object_ref(msg);
        s->cursor = MAX(after, catalogue_event_forgotten(a->catalogue));
        s->operation = g_strdup(operation);
        s->vm = g_strdup(vm);
        g_ptr_array_add(a->streams, s);
        soup_server_message_set_status(msg, SOUP_STATUS_OK, NULL);
        soup_message_headers_set_encoding(headers, SOUP_ENCODING_CHUNKED);
        soup_message_headers_replace(headers, "Content-Type", "text/event-stream");
        soup_message_headers_replace(headers, "Cache-Control", "no-store");
        soup_message_body_set_accumulate(soup_server_message_get_response_body(msg), FALSE);
        g_signal_connect(msg, "wrote-chunk", G_CALLBACK(on_wrote_chunk), s);
        g_signal_connect(msg, "finished", G_CALLBACK(on_finished), s);
        soup_server_message_pause(msg);
        /* The first bytes at once, so that a client knows that it is listening. */
        send_text(s, g_strdup(": moultd events\n\n"));
        return TRUE;
}
