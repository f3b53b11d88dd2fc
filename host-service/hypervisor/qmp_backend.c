/* host-service/hypervisor/qmp_backend.c - the hypervisor operations over a monitor, QEMU's own or libvirt's.
 *
 * Theory of operation: every operation begins with a survey of what is really there (window_survey.h) and
 * decides from that, never from memory; so a restarted moultd, a lost answer and an operator who unplugged by
 * hand are all the same case. Taking off is a loop: survey; windows left: device_del, wait for DEVICE_DELETED
 * or a deadline, again; objects left: object-del (QEMU refuses while the guest still holds the memory),
 * again; nothing left: done.
 *
 * Operations are queued; one runs. The monitor is let go when the queue is empty and nothing is plugged. */
#include "host-service/hypervisor/qmp_backend_internal.h"

#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/backing_files.h"
#include "host-service/hypervisor/libvirt_monitor.h"
#include "host-service/hypervisor/qmp.h"

#define COMMAND_TIMEOUT_MS 10000u
#define DISKS_TIMEOUT_MS   60000u /* libvirt itself waits 30 s for another job of the domain's to end */
#define QUEUE_MAX          64u
/* A libvirtd that is restarted breaks the connection, and nothing else. */
#define LOST_MAX 3u

const Op *qmp_backend_op(QmpBackend *b)
{
        return g_queue_peek_head(&b->queue);
}

static void op_free(Op *op)
{
        g_strfreev(op->files);
        g_free(op->command);
        g_clear_pointer(&op->arguments, json_object_unref);
        g_clear_pointer(&op->reply, json_node_unref);
        g_free(op->path);
        g_free(op);
}

static void tell(QmpBackend *b, HypervisorEvent event, const char *detail)
{
        if (b->base.on_event)
                b->base.on_event(event, detail, b->base.user);
}

static gboolean start_head(gpointer user);

static void kick(QmpBackend *b)
{
        if (!b->kick && !b->running && !g_queue_is_empty(&b->queue))
                b->kick = host_timer_add(b->env, 0, start_head, b);
}

/* Ends the running operation. The callback may queue another one, or free the backend: it comes last. */
void qmp_backend_finish(QmpBackend *b, HypervisorStatus status, const GError *error)
{
        Op *op = g_queue_pop_head(&b->queue);

        host_timer_clear(&b->wait);
        survey_clear(&b->survey);
        g_clear_pointer(&b->port, g_free);
        b->running = FALSE;
        if (g_queue_is_empty(&b->queue) && !b->plugged)
                monitor_release(b->monitor);
        kick(b);
        if (op->kind == OP_STATUS)
                op->status_done(status, error, op->user);
        else if (op->kind == OP_BACKING)
                op->files_done((const char *const *)op->files, error, op->user);
        else if (op->kind == OP_COMMAND || op->kind == OP_DISKS)
                op->reply_done(op->reply, error, op->user);
        else
                op->done(error, op->user);
        op_free(op);
}

static gboolean is_about_windows(const Op *op)
{
        return op->kind == OP_PLUG || op->kind == OP_UNPLUG;
}

/* Every command's error comes through here: an absent QEMU is a state, not a failure, for what it can be one.
 */
void qmp_backend_fail(QmpBackend *b, const GError *error, const char *doing)
{
        const Op *op = qmp_backend_op(b);
        g_autoptr(GError) wrapped = NULL;

        if (monitor_error_is_gone(error)) {
                b->plugged = FALSE;
                if (op->kind == OP_STATUS || op->kind == OP_UNPLUG) {
                        qmp_backend_finish(b, HYPERVISOR_GONE, NULL);
                        return;
                }
        }
        /* What was asked last may have been done or not: a new survey tells. */
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO) && is_about_windows(op) &&
            b->lost < b->lost_max) {
                b->lost++;
                host_timer_clear(&b->wait);
                qmp_survey(b);
                return;
        }
        wrapped = g_error_new(MOULT_ERROR,
                              monitor_error_is_gone(error) ? MOULT_ERROR_TIMEOUT : moult_error_code(error),
                              "%s: %s", doing, error->message);
        qmp_backend_finish(b, HYPERVISOR_GONE, wrapped);
}

/* QEMU answered, and said no: nothing was done, and the next step can be decided. */
gboolean qmp_backend_is_refusal(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED);
}

JsonObject *qmp_backend_args(const char *name, const char *value)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, name, value);
        return o;
}

void qmp_backend_execute(QmpBackend *b, const char *command, JsonObject *arguments, monitor_reply_func done)
{
        monitor_execute(b->monitor, command, arguments, COMMAND_TIMEOUT_MS, done, b);
}

static void on_event(const char *name, JsonObject *data, gpointer user)
{
        QmpBackend *b = user;
        const char *device = qmp_string(data, "device");
        const Op *op = qmp_backend_op(b);

        if (g_str_equal(name, MONITOR_EVENT_AWAY)) {
                tell(b, HYPERVISOR_EVENT_AWAY, qmp_string(data, "text"));
        } else if (g_str_equal(name, "SHUTDOWN")) {
                tell(b, HYPERVISOR_EVENT_SHUTDOWN, qmp_string(data, "reason"));
        } else if (g_str_equal(name, "RESET")) {
                tell(b, HYPERVISOR_EVENT_RESET, qmp_string(data, "reason"));
        } else if (g_str_equal(name, "DEVICE_DELETED") && device &&
                   g_str_has_prefix(device, "moult-window-")) {
                gboolean ours = b->running && is_about_windows(op);

                qmp_unplug_deleted(b);
                if (!ours)
                        tell(b, HYPERVISOR_EVENT_WINDOW_GONE, device);
        }
}

static void on_lost(const GError *why, gpointer user)
{
        QmpBackend *b = user;

        /* The event that is waited for may have come meanwhile. */
        if (b->wait)
                qmp_unplug_deleted(b);
        tell(b, HYPERVISOR_EVENT_LOST, why->message);
}

static const struct monitor_events monitor_events = {.event = on_event, .lost = on_lost};

static void on_status(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        JsonNode *running = qmp_member(qmp_object(result), "running");

        if (error)
                qmp_backend_fail(b, error, "asking for the VM's state");
        else
                qmp_backend_finish(b,
                                   running && JSON_NODE_HOLDS_VALUE(running) && json_node_get_boolean(running)
                                           ? HYPERVISOR_RUNNING
                                           : HYPERVISOR_STOPPED,
                                   NULL);
}

static void on_nodes(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        Op *op = g_queue_peek_head(&b->queue);
        g_autoptr(GError) odd = NULL;

        if (!error) {
                op->files = backing_files_of(result);
                if (op->files) {
                        qmp_backend_finish(b, HYPERVISOR_RUNNING, NULL);
                        return;
                }
                odd = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "the answer is no list of disks");
        }
        qmp_backend_fail(b, odd ? odd : error, "asking for the VM's disks");
}

/* Flat: without it each node repeats all that it stands on, and a long chain is a large answer. */
static void ask_for_disks(QmpBackend *b)
{
        JsonObject *args = json_object_new();

        json_object_set_boolean_member(args, "flat", TRUE);
        qmp_backend_execute(b, "query-named-block-nodes", args, on_nodes);
}

static void on_reply(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        Op *op = g_queue_peek_head(&b->queue);

        if (error) {
                qmp_backend_fail(b, error, op->kind == OP_DISKS ? "the domain's disks" : op->command);
                return;
        }
        op->reply = json_node_ref(result);
        qmp_backend_finish(b, HYPERVISOR_RUNNING, NULL);
}

static gboolean start_head(gpointer user)
{
        QmpBackend *b = user;
        Op *op = g_queue_peek_head(&b->queue);

        host_timer_clear(&b->kick);
        b->running = TRUE;
        b->deadlines = b->passes = b->object_tries = b->lost = 0;
        b->staying = op->kind == OP_PLUG ? ~0u : 0; /* it may be in use by the very push that plugs */
        if (op->kind == OP_STATUS)
                qmp_backend_execute(b, "query-status", NULL, on_status);
        else if (op->kind == OP_BACKING)
                ask_for_disks(b);
        else if (op->kind == OP_COMMAND)
                qmp_backend_execute(b, op->command, g_steal_pointer(&op->arguments), on_reply);
        else if (op->kind == OP_DISKS)
                monitor_disks(b->monitor, op->what, g_steal_pointer(&op->arguments), DISKS_TIMEOUT_MS,
                              on_reply, b);
        else
                qmp_survey(b);
        return G_SOURCE_REMOVE;
}

static Op *enqueue(QmpBackend *b)
{
        Op *op = g_new0(Op, 1);

        g_assert(g_queue_get_length(&b->queue) < QUEUE_MAX);
        g_queue_push_tail(&b->queue, op);
        kick(b);
        return op;
}

static void qmp_query_status(Hypervisor *h, hypervisor_status_func done, gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_STATUS;
        op->status_done = done;
        op->user = user;
}

static void qmp_query_backing(Hypervisor *h, hypervisor_files_func done, gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_BACKING;
        op->files_done = done;
        op->user = user;
}

static void qmp_command(Hypervisor *h, const char *command, JsonObject *arguments, hypervisor_reply_func done,
                        gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_COMMAND;
        op->command = g_strdup(command);
        op->arguments = arguments;
        op->reply_done = done;
        op->user = user;
}

static void qmp_disks(Hypervisor *h, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done,
                      gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_DISKS;
        op->what = what;
        op->arguments = arguments;
        op->reply_done = done;
        op->user = user;
}

static void qmp_plug_pack(Hypervisor *h, const char *path, guint64 size_bytes, HypervisorWindow window,
                          hypervisor_done_func done, gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_PLUG;
        op->path = g_strdup(path);
        op->size_bytes = size_bytes;
        op->window = window;
        op->done = done;
        op->user = user;
}

static void qmp_unplug_pack(Hypervisor *h, hypervisor_done_func done, gpointer user)
{
        Op *op = enqueue((QmpBackend *)h);

        op->kind = OP_UNPLUG;
        op->done = done;
        op->user = user;
}

static gboolean qmp_is_plugged(const Hypervisor *h)
{
        return ((const QmpBackend *)h)->plugged;
}

static gboolean qmp_keeps(const Hypervisor *h, const char *path)
{
        return g_ptr_array_find_with_equal_func(((const QmpBackend *)h)->kept, path, g_str_equal, NULL);
}

static void qmp_free(Hypervisor *h)
{
        QmpBackend *b = (QmpBackend *)h;
        Op *op;

        monitor_free(b->monitor);
        host_timer_clear(&b->kick);
        host_timer_clear(&b->wait);
        while ((op = g_queue_pop_head(&b->queue)))
                op_free(op);
        survey_clear(&b->survey);
        g_clear_error(&b->add_error);
        g_ptr_array_unref(b->kept);
        g_free(b->refusal);
        g_free(b->port);
        g_free(b);
}

#define OPS(NAME)                                                                                            \
        {                                                                                                    \
                .name = NAME, .query_status = qmp_query_status, .query_backing = qmp_query_backing,          \
                .command = qmp_command, .disks = qmp_disks, .plug_pack = qmp_plug_pack,                      \
                .unplug_pack = qmp_unplug_pack, .is_plugged = qmp_is_plugged, .keeps = qmp_keeps,            \
                .free = qmp_free,                                                                            \
        }
static const struct hypervisor_ops qmp_ops = OPS("qmp"), libvirt_ops = OPS("libvirt");

static QmpBackend *backend_new(const struct host_env *env, const struct hypervisor_ops *ops)
{
        QmpBackend *b = g_new0(QmpBackend, 1);

        b->base.ops = ops;
        b->env = env;
        b->kept = g_ptr_array_new_with_free_func(g_free);
        g_queue_init(&b->queue);
        return b;
}

Hypervisor *hypervisor_qmp_new(const struct host_env *env, const char *socket_path)
{
        QmpBackend *b = backend_new(env, &qmp_ops);

        b->monitor = qmp_client_new(env, socket_path, &monitor_events, b);
        return &b->base;
}

Hypervisor *hypervisor_libvirt_new(const struct host_env *env, const char *uri, const char *domain)
{
        QmpBackend *b = backend_new(env, &libvirt_ops);

        b->monitor = libvirt_monitor_new(env, uri, domain, &monitor_events, b);
        b->lost_max = LOST_MAX;
        return &b->base;
}
