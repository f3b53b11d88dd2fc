/* tests/support/fake_qmp.c - a QMP monitor with a table instead of a VM. */
#include "tests/support/fake_qmp.h"

#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

#include "host-service/hypervisor/qmp_message.h"
#include "proto/transport.h"
#include "proto/transport_fd.h"

#define SLOTS 8

struct FakeQmp {
        char *name, *path;
        GPtrArray *log;
        GSocketService *service;
        Transport *transport;
        QmpLines *lines;
        struct fake_qmp_script script;
        char *objects[SLOTS]; /* mem-path */
        char *devices[SLOTS]; /* bus */
        gboolean pmem[SLOTS]; /* the device is persistent memory */
        gint64 held;          /* id of the command whose answer is held; 0: none */
};

static void note(FakeQmp *q, const char *what, const char *id)
{
        g_ptr_array_add(q->log, g_strdup_printf("%s %s %s", q->name, what, id));
}

static void say(FakeQmp *q, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(FakeQmp *q, const char *format, ...)
{
        g_autoptr(GBytes) bytes = NULL;
        g_autofree char *text = NULL;
        va_list args;

        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        bytes = g_bytes_new(text, strlen(text));
        if (q->transport)
                transport_send(q->transport, bytes);
}

static void refuse(FakeQmp *q, gint64 id, const char *class, const char *desc)
{
        say(q, "{\"id\":%" G_GINT64_FORMAT ",\"error\":{\"class\":\"%s\",\"desc\":\"%s\"}}\r\n", id, class,
            desc);
}

static guint slot_of(const char *id)
{
        guint n = id && id[0] ? (guint)(id[strlen(id) - 1] - '0') : SLOTS;

        return MIN(n, SLOTS - 1);
}

static guint n_ports(const FakeQmp *q)
{
        return q->script.ports + q->script.pmem_ports;
}

static char *port_name(const FakeQmp *q, guint i)
{
        return i < q->script.ports ? g_strdup_printf("rp%u", i)
                                   : g_strdup_printf("moult-pmem%u", i - q->script.ports);
}

static void list(FakeQmp *q, gint64 id, gboolean devices)
{
        g_autoptr(GString) s = g_string_new("{\"name\":\"type\",\"type\":\"string\"}");

        for (guint i = 0; i < SLOTS; i++)
                if (devices ? q->devices[i] != NULL : q->objects[i] != NULL)
                        g_string_append_printf(s, ",{\"name\":\"moult-%s-%u\",\"type\":\"child<%s>\"}",
                                               devices ? "window" : "pack", i,
                                               devices && q->pmem[i] ? "virtio-pmem-pci" : "x");
        for (guint i = 0; devices && i < n_ports(q); i++) {
                g_autofree char *name = port_name(q, i);

                g_string_append_printf(s, ",{\"name\":\"%s\",\"type\":\"child<pcie-root-port>\"}", name);
        }
        say(q, "{\"return\":[%s],\"id\":%" G_GINT64_FORMAT "}\r\n", s->str, id);
}

static gboolean is_taken(const FakeQmp *q, const char *bus)
{
        for (guint i = 0; i < SLOTS; i++)
                if (g_strcmp0(q->devices[i], bus) == 0)
                        return TRUE;
        return FALSE;
}

/* As QEMU 7.2: the lowest first; each is two nodes, of which the upper one names what it stands on. */
static void block_nodes(FakeQmp *q, gint64 id)
{
        g_autoptr(GString) s = g_string_new("");

        for (guint i = g_strv_length((char **)(gpointer)q->script.backing); i > 0; i--)
                g_string_append_printf(s,
                                       "%s{\"node-name\":\"#f%u\",\"drv\":\"file\",\"file\":\"over-%u\"},"
                                       "{\"node-name\":\"#b%u\",\"drv\":\"qcow2\",\"file\":\"over-%u\","
                                       "\"backing_file\":\"%s\"}",
                                       s->len ? "," : "", i, i, i, i, q->script.backing[i - 1]);
        say(q, "{\"return\":[%s],\"id\":%" G_GINT64_FORMAT "}\r\n", s->str, id);
}

static void pci(FakeQmp *q, gint64 id)
{
        g_autoptr(GString) s = g_string_new(NULL);

        for (guint i = 0; i < n_ports(q); i++) {
                g_autofree char *bus = port_name(q, i);

                g_string_append_printf(
                        s,
                        "%s{\"qdev_id\":\"%s\",\"pci_bridge\":{\"bus\":{\"prefetchable_range\":"
                        "{\"base\":4294967296,\"limit\":5368709119}},\"devices\":[%s]}}",
                        i ? "," : "", bus, is_taken(q, bus) ? "{\"slot\":0}" : "");
        }
        say(q, "{\"return\":[{\"bus\":0,\"devices\":[%s]}],\"id\":%" G_GINT64_FORMAT "}\r\n", s->str, id);
}

static void ok(FakeQmp *q, gint64 id)
{
        say(q, "{\"return\":{},\"id\":%" G_GINT64_FORMAT "}\r\n", id);
}

static void device_del(FakeQmp *q, gint64 id, guint n)
{
        if (!q->devices[n]) {
                refuse(q, id, "DeviceNotFound", "no such device");
                return;
        }
        if (q->pmem[n]) {
                refuse(q, id, "GenericError", "virtio based memory devices cannot be unplugged.");
                return;
        }
        ok(q, id);
        if (q->script.stuck > 0) {
                q->script.stuck--;
                return;
        }
        g_clear_pointer(&q->devices[n], g_free);
        say(q, "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"moult-window-%u\",\"path\":\"/x\"}}\r\n",
            n);
}

static void object_del(FakeQmp *q, gint64 id, guint n)
{
        if (q->devices[n] || q->script.in_use > 0) {
                q->script.in_use -= q->devices[n] ? 0 : 1;
                refuse(q, id, "GenericError", "object is in use, can not be deleted");
                return;
        }
        g_clear_pointer(&q->objects[n], g_free);
        ok(q, id);
}

static void qom_get(FakeQmp *q, gint64 id, JsonObject *args)
{
        guint n = slot_of(qmp_string(args, "path"));

        if (g_strcmp0(qmp_string(args, "property"), "mem-path") == 0)
                say(q, "{\"return\":\"%s\",\"id\":%" G_GINT64_FORMAT "}\r\n",
                    q->objects[n] ? q->objects[n] : "", id);
        else
                say(q, "{\"return\":18446744073709551615,\"id\":%" G_GINT64_FORMAT "}\r\n", id);
}

static gboolean is_readonly_shared(JsonObject *args)
{
        return json_object_get_boolean_member_with_default(args, "readonly", FALSE) &&
               json_object_get_boolean_member_with_default(args, "share", FALSE);
}

static void run(FakeQmp *q, const char *command, gint64 id, JsonObject *args)
{
        const char *name = qmp_string(args, "id");
        guint n = slot_of(name);

        if (!g_str_has_prefix(command, "q"))
                note(q, command, name ? name : "");
        if (g_str_equal(command, "qmp_capabilities") || g_str_equal(command, "nothing")) {
                ok(q, id);
        } else if (g_str_equal(command, "qom-list")) {
                list(q, id, g_str_equal(qmp_string(args, "path"), "/machine/peripheral"));
        } else if (g_str_equal(command, "qom-get")) {
                qom_get(q, id, args);
        } else if (g_str_equal(command, "query-pci")) {
                pci(q, id);
        } else if (g_str_equal(command, "query-status")) {
                say(q,
                    "{\"return\":{\"running\":true,\"status\":\"running\"},\"id\":%" G_GINT64_FORMAT "}\r\n",
                    id);
        } else if (g_str_equal(command, "query-named-block-nodes") && q->script.backing) {
                note(q, "asked for", "disks");
                block_nodes(q, id);
        } else if (g_str_equal(command, "object-add")) {
                if (q->objects[n] || !is_readonly_shared(args)) {
                        refuse(q, id, "GenericError", "bad object");
                        return;
                }
                q->objects[n] = g_strdup(qmp_string(args, "mem-path"));
                ok(q, id);
        } else if (g_str_equal(command, "device_add")) {
                gboolean pmem = g_strcmp0(qmp_string(args, "driver"), "virtio-pmem-pci") == 0;

                if (pmem && q->script.no_maxmem) {
                        refuse(q, id, "GenericError",
                               "memory devices (e.g. for memory hotplug) are not enabled, please specify the "
                               "maxmem option");
                        return;
                }
                if (!pmem && q->script.no_ivshmem) {
                        refuse(q, id, "GenericError", "'ivshmem-plain' is not a valid device model name");
                        return;
                }
                q->devices[n] = g_strdup(qmp_string(args, "bus"));
                q->pmem[n] = pmem;
                if (q->script.hold_device)
                        q->held = id;
                else
                        ok(q, id);
        } else if (g_str_equal(command, "device_del")) {
                device_del(q, id, n);
        } else if (g_str_equal(command, "object-del")) {
                object_del(q, id, n);
        } else {
                refuse(q, id, "CommandNotFound", "no such command");
        }
}

static void drop(FakeQmp *q)
{
        g_clear_pointer(&q->transport, transport_free);
        g_clear_pointer(&q->lines, qmp_lines_free);
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        FakeQmp *q = user;
        char *text;
        gsize n;

        if (!qmp_lines_push(q->lines, data, len, NULL))
                g_error("fake monitor: line too long");
        while (q->lines && (text = qmp_lines_pull(q->lines, &n))) {
                g_autofree char *line = text;
                g_autoptr(JsonNode) node = json_from_string(line, NULL);
                JsonObject *o = qmp_object(node);
                gint64 id = 0;

                qmp_int(o, "id", &id);
                if (q->script.close_instead && id) {
                        q->script.close_instead = FALSE;
                        drop(q);
                } else if (q->script.say_instead && id) {
                        say(q, "%s\n", q->script.say_instead);
                        q->script.say_instead = NULL;
                } else {
                        run(q, qmp_string(o, "execute"), id, qmp_object(qmp_member(o, "arguments")));
                }
        }
}

static void on_writable(gpointer user)
{
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        FakeQmp *q = user;

        if (status == TRANSPORT_UP)
                say(q, "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n");
        else
                drop(q);
}

static const struct transport_events events = {on_bytes, on_writable, on_status};

static gboolean on_incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        FakeQmp *q = user;
        int fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn)), F_DUPFD_CLOEXEC, 3);

        drop(q);
        q->lines = qmp_lines_new();
        q->transport = transport_fd_new(fd, "qmp", q->path, FALSE);
        transport_set_events(q->transport, &events, q);
        transport_start(q->transport);
        return TRUE;
}

FakeQmp *fake_qmp_new(const char *name, const char *path, GPtrArray *log)
{
        FakeQmp *q = g_new0(FakeQmp, 1);
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
        g_autoptr(GError) error = NULL;

        q->name = g_strdup(name);
        q->path = g_strdup(path);
        q->log = log;
        q->script.ports = 2;
        q->service = g_socket_service_new();
        if (!g_socket_listener_add_address(G_SOCKET_LISTENER(q->service), address, G_SOCKET_TYPE_STREAM,
                                           G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &error))
                g_error("fake monitor: %s", error->message);
        g_signal_connect(q->service, "incoming", G_CALLBACK(on_incoming), q);
        return q;
}

void fake_qmp_free(FakeQmp *q)
{
        if (!q)
                return;
        drop(q);
        g_socket_service_stop(q->service);
        g_socket_listener_close(G_SOCKET_LISTENER(q->service));
        g_object_unref(q->service);
        g_unlink(q->path);
        for (guint i = 0; i < SLOTS; i++) {
                g_free(q->objects[i]);
                g_free(q->devices[i]);
        }
        g_free(q->name);
        g_free(q->path);
        g_free(q);
}

struct fake_qmp_script *fake_qmp_script(FakeQmp *q)
{
        return &q->script;
}

const char *fake_qmp_window(const FakeQmp *q, guint n)
{
        return q->devices[n] ? q->objects[n] : NULL;
}

gboolean fake_qmp_is_pmem(const FakeQmp *q, guint n)
{
        return q->devices[n] && q->pmem[n];
}

guint fake_qmp_objects(const FakeQmp *q)
{
        guint n = 0;

        for (guint i = 0; i < SLOTS; i++)
                n += q->objects[i] != NULL;
        return n;
}

void fake_qmp_leave(FakeQmp *q, guint n, const char *path)
{
        q->objects[n] = g_strdup(path);
        q->devices[n] = g_strdup("rp0");
}

void fake_qmp_make_pmem(FakeQmp *q, guint n)
{
        q->pmem[n] = TRUE;
}

void fake_qmp_go_on(FakeQmp *q)
{
        q->script.hold_device = FALSE;
        if (q->held)
                ok(q, q->held);
        q->held = 0;
}

gboolean fake_qmp_is_held(const FakeQmp *q)
{
        return q->transport != NULL;
}
