/* host-service/env_real_virt_events.c - what libvirt tells by itself: domains that start and stop, QEMU's
 * events.
 *
 * libvirt calls back from the main loop. An event names its domain by name and UUID, and goes to whoever
 * watches it by either. */
#include <libvirt/libvirt-qemu.h>

#include "host-service/env_real_virt_private.h"

#define QEMU_EVENTS "^(DEVICE_DELETED|RESET|SHUTDOWN)$"

VirtHost *virt_host_ref(VirtHost *h)
{
        g_atomic_int_inc(&h->refs);
        return h;
}

void virt_host_unref(gpointer p)
{
        VirtHost *h = p;

        if (!g_atomic_int_dec_and_test(&h->refs))
                return;
        g_main_context_unref(h->context);
        g_ptr_array_unref(h->domains);
        g_free(h->uri);
        g_free(h);
}

void virt_tell_all(VirtHost *h, VirtEvent event, const char *detail)
{
        /* A handler may remove domains. */
        g_autoptr(GPtrArray) now = g_ptr_array_new();

        for (guint i = 0; i < h->domains->len; i++)
                g_ptr_array_add(now, h->domains->pdata[i]);
        for (guint i = 0; i < now->len; i++)
                if (g_ptr_array_find(h->domains, now->pdata[i], NULL)) {
                        VirtDomain *d = now->pdata[i];

                        d->event(event, detail, NULL, d->user);
                }
}

static void tell(VirtHost *h, virDomainPtr domain, VirtEvent event, const char *detail, const char *data)
{
        const char *name = virDomainGetName(domain);
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        g_autoptr(GPtrArray) now = g_ptr_array_new();

        virDomainGetUUIDString(domain, uuid);
        for (guint i = 0; i < h->domains->len; i++) {
                VirtDomain *d = h->domains->pdata[i];

                if (g_strcmp0(d->name, name) == 0 || g_ascii_strcasecmp(d->name, uuid) == 0)
                        g_ptr_array_add(now, d);
        }
        for (guint i = 0; i < now->len; i++)
                if (g_ptr_array_find(h->domains, now->pdata[i], NULL)) {
                        VirtDomain *d = now->pdata[i];

                        d->event(event, detail, data, d->user);
                }
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *user)
{
        static const char *const stopped[] = {
                [VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN] = "shut down",
                [VIR_DOMAIN_EVENT_STOPPED_DESTROYED] = "destroyed",
                [VIR_DOMAIN_EVENT_STOPPED_CRASHED] = "crashed",
                [VIR_DOMAIN_EVENT_STOPPED_MIGRATED] = "migrated",
                [VIR_DOMAIN_EVENT_STOPPED_SAVED] = "saved",
                [VIR_DOMAIN_EVENT_STOPPED_FAILED] = "failed",
                [VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT] = "reverted",
        };

        if (event == VIR_DOMAIN_EVENT_STARTED)
                tell(user, domain, VIRT_STARTED, NULL, NULL);
        else if (event == VIR_DOMAIN_EVENT_DEFINED)
                tell(user, domain, VIRT_DEFINED, NULL, NULL);
        else if (event == VIR_DOMAIN_EVENT_UNDEFINED)
                tell(user, domain, VIRT_UNDEFINED, NULL, NULL);
        else if (event == VIR_DOMAIN_EVENT_STOPPED)
                tell(user, domain, VIRT_STOPPED,
                     detail >= 0 && detail < (int)G_N_ELEMENTS(stopped) ? stopped[detail] : "stopped", NULL);
        return 0;
}

static void on_qemu_event(virConnectPtr conn, virDomainPtr domain, const char *event, long long seconds,
                          unsigned int micros, const char *details, void *user)
{
        tell(user, domain, VIRT_MONITOR, event, details);
}

gboolean virt_events_begin(VirtHost *h, virConnectPtr conn, int *ret_lifecycle, int *ret_monitor)
{
        *ret_lifecycle = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                          VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle),
                                                          virt_host_ref(h), virt_host_unref);
        if (*ret_lifecycle < 0) {
                virt_host_unref(h);
                return FALSE;
        }
        /* Not allowed, or a libvirt of another hypervisor: plugging will say so. */
        *ret_monitor = virConnectDomainQemuMonitorEventRegister(
                conn, NULL, QEMU_EVENTS, on_qemu_event, virt_host_ref(h), virt_host_unref,
                VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
        if (*ret_monitor < 0)
                virt_host_unref(h);
        return TRUE;
}

void virt_events_end(virConnectPtr conn, int lifecycle, int monitor)
{
        if (lifecycle >= 0)
                virConnectDomainEventDeregisterAny(conn, lifecycle);
        if (monitor >= 0)
                virConnectDomainQemuMonitorEventDeregister(conn, monitor);
}
