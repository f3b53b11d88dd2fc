/* host-service/env_real_virt_events.c - what libvirt tells by itself: domains that start and stop, block
 * jobs, QEMU's events.
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
        g_mutex_clear(&h->jobs_lock);
        g_cond_clear(&h->jobs_changed);
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

/* ---- block jobs: workers wait for them ---- */

static void on_job(virConnectPtr conn, virDomainPtr domain, const char *disk, int type, int status,
                   void *user)
{
        VirtHost *h = user;

        g_mutex_lock(&h->jobs_lock);
        h->jobs_seen++;
        g_cond_broadcast(&h->jobs_changed);
        g_mutex_unlock(&h->jobs_lock);
}

guint virt_jobs_seen(VirtHost *h)
{
        guint seen;

        g_mutex_lock(&h->jobs_lock);
        seen = h->jobs_seen;
        g_mutex_unlock(&h->jobs_lock);
        return seen;
}

void virt_jobs_wait(VirtHost *h, guint seen, gint64 until)
{
        g_mutex_lock(&h->jobs_lock);
        while (h->jobs_seen == seen && g_cond_wait_until(&h->jobs_changed, &h->jobs_lock, until))
                ;
        g_mutex_unlock(&h->jobs_lock);
}

/* ---- all of them ---- */

static int watch(VirtHost *h, virConnectPtr conn, int event, virConnectDomainEventGenericCallback func)
{
        int id = virConnectDomainEventRegisterAny(conn, NULL, event, func, virt_host_ref(h), virt_host_unref);

        if (id < 0)
                virt_host_unref(h);
        return id;
}

gboolean virt_events_begin(VirtHost *h, virConnectPtr conn, struct virt_event_ids *ret)
{
        ret->lifecycle =
                watch(h, conn, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle));
        if (ret->lifecycle < 0)
                return FALSE;
        /* Without it who waits for a job waits a little longer. */
        ret->jobs = watch(h, conn, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(on_job));
        /* Not allowed, or a libvirt of another hypervisor: plugging will say so. */
        ret->monitor = virConnectDomainQemuMonitorEventRegister(
                conn, NULL, QEMU_EVENTS, on_qemu_event, virt_host_ref(h), virt_host_unref,
                VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
        if (ret->monitor < 0)
                virt_host_unref(h);
        return TRUE;
}

void virt_events_end(virConnectPtr conn, const struct virt_event_ids *ids)
{
        if (ids->lifecycle >= 0)
                virConnectDomainEventDeregisterAny(conn, ids->lifecycle);
        if (ids->jobs >= 0)
                virConnectDomainEventDeregisterAny(conn, ids->jobs);
        if (ids->monitor >= 0)
                virConnectDomainQemuMonitorEventDeregister(conn, ids->monitor);
}
