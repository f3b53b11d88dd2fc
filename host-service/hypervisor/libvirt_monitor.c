/* host-service/hypervisor/libvirt_monitor.c - the monitor of a domain, through libvirt.
 *
 * Theory of operation: each command is one call of libvirt's, which has its own answer; nothing is matched by
 * id. A reply that nobody waits for any more (released) is dropped: it finds its command without `done`. */
#include "host-service/hypervisor/libvirt_monitor.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"

typedef struct {
        Monitor base;
        char *uri, *domain;
        gboolean migrated, removed; /* as far as libvirt has told */
        const struct host_virt_ops *virt;
        VirtDomain *watched;
        const struct monitor_events *events;
        gpointer user;
        GQueue commands; /* of Command: under way */
} LibvirtMonitor;

typedef struct {
        LibvirtMonitor *monitor;
        char *name;
        gboolean of_libvirt;     /* about its disks: what it answers is no message of QEMU's */
        monitor_reply_func done; /* NULL: released */
        gpointer user;
} Command;

static void command_free(Command *cmd)
{
        g_free(cmd->name);
        g_free(cmd);
}

static GError *judge(const LibvirtMonitor *m, const Command *cmd, const char *reply, const GError *error,
                     QmpMessage **ret)
{
        GError *bad = NULL;

        if (error && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return monitor_error_gone("libvirt %s: domain %s: %s", m->uri, m->domain, error->message);
        if (error)
                return g_error_new(MOULT_ERROR, moult_error_code(error), "libvirt %s: domain %s: %s: %s",
                                   m->uri, m->domain, cmd->name, error->message);
        *ret = qmp_message_parse(reply, strlen(reply), &bad);
        if (*ret && (*ret)->kind == QMP_ERROR)
                return monitor_error_refused(cmd->name, *ret);
        if (*ret && (*ret)->kind != QMP_RETURN)
                bad = g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                  "libvirt %s: domain %s: no answer to %s", m->uri, m->domain, cmd->name);
        return bad;
}

static void tell_disks(const LibvirtMonitor *m, const Command *cmd, const char *reply, const GError *error)
{
        g_autoptr(JsonNode) node = reply ? json_from_string(reply, NULL) : NULL;
        g_autoptr(GError) why =
                error ? g_error_new(MOULT_ERROR, moult_error_code(error), "libvirt %s: domain %s: %s: %s",
                                    m->uri, m->domain, cmd->name, error->message)
                      : NULL;

        if (!error && !node) /* most have nothing to say */
                node = json_node_init_null(json_node_alloc());
        cmd->done(why ? NULL : node, why, cmd->user); /* may free the monitor */
}

static void on_reply(const char *reply, const GError *error, gpointer user)
{
        Command *cmd = user;
        LibvirtMonitor *m = cmd->monitor;
        g_autoptr(QmpMessage) message = NULL;
        g_autoptr(GError) why = NULL;

        g_queue_remove(&m->commands, cmd);
        if (cmd->done && cmd->of_libvirt) {
                tell_disks(m, cmd, reply, error);
        } else if (cmd->done) {
                why = judge(m, cmd, reply, error, &message);
                cmd->done(why ? NULL : message->data, why, cmd->user); /* may free the monitor */
        }
        command_free(cmd);
}

static Command *command_new(LibvirtMonitor *m, const char *name, monitor_reply_func done, gpointer user)
{
        Command *cmd = g_new0(Command, 1);

        cmd->monitor = m;
        cmd->name = g_strdup(name);
        cmd->done = done;
        cmd->user = user;
        g_queue_push_tail(&m->commands, cmd);
        return cmd;
}

static void execute(Monitor *base, const char *command, JsonObject *arguments, guint timeout_ms,
                    monitor_reply_func done, gpointer user)
{
        LibvirtMonitor *m = (LibvirtMonitor *)base;
        g_autoptr(JsonObject) owned = arguments;
        g_autofree char *line = qmp_command_line(command, owned, 0);

        m->virt->monitor(m->watched, line, timeout_ms, on_reply, command_new(m, command, done, user));
}

static void ask_disks(Monitor *base, VirtDisks what, JsonObject *arguments, guint timeout_ms,
                      monitor_reply_func done, gpointer user)
{
        static const char *const names[] = {[VIRT_DISKS_ASK] = "asking for its disks' files",
                                            [VIRT_DISKS_DEFINE] = "naming its disks' files",
                                            [VIRT_DISKS_SWITCH] = "switching its disks to new files",
                                            [VIRT_DISKS_COPY] = "copying its disk's top",
                                            [VIRT_DISKS_AWAIT] = "waiting for a copy of its disk's top",
                                            [VIRT_DISKS_PIVOT] =
                                                    "putting a copy in the place of its disk's top",
                                            [VIRT_DISKS_DROP] = "ending a copy of its disk's top",
                                            [VIRT_STOP] = "stopping its processors",
                                            [VIRT_GO_ON] = "letting its processors go on"};
        LibvirtMonitor *m = (LibvirtMonitor *)base;
        g_autoptr(JsonNode) node = json_node_alloc();
        g_autofree char *text = NULL;
        Command *cmd = command_new(m, names[what], done, user);

        if (arguments) {
                json_node_init_object(node, arguments);
                json_object_unref(arguments);
                text = json_to_string(node, FALSE);
        }
        cmd->of_libvirt = TRUE;
        m->virt->disks(m->watched, what, text, timeout_ms, on_reply, cmd);
}

static void release(Monitor *base)
{
        LibvirtMonitor *m = (LibvirtMonitor *)base;
        g_autoptr(GError) error =
                g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED, "domain %s: let go", m->domain);
        g_autoptr(GPtrArray) under_way = g_ptr_array_new();

        for (GList *l = m->commands.head; l; l = l->next)
                g_ptr_array_add(under_way, l->data);
        for (guint i = 0; i < under_way->len; i++) {
                Command *cmd = under_way->pdata[i];
                monitor_reply_func done = cmd->done;

                cmd->done = NULL;
                if (done)
                        done(NULL, error, cmd->user);
        }
}

static void free_monitor(Monitor *base)
{
        LibvirtMonitor *m = (LibvirtMonitor *)base;
        Command *cmd;

        m->virt->domain_free(m->watched);
        while ((cmd = g_queue_pop_head(&m->commands)))
                command_free(cmd);
        g_free(m->uri);
        g_free(m->domain);
        g_free(m);
}

static const struct monitor_ops libvirt_monitor_ops = {
        .execute = execute,
        .disks = ask_disks,
        .release = release,
        .free = free_monitor,
};

/* Of libvirt's and QEMU's word: judged like an answer. */
static void on_qemu_event(LibvirtMonitor *m, const char *name, const char *data)
{
        g_autofree char *line = g_strdup_printf("{\"event\":\"\",\"data\":%s}", data ? data : "null");
        g_autoptr(QmpMessage) message = qmp_message_parse(line, strlen(line), NULL);

        if (message)
                m->events->event(name, qmp_object(message->data), m->user);
}

/* Whether its VM can still be met here, and if not why: as an event beside QEMU's own. */
static void tell_away(LibvirtMonitor *m)
{
        g_autoptr(JsonObject) data = json_object_new();
        g_autofree char *text =
                m->migrated
                        ? g_strdup_printf("domain %s was migrated to another host; to reach it there, remove "
                                          "the VM and add it again with that host's libvirt",
                                          m->domain)
                : m->removed
                        ? g_strdup_printf("domain %s was removed from libvirt; if it has another name now, "
                                          "remove the VM and add it again",
                                          m->domain)
                        : NULL;

        if (text)
                json_object_set_string_member(data, "text", text);
        m->events->event(MONITOR_EVENT_AWAY, data, m->user);
}

static void on_stopped(LibvirtMonitor *m, const char *detail)
{
        g_autoptr(GError) why =
                monitor_error_gone("libvirt %s: domain %s stopped (%s)", m->uri, m->domain, detail);
        g_autoptr(JsonObject) data = json_object_new();

        m->migrated = g_str_equal(detail, "migrated");
        if (m->migrated)
                event_log(EVENT_NOTICE, "vm-migrated-away",
                          "a domain was migrated to another host; to reach it there, add the VM again with "
                          "that host's libvirt",
                          "domain", m->domain, "libvirt", m->uri, NULL);
        json_object_set_string_member(data, "reason", detail);
        m->events->lost(why, m->user);
        m->events->event("SHUTDOWN", data, m->user);
}

static void on_event(VirtEvent event, const char *detail, const char *data, gpointer user)
{
        LibvirtMonitor *m = user;
        g_autoptr(GError) why = NULL;

        if (event == VIRT_MONITOR) {
                on_qemu_event(m, detail, data);
        } else if (event == VIRT_STOPPED) {
                on_stopped(m, detail);
        } else if (event == VIRT_STARTED) {
                m->migrated = FALSE;
        } else if (event == VIRT_DEFINED || event == VIRT_UNDEFINED) {
                m->removed = event == VIRT_UNDEFINED;
        } else if (event == VIRT_LOST) {
                why = g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "libvirt %s: %s", m->uri, detail);
                m->events->lost(why, m->user);
        }
        if (event == VIRT_STARTED || event == VIRT_STOPPED || event == VIRT_DEFINED ||
            event == VIRT_UNDEFINED)
                tell_away(m);
}

Monitor *libvirt_monitor_new(const struct host_env *env, const char *uri, const char *domain,
                             const struct monitor_events *events, gpointer user)
{
        LibvirtMonitor *m = g_new0(LibvirtMonitor, 1);

        m->base.ops = &libvirt_monitor_ops;
        m->uri = g_strdup(uri);
        m->domain = g_strdup(domain);
        m->virt = env->virt;
        m->events = events;
        m->user = user;
        g_queue_init(&m->commands);
        m->watched = env->virt->domain_new(env->self, uri, domain, on_event, m);
        return &m->base;
}
