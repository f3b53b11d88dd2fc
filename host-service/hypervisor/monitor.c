/* host-service/hypervisor/monitor.c - calls through the monitor's operations table, and its errors. */
#include "host-service/hypervisor/monitor.h"

#include "common/error.h"

static G_DEFINE_QUARK(moult - monitor - gone, monitor_gone)

        void monitor_execute(Monitor *m, const char *command, JsonObject *arguments, guint timeout_ms,
                             monitor_reply_func done, gpointer user)
{
        m->ops->execute(m, command, arguments, timeout_ms, done, user);
}

void monitor_disks(Monitor *m, VirtDisks what, JsonObject *arguments, guint timeout_ms,
                   monitor_reply_func done, gpointer user)
{
        g_autoptr(GError) none = NULL;

        if (m->ops->disks) {
                m->ops->disks(m, what, arguments, timeout_ms, done, user);
                return;
        }
        if (arguments)
                json_object_unref(arguments);
        none = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "the VM is no domain of libvirt's");
        done(NULL, none, user);
}

void monitor_release(Monitor *m)
{
        m->ops->release(m);
}

void monitor_free(Monitor *m)
{
        if (m)
                m->ops->free(m);
}

gboolean monitor_error_is_gone(const GError *error)
{
        return error && error->domain == monitor_gone_quark();
}

GError *monitor_error_gone(const char *format, ...)
{
        va_list args;
        GError *error;

        va_start(args, format);
        error = g_error_new_valist(monitor_gone_quark(), MOULT_ERROR_NOT_FOUND, format, args);
        va_end(args);
        return error;
}

GError *monitor_error_refused(const char *command, const QmpMessage *m)
{
        MoultError code = g_str_equal(m->name, "CommandNotFound")  ? MOULT_ERROR_UNSUPPORTED
                          : g_str_equal(m->name, "DeviceNotFound") ? MOULT_ERROR_NOT_FOUND
                                                                   : MOULT_ERROR_REFUSED;

        return g_error_new(MOULT_ERROR, code, "QEMU refused %s: %s", command, m->text);
}
