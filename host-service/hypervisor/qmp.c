/* host-service/hypervisor/qmp.c - one QMP monitor connection.
 *
 * Theory of operation: states IDLE -> CONNECTING -> NEGOTIATING -> READY -> IDLE. Commands live in one table
 * from monitor_execute() to their callback; they are written when READY. A callback may free the client:
 * so whoever calls out holds a reference and looks at `state` again before going on. The transport is never
 * freed from inside one of its own events, but by an idle source. */
#include "host-service/hypervisor/qmp.h"

#include <string.h>

#include "common/error.h"

#define CONNECT_TIMEOUT_MS 5000u /* from connect to the end of the negotiation */
#define COMMANDS_MAX       64u   /* under way at once; we never come near */

typedef struct QmpClient QmpClient;
typedef enum { QMP_IDLE, QMP_CONNECTING, QMP_NEGOTIATING, QMP_READY, QMP_FREED } QmpState;

typedef struct {
        QmpClient *client;
        guint64 id;
        char *line; /* NULL once written */
        char *command;
        guint timeout_ms;
        GSource *timer;
        monitor_reply_func done;
        gpointer user;
} QmpCommand;

/* One attempt at a connection; outlives the client's interest in it until the transport can be freed. */
typedef struct {
        QmpClient *client; /* NULL: given up */
        GMainContext *context;
        Transport *transport; /* NULL until connected */
        GCancellable *cancel;
} QmpLink;

struct QmpClient {
        Monitor base;
        gint refs;
        const struct host_env *env;
        char *path;
        const struct monitor_events *events;
        gpointer user;
        QmpState state;
        QmpLink *link;
        GSource *connect_timer;
        QmpLines *lines;
        GQueue commands; /* of QmpCommand, in order of id */
        guint64 next_id;
};

static QmpClient *client_ref(QmpClient *c)
{
        c->refs++;
        return c;
}

static void client_unref(QmpClient *c)
{
        if (--c->refs > 0)
                return;
        g_clear_pointer(&c->lines, qmp_lines_free);
        g_free(c->path);
        g_free(c);
}

static void command_free(QmpCommand *cmd)
{
        host_timer_clear(&cmd->timer);
        g_free(cmd->line);
        g_free(cmd->command);
        g_free(cmd);
}

static void link_free(gpointer user)
{
        QmpLink *link = user;

        if (link->transport)
                transport_free(link->transport);
        g_object_unref(link->cancel);
        g_free(link);
}

static gboolean end_idle(gpointer user)
{
        return G_SOURCE_REMOVE; /* removing the source frees the link */
}

/* The client has no more to do with it. Still connecting: on_connected() frees it. */
static void link_drop(QmpLink *link)
{
        GSource *idle;

        link->client = NULL;
        if (!link->transport) {
                g_cancellable_cancel(link->cancel);
                return;
        }
        idle = g_idle_source_new();
        g_source_set_priority(idle, G_PRIORITY_DEFAULT);
        g_source_set_callback(idle, end_idle, link, link_free);
        g_source_attach(idle, link->context);
        g_source_unref(idle);
}

static void drop_connection(QmpClient *c)
{
        host_timer_clear(&c->connect_timer);
        if (c->link)
                link_drop(g_steal_pointer(&c->link));
        g_clear_pointer(&c->lines, qmp_lines_free);
        if (c->state != QMP_FREED)
                c->state = QMP_IDLE;
}

static void client_free(Monitor *m)
{
        QmpClient *c = (QmpClient *)m;
        QmpCommand *cmd;

        c->state = QMP_FREED;
        drop_connection(c);
        while ((cmd = g_queue_pop_head(&c->commands)))
                command_free(cmd);
        client_unref(c);
}

/* Ends @cmd (already out of the table). */
static void finish(QmpCommand *cmd, JsonNode *result, const GError *error)
{
        cmd->done(result, error, cmd->user);
        command_free(cmd);
}

static void fail_all(QmpClient *c, const GError *why)
{
        GQueue failed = c->commands;
        QmpCommand *cmd;

        g_queue_init(&c->commands);
        while ((cmd = g_queue_pop_head(&failed))) {
                if (c->state == QMP_FREED)
                        command_free(cmd);
                else
                        finish(cmd, NULL, why);
        }
}

static void lose(QmpClient *c, const GError *why)
{
        gboolean was_ready = c->state == QMP_READY;

        client_ref(c);
        drop_connection(c);
        if (was_ready && c->events && c->events->lost)
                c->events->lost(why, c->user);
        if (c->state != QMP_FREED)
                fail_all(c, why);
        client_unref(c);
}

static void lose_text(QmpClient *c, MoultError code, const char *text)
{
        g_autoptr(GError) error = g_error_new(MOULT_ERROR, code, "monitor %s: %s", c->path, text);

        lose(c, error);
}

static void write_line(QmpClient *c, char *line)
{
        g_autoptr(GBytes) bytes = g_bytes_new_take(line, strlen(line));

        transport_send(c->link->transport, bytes);
}

static gboolean on_command_timeout(gpointer user)
{
        QmpCommand *cmd = user;
        QmpClient *c = cmd->client;
        g_autoptr(GError) error =
                g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "monitor %s: no answer to %s within %u ms",
                            c->path, cmd->command, cmd->timeout_ms);

        g_queue_remove(&c->commands, cmd);
        finish(cmd, NULL, error); /* a late answer finds no command and is dropped */
        return G_SOURCE_REMOVE;
}

static void write_waiting(QmpClient *c)
{
        for (GList *l = c->commands.head; l; l = l->next) {
                QmpCommand *cmd = l->data;

                if (cmd->line)
                        write_line(c, g_steal_pointer(&cmd->line));
        }
}

static QmpCommand *take_command(QmpClient *c, guint64 id)
{
        for (GList *l = c->commands.head; l; l = l->next) {
                QmpCommand *cmd = l->data;

                if (cmd->id == id && !cmd->line) {
                        g_queue_delete_link(&c->commands, l);
                        return cmd;
                }
        }
        return NULL;
}

static void handle(QmpClient *c, QmpMessage *m)
{
        QmpCommand *cmd;

        if (m->kind == QMP_GREETING) {
                if (c->state == QMP_CONNECTING) {
                        c->state = QMP_NEGOTIATING;
                        write_line(c, g_strdup("{\"execute\":\"qmp_capabilities\"}\n"));
                }
        } else if (c->state == QMP_NEGOTIATING && m->kind == QMP_RETURN) {
                c->state = QMP_READY;
                host_timer_clear(&c->connect_timer);
                write_waiting(c);
        } else if (c->state == QMP_NEGOTIATING && m->kind == QMP_ERROR) {
                lose_text(c, MOULT_ERROR_UNSUPPORTED, m->text);
        } else if (m->kind == QMP_EVENT) {
                if (c->state == QMP_READY && c->events && c->events->event)
                        c->events->event(m->name, qmp_object(m->data), c->user);
        } else if (c->state == QMP_READY && (cmd = take_command(c, m->id))) {
                g_autoptr(GError) error =
                        m->kind == QMP_ERROR ? monitor_error_refused(cmd->command, m) : NULL;

                finish(cmd, m->data, error);
        }
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        QmpLink *link = user;
        QmpClient *c = link->client;
        g_autoptr(GError) error = NULL;
        char *text;
        gsize n;

        if (!c)
                return;
        client_ref(c);
        if (!qmp_lines_push(c->lines, data, len, &error))
                lose_text(c, MOULT_ERROR_MALFORMED, error->message);
        while (c->link == link && (text = qmp_lines_pull(c->lines, &n))) {
                g_autofree char *line = text;
                g_autoptr(QmpMessage) m = qmp_message_parse(line, n, &error);

                if (m)
                        handle(c, m);
                else
                        lose_text(c, MOULT_ERROR_MALFORMED, error->message);
        }
        client_unref(c);
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        QmpLink *link = user;

        if (link->client && status != TRANSPORT_UP)
                lose_text(link->client, MOULT_ERROR_IO,
                          error ? error->message : "QEMU closed the connection");
}

static void on_writable(gpointer user)
{
}

static const struct transport_events link_events = {
        .bytes = on_bytes,
        .writable = on_writable,
        .status = on_status,
};

static void on_connected(Transport *transport, const GError *error, gpointer user)
{
        QmpLink *link = user;
        QmpClient *c = link->client;
        g_autoptr(GError) gone = NULL;

        if (transport) {
                link->transport = transport;
                transport_set_events(transport, &link_events, link);
        }
        if (!c) {
                link_free(link);
        } else if (transport) {
                transport_start(transport);
        } else {
                c->link = NULL;
                link_free(link);
                if (error->domain == MOULT_ERROR && error->code == MOULT_ERROR_NOT_FOUND) {
                        gone = monitor_error_gone("monitor %s: nobody listens there; the VM is off", c->path);
                        lose(c, gone);
                } else {
                        lose_text(c, MOULT_ERROR_IO, error->message);
                }
        }
}

static gboolean on_connect_timeout(gpointer user)
{
        lose_text(user, MOULT_ERROR_TIMEOUT,
                  "no greeting from QEMU; a monitor serves one client at a time: is another one connected?");
        return G_SOURCE_REMOVE;
}

static void begin_connect(QmpClient *c)
{
        QmpLink *link = g_new0(QmpLink, 1);

        c->state = QMP_CONNECTING;
        c->lines = qmp_lines_new();
        c->link = link;
        link->client = c;
        link->context = c->env->context;
        link->cancel = g_cancellable_new();
        c->connect_timer = host_timer_add(c->env, CONNECT_TIMEOUT_MS, on_connect_timeout, c);
        c->env->channel->connect_unix(c->env->self, "qmp", c->path, link->cancel, on_connected, link);
}

static void client_execute(Monitor *m, const char *command, JsonObject *arguments, guint timeout_ms,
                           monitor_reply_func done, gpointer user)
{
        QmpClient *c = (QmpClient *)m;
        g_autoptr(JsonObject) owned = arguments;
        QmpCommand *cmd = g_new0(QmpCommand, 1);

        g_assert(g_queue_get_length(&c->commands) < COMMANDS_MAX);
        cmd->client = c;
        cmd->id = c->next_id++;
        cmd->command = g_strdup(command);
        cmd->line = qmp_command_line(command, owned, cmd->id);
        cmd->timeout_ms = timeout_ms;
        cmd->done = done;
        cmd->user = user;
        cmd->timer = host_timer_add(c->env, timeout_ms, on_command_timeout, cmd);
        g_queue_push_tail(&c->commands, cmd);
        if (c->state == QMP_IDLE)
                begin_connect(c);
        else if (c->state == QMP_READY)
                write_waiting(c);
}

static void client_release(Monitor *m)
{
        QmpClient *c = (QmpClient *)m;
        g_autoptr(GError) error =
                g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "monitor %s: let go", c->path);

        client_ref(c);
        drop_connection(c);
        fail_all(c, error);
        client_unref(c);
}

static const struct monitor_ops qmp_client_ops = {
        .execute = client_execute,
        .release = client_release,
        .free = client_free,
};

Monitor *qmp_client_new(const struct host_env *env, const char *socket_path,
                        const struct monitor_events *events, gpointer user)
{
        QmpClient *c = g_new0(QmpClient, 1);

        c->base.ops = &qmp_client_ops;
        c->refs = 1;
        c->env = env;
        c->path = g_strdup(socket_path);
        c->events = events;
        c->user = user;
        c->next_id = 1;
        g_queue_init(&c->commands);
        return &c->base;
}
