/* tests/sim/qemu.c - a simulated QEMU. */
#include "tests/sim/qemu.h"

#include <string.h>

#include "host-service/hypervisor/qmp_message.h"

#define SLOTS 8u

struct slot {
        char *object, *device; /* mem-path; bus. NULL: none */
        gint64 goes_us;        /* the guest lets go of the device then; 0: was not asked to */
};

struct Qemu {
        World *w;
        const char *vm;
        guint ports;
        Transport *transport;
        QmpLines *lines;
        struct slot slots[SLOTS];
        gint64 holds_until_us;
};

static void say(Qemu *q, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(Qemu *q, const char *format, ...)
{
        g_autofree char *text = NULL;
        g_autoptr(GBytes) bytes = NULL;
        va_list args;

        if (!q->transport)
                return;
        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        bytes = g_bytes_new(text, strlen(text));
        transport_send(q->transport, bytes);
}

static void refuse(Qemu *q, gint64 id, const char *class, const char *desc)
{
        say(q, "{\"id\":%" G_GINT64_FORMAT ",\"error\":{\"class\":\"%s\",\"desc\":\"%s\"}}\r\n", id, class,
            desc);
}

static void ok(Qemu *q, gint64 id)
{
        say(q, "{\"return\":{},\"id\":%" G_GINT64_FORMAT "}\r\n", id);
}

static guint slot_of(const char *id)
{
        guint n = id && id[0] ? (guint)(id[strlen(id) - 1] - '0') : SLOTS;

        return MIN(n, SLOTS - 1);
}

static void list(Qemu *q, gint64 id, gboolean devices)
{
        g_autoptr(GString) s = g_string_new("{\"name\":\"type\",\"type\":\"string\"}");

        for (guint i = 0; i < SLOTS; i++)
                if (devices ? q->slots[i].device != NULL : q->slots[i].object != NULL)
                        g_string_append_printf(s, ",{\"name\":\"moult-%s-%u\",\"type\":\"child<x>\"}",
                                               devices ? "window" : "pack", i);
        for (guint i = 0; devices && i < q->ports; i++)
                g_string_append_printf(s, ",{\"name\":\"rp%u\",\"type\":\"child<pcie-root-port>\"}", i);
        say(q, "{\"return\":[%s],\"id\":%" G_GINT64_FORMAT "}\r\n", s->str, id);
}

static gboolean is_taken(const Qemu *q, guint port)
{
        g_autofree char *bus = g_strdup_printf("rp%u", port);

        for (guint i = 0; i < SLOTS; i++)
                if (g_strcmp0(q->slots[i].device, bus) == 0)
                        return TRUE;
        return FALSE;
}

static void pci(Qemu *q, gint64 id)
{
        g_autoptr(GString) s = g_string_new(NULL);

        for (guint i = 0; i < q->ports; i++)
                g_string_append_printf(
                        s,
                        "%s{\"qdev_id\":\"rp%u\",\"pci_bridge\":{\"bus\":{\"prefetchable_range\":"
                        "{\"base\":4294967296,\"limit\":5368709119}},\"devices\":[%s]}}",
                        i ? "," : "", i, is_taken(q, i) ? "{\"slot\":0}" : "");
        say(q, "{\"return\":[{\"bus\":0,\"devices\":[%s]}],\"id\":%" G_GINT64_FORMAT "}\r\n", s->str, id);
}

/* --- windows --- */

static void let_go(Qemu *q, guint n)
{
        struct slot *s = &q->slots[n];

        if (!s->device)
                return;
        world_trace(q->w, "%s window %u is out", q->vm, n);
        g_clear_pointer(&s->device, g_free);
        s->goes_us = 0;
        say(q, "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"moult-window-%u\",\"path\":\"/x\"}}\r\n",
            n);
}

static void look_who_goes(gpointer user)
{
        Qemu *q = user;

        for (guint i = 0; i < SLOTS; i++)
                if (q->slots[i].goes_us && q->slots[i].goes_us <= world_now_us(q->w))
                        let_go(q, i);
}

static void device_del(Qemu *q, gint64 id, guint n)
{
        struct slot *s = &q->slots[n];
        gint64 now = world_now_us(q->w);

        if (!s->device) {
                refuse(q, id, "DeviceNotFound", "no such device");
                return;
        }
        if (s->goes_us) {
                refuse(q, id, "GenericError", "already in the process of unplug");
                return;
        }
        ok(q, id);
        s->goes_us = MAX(now + world_between(q->w, 1000, 60000), q->holds_until_us);
        world_at(q->w, s->goes_us - now, look_who_goes, q);
}

static void object_del(Qemu *q, gint64 id, guint n)
{
        struct slot *s = &q->slots[n];

        if (!s->object) {
                refuse(q, id, "GenericError", "object not found");
                return;
        }
        if (s->device || world_chance(q->w, 100)) {
                refuse(q, id, "GenericError", "object is in use, can not be deleted");
                return;
        }
        g_clear_pointer(&s->object, g_free);
        ok(q, id);
}

static void add(Qemu *q, gint64 id, guint n, gboolean is_device, JsonObject *args)
{
        struct slot *s = &q->slots[n];
        const char *value = qmp_string(args, is_device ? "bus" : "mem-path");

        if ((is_device ? s->device != NULL : s->object != NULL) || !value || (is_device && !s->object)) {
                refuse(q, id, "GenericError", "attempt to add a duplicate");
                return;
        }
        if (is_device && g_strcmp0(qmp_string(args, "driver"), "ivshmem-plain") != 0) {
                refuse(q, id, "GenericError", "memory devices are not enabled");
                return;
        }
        if (is_device) {
                s->device = g_strdup(value);
                s->goes_us = 0;
        } else {
                s->object = g_strdup(value);
        }
        ok(q, id);
}

static void qom_get(Qemu *q, gint64 id, JsonObject *args)
{
        const struct slot *s = &q->slots[slot_of(qmp_string(args, "path"))];

        if (g_strcmp0(qmp_string(args, "property"), "mem-path") == 0)
                say(q, "{\"return\":\"%s\",\"id\":%" G_GINT64_FORMAT "}\r\n", s->object ? s->object : "", id);
        else
                say(q, "{\"return\":18446744073709551615,\"id\":%" G_GINT64_FORMAT "}\r\n", id);
}

static void run(Qemu *q, const char *command, gint64 id, JsonObject *args)
{
        const char *name = qmp_string(args, "id");
        guint n = slot_of(name);

        if (!g_str_has_prefix(command, "q"))
                world_trace(q->w, "%s qemu %s %s", q->vm, command, name ? name : "");
        if (g_str_equal(command, "qmp_capabilities"))
                ok(q, id);
        else if (g_str_equal(command, "qom-list"))
                list(q, id, g_strcmp0(qmp_string(args, "path"), "/machine/peripheral") == 0);
        else if (g_str_equal(command, "qom-get"))
                qom_get(q, id, args);
        else if (g_str_equal(command, "query-pci"))
                pci(q, id);
        else if (g_str_equal(command, "query-status"))
                say(q,
                    "{\"return\":{\"running\":true,\"status\":\"running\"},\"id\":%" G_GINT64_FORMAT "}\r\n",
                    id);
        else if (g_str_equal(command, "object-add"))
                add(q, id, n, FALSE, args);
        else if (g_str_equal(command, "device_add"))
                add(q, id, n, TRUE, args);
        else if (g_str_equal(command, "device_del"))
                device_del(q, id, n);
        else if (g_str_equal(command, "object-del"))
                object_del(q, id, n);
        else
                refuse(q, id, "CommandNotFound", "no such command");
}

/* --- the monitor --- */

static void drop(Qemu *q)
{
        g_clear_pointer(&q->transport, transport_free);
        g_clear_pointer(&q->lines, qmp_lines_free);
}

static void on_bytes(gpointer user, const void *data, size_t len)
{
        Qemu *q = user;
        char *text;
        gsize n;

        if (!qmp_lines_push(q->lines, data, len, NULL)) {
                drop(q);
                return;
        }
        while (q->lines && (text = qmp_lines_pull(q->lines, &n))) {
                g_autofree char *line = text;
                g_autoptr(JsonNode) node = json_from_string(line, NULL);
                JsonObject *o = qmp_object(node);
                gint64 id = 0;

                if (!o || !qmp_string(o, "execute"))
                        continue; /* noise: QEMU would say so; nobody would wait for it */
                qmp_int(o, "id", &id);
                run(q, qmp_string(o, "execute"), id, qmp_object(qmp_member(o, "arguments")));
        }
}

static void on_writable(gpointer user)
{
}

static void on_status(gpointer user, TransportStatus status, const GError *error)
{
        Qemu *q = user;

        if (status == TRANSPORT_UP)
                say(q, "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n");
        else
                drop(q);
}

static const struct transport_events events = {on_bytes, on_writable, on_status};

void qemu_serve(Qemu *q, Transport *t)
{
        g_assert(!q->transport);
        q->lines = qmp_lines_new();
        q->transport = t;
        transport_set_events(t, &events, q);
        transport_start(t);
}

gboolean qemu_is_served(const Qemu *q)
{
        return q->transport != NULL;
}

/* --- life --- */

Qemu *qemu_new(World *w, const char *vm, guint ports)
{
        Qemu *q = g_new0(Qemu, 1);

        q->w = w;
        q->vm = vm;
        q->ports = ports;
        return q;
}

void qemu_off(Qemu *q)
{
        drop(q);
        world_forget(q->w, q);
        for (guint i = 0; i < SLOTS; i++) {
                g_free(q->slots[i].object);
                g_free(q->slots[i].device);
                memset(&q->slots[i], 0, sizeof q->slots[i]);
        }
}

void qemu_free(Qemu *q)
{
        if (!q)
                return;
        qemu_off(q);
        g_free(q);
}

void qemu_reset(Qemu *q)
{
        for (guint i = 0; i < SLOTS; i++)
                if (q->slots[i].goes_us)
                        let_go(q, i);
        say(q, "{\"event\":\"RESET\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\r\n");
}

void qemu_hold_windows(Qemu *q, gint64 for_us)
{
        q->holds_until_us = MAX(q->holds_until_us, world_now_us(q->w) + for_us);
}

const char *qemu_window(const Qemu *q)
{
        for (guint i = 0; i < SLOTS; i++)
                if (q->slots[i].device && q->slots[i].object)
                        return q->slots[i].object;
        return NULL;
}

gboolean qemu_has_anything(const Qemu *q)
{
        for (guint i = 0; i < SLOTS; i++)
                if (q->slots[i].object || q->slots[i].device)
                        return TRUE;
        return FALSE;
}
