/* host-service/cli/follow.c - watching one operation to its end, whatever happens to moultd meanwhile. */
#include "host-service/cli/follow.h"

#include <string.h>

#include "common/error.h"
#include "host-service/cli/output.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/rollout_print.h"
#include "host-service/cli/sse.h"

#define RECONNECT_PAUSE_MS 500
#define POLL_PAUSE_MS      1000
#define GIVE_UP_US         (10 * G_TIME_SPAN_MINUTE)

struct stream {
        gint64 last, until; /* event numbers */
        gboolean over;
        follow_func on_event;
        gpointer user;
};

static void take_event(const struct sse_event *e, gpointer user)
{
        struct stream *s = user;
        g_autoptr(JsonNode) node = s->over ? NULL : json_from_string(e->data, NULL);
        JsonObject *o = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

        if (!o)
                return;
        gint64 seq = json_number(o, "seq");
        if (seq <= s->last) /* seen before the stream broke */
                return;
        if (s->until >= 0 && seq > s->until) {
                s->over = TRUE;
                return;
        }
        s->last = seq;
        s->over = !s->on_event(o, s->user) || seq == s->until;
}

/* Reads until the stream breaks or is over. FALSE only for what cannot be cured by coming back. */
static gboolean read_stream(Client *c, GInputStream *in, struct stream *s, GCancellable *cancellable,
                            GError **error)
{
        g_autoptr(SseParser) parser = sse_parser_new(take_event, s);
        char buf[16384];

        while (!s->over) {
                g_autoptr(GError) cause = NULL;
                gssize n = g_input_stream_read(in, buf, sizeof buf, cancellable, &cause);

                if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
                        g_propagate_error(error, g_steal_pointer(&cause));
                        return FALSE;
                }
                if (n <= 0)
                        return TRUE;
                if (!sse_parser_feed(parser, buf, (size_t)n)) {
                        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                                    "moultd sent an event larger than 16 MiB");
                        return FALSE;
                }
        }
        return TRUE;
}

/* One connection. FALSE with @error: it cannot go on. *ret_connected: moultd was there. */
static gboolean follow_once(Client *c, const char *path, struct stream *s, gboolean *ret_connected,
                            GError **error)
{
        g_autoptr(GError) cause = NULL;
        g_autoptr(GInputStream) in = client_open_events(c, path, s->last, &cause);

        *ret_connected = in != NULL;
        if (in)
                return read_stream(c, in, s, client_cancellable(c), error);
        if (g_error_matches(cause, CLI_ERROR, CLI_ERROR_DAEMON))
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
}

gboolean follow_events(Client *client, const char *path, gint64 after, gint64 until, follow_func on_event,
                       gpointer user, GError **error)
{
        struct stream s = {.last = after, .until = until, .on_event = on_event, .user = user};
        gint64 contact_us = g_get_monotonic_time();

        while (!s.over && (until < 0 || s.last < until)) {
                gboolean connected;

                if (!follow_once(client, path, &s, &connected, error))
                        return FALSE;
                if (connected)
                        contact_us = g_get_monotonic_time();
                if (g_get_monotonic_time() - contact_us > GIVE_UP_US) {
                        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                                    "moultd has not answered for ten minutes; events up to number "
                                    "%" G_GINT64_FORMAT " were seen: --after goes on from there",
                                    s.last);
                        return FALSE;
                }
                if (!s.over && !client_pause(client, RECONNECT_PAUSE_MS, error))
                        return FALSE;
        }
        return TRUE;
}

struct watch {
        Client *client;
        Progress *progress;
        char *path;          /* of the operation */
        JsonNode *operation; /* as it was asked for last; owned */
        gboolean stopped;    /* the rollout, as the last event said */
        gboolean away;       /* moultd was, when we asked last */
};

/* A rollout that has stopped by itself waits for us: there is no more to follow. */
static gboolean is_final(const struct watch *w)
{
        JsonObject *o = w->operation ? operation_of(w->operation) : NULL;
        JsonObject *rollout = o ? rollout_of(o) : NULL;

        return o &&
               (json_flag(o, "final") || (rollout && !json_flag(rollout, "final") && rollout_rests(rollout)));
}

/* FALSE with @error unless the operation is known, or moultd is only away. */
static gboolean ask(struct watch *w, GError **error)
{
        g_autoptr(GError) cause = NULL;
        JsonNode *now = client_get(w->client, w->path, &cause);

        if (now) {
                g_clear_pointer(&w->operation, json_node_unref);
                w->operation = now;
                if (w->away)
                        progress_say(w->progress, "moultd answers again");
                w->away = FALSE;
                return TRUE;
        }
        if (g_error_matches(cause, CLI_ERROR, CLI_ERROR_DAEMON) && w->operation) {
                if (!w->away)
                        progress_say(w->progress,
                                     "moultd does not answer; waiting for it, and going on from there");
                w->away = TRUE;
                return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
}

static gboolean show_event(JsonObject *event, gpointer user)
{
        struct watch *w = user;
        const char *type = json_text(event, "type");
        JsonObject *data = json_child(event, "data");

        if (!type || !data)
                return TRUE;
        if (g_str_has_prefix(type, "push."))
                push_show_progress(w->progress, data);
        if (g_str_has_prefix(type, "rollout.")) {
                rollout_show_progress(w->progress, data);
                w->stopped = !strcmp(type, "rollout.stopped");
        }
        /* It rests when the last of its pushes has ended. */
        if (w->stopped)
                return json_flag(data, "final") ? FALSE : strcmp(type, "rollout.stopped") != 0;
        if (!g_str_has_prefix(type, "operation."))
                return TRUE;
        if (json_child(data, "progress") && !json_list(data, "pushes"))
                operation_show_progress(w->progress, data);
        return !json_flag(data, "final");
}

/* Number 0 is the operation's beginning, as far as it is kept. A number that moultd no longer (or never) had,
 * since its catalogue was cleaned up or replaced, sends us back there. When too many listen already, the
 * operation is asked about now and then instead: *ret_pause_ms. */
static gboolean follow_or_begin_anew(struct watch *w, const char *path, struct stream *s,
                                     unsigned *ret_pause_ms, GError **error)
{
        g_autoptr(GError) cause = NULL;
        gboolean connected;

        if (follow_once(w->client, path, s, &connected, &cause))
                return TRUE;
        if (g_error_matches(cause, MOULT_ERROR, MOULT_ERROR_BUSY)) {
                *ret_pause_ms = POLL_PAUSE_MS;
                return TRUE;
        }
        if (s->last > 0 && cause->domain == MOULT_ERROR) {
                s->last = 0;
                return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
}

static gboolean watch_to_the_end(struct watch *w, const char *id, GError **error)
{
        g_autofree char *path = client_path("/v1/events?operation=%s", id);
        struct stream s = {.until = -1, .on_event = show_event, .user = w};
        gint64 contact_us = g_get_monotonic_time();

        while (ask(w, error)) {
                unsigned pause_ms = RECONNECT_PAUSE_MS;

                if (is_final(w))
                        return TRUE;
                s.over = FALSE;
                if (!w->away && !follow_or_begin_anew(w, path, &s, &pause_ms, error))
                        return FALSE;
                if (!w->away)
                        contact_us = g_get_monotonic_time();
                else if (g_get_monotonic_time() - contact_us > GIVE_UP_US) {
                        g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                                    "moultd has not answered for ten minutes; 'moult jobs show %s' tells "
                                    "later how it "
                                    "ended",
                                    id);
                        return FALSE;
                }
                if (!s.over && !client_pause(w->client, pause_ms, error))
                        return FALSE;
        }
        return FALSE;
}

JsonNode *follow_operation(Cli *cli, Client *client, const char *id, GError **error)
{
        struct watch w = {.client = client, .path = client_path("/v1/operations/%s", id)};
        g_autoptr(GError) cause = NULL;

        w.progress = progress_new(cli);
        gboolean ok = watch_to_the_end(&w, id, &cause);
        progress_free(w.progress);
        g_free(w.path);
        if (ok)
                return w.operation;
        g_clear_pointer(&w.operation, json_node_unref);
        if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CANCELLED,
                            "no longer waiting; job %s goes on in moultd: 'moult jobs wait %s' follows it, "
                            "'moult jobs "
                            "cancel %s' ends it",
                            id, id, id);
        else
                g_propagate_prefixed_error(error, g_steal_pointer(&cause), "following job %s: ", id);
        return NULL;
}
