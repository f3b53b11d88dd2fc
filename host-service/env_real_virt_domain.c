/* host-service/env_real_virt_domain.c - what is asked of one domain of libvirt's: its QEMU's monitor, and its
 * disks. All of it blocks: in worker threads. */
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include "common/error.h"
#include "host-service/env_real_virt_private.h"
#include "host-service/hypervisor/domain_disks.h"

#define DEFINITION (VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE)
/* All or nothing, onto images that are there, and without a snapshot of libvirt's own to look after. */
#define SWITCH                                                                                               \
        (VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT |                       \
         VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC)

/* Onto an image that is there, over what the top stands on too; gone with the QEMU that does it. */
#define COPY                                                                                                 \
        (VIR_DOMAIN_BLOCK_COPY_SHALLOW | VIR_DOMAIN_BLOCK_COPY_REUSE_EXT |                                   \
         VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
#define AWAIT_US G_USEC_PER_SEC

typedef virDomain VirDomain;
static void domain_unref(VirDomain *d)
{
        virDomainFree(d);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirDomain, domain_unref)

GError *virt_error(const char *doing)
{
        const virError *e = virGetLastError();
        MoultError code = MOULT_ERROR_IO;

        if (e && (e->code == VIR_ERR_NO_DOMAIN || e->code == VIR_ERR_OPERATION_INVALID))
                code = MOULT_ERROR_NOT_FOUND;
        else if (e && e->code == VIR_ERR_OPERATION_TIMEOUT)
                code = MOULT_ERROR_TIMEOUT;
        else if (e && (e->code == VIR_ERR_OPERATION_DENIED || e->code == VIR_ERR_ACCESS_DENIED ||
                       e->code == VIR_ERR_NO_SUPPORT || e->code == VIR_ERR_OPERATION_UNSUPPORTED))
                code = MOULT_ERROR_UNSUPPORTED;
        return g_error_new(MOULT_ERROR, code, "%s: %s", doing,
                           e && e->message ? e->message : "unknown error");
}

virDomainPtr virt_lookup(virConnectPtr conn, const char *domain, GError **error)
{
        virDomainPtr d = g_uuid_string_is_valid(domain) ? virDomainLookupByUUIDString(conn, domain)
                                                        : virDomainLookupByName(conn, domain);

        if (!d)
                g_propagate_error(error, virt_error("looking for the domain"));
        return d;
}

char *virt_monitor_command(virConnectPtr conn, const char *domain, const char *command, GError **error)
{
        g_autoptr(VirDomain) d = virt_lookup(conn, domain, error);
        char *reply = NULL;

        if (d && virDomainQemuMonitorCommand(d, command, &reply, VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT) < 0)
                g_propagate_error(error, virt_error("QEMU's monitor"));
        return reply;
}

/* Newly allocated (with malloc); NULL with @error. */
static char *xml_of(VirDomain *d, unsigned flags, GError **error)
{
        char *xml = virDomainGetXMLDesc(d, flags);

        if (!xml)
                g_propagate_error(error, virt_error("reading its XML"));
        return xml;
}

static char *ask(VirDomain *d, GError **error)
{
        int active = virDomainIsActive(d), kept = virDomainIsPersistent(d);
        int saved = virDomainHasManagedSaveImage(d, 0);
        g_autofree char *live = NULL, *defined = NULL;

        if (active < 0 || kept < 0 || saved < 0) {
                g_propagate_error(error, virt_error("asking for its state"));
                return NULL;
        }
        if ((active && !(live = xml_of(d, 0, error))) || (kept && !(defined = xml_of(d, DEFINITION, error))))
                return NULL;
        return domain_disks_tell(live, defined, saved > 0, error);
}

static gboolean define(VirDomain *d, const char *changes, GError **error)
{
        g_autofree char *xml = NULL, *changed = NULL;
        g_autoptr(VirDomain) defined = NULL;

        if (virDomainIsPersistent(d) != 1) { /* to define it would make it so */
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "libvirt keeps no definition of it (it is transient)");
                return FALSE;
        }
        if (!(xml = xml_of(d, DEFINITION, error)) || !(changed = domain_disks_define(xml, changes, error)))
                return FALSE;
        if (*changed == '\0') /* nothing to change */
                return TRUE;
        defined = virDomainDefineXML(virDomainGetConnect(d), changed);
        if (!defined)
                g_propagate_error(error, virt_error("changing its definition"));
        return defined != NULL;
}

static gboolean switch_all(VirDomain *d, const char *changes, GError **error)
{
        g_autofree char *live = xml_of(d, 0, error), *xml = NULL;
        virDomainSnapshotPtr snapshot;

        if (!live || !(xml = domain_disks_switch(live, changes, error)))
                return FALSE;
        snapshot = virDomainSnapshotCreateXML(d, xml, SWITCH);
        if (!snapshot) {
                g_propagate_error(error, virt_error("switching to the new files"));
                return FALSE;
        }
        virDomainSnapshotFree(snapshot);
        return TRUE;
}

/* ---- copies ---- */

static gboolean begin_copy(VirDomain *d, const char *copy, GError **error)
{
        g_autofree char *live = xml_of(d, 0, error), *target = NULL, *xml = NULL;
        DomainCopy is;

        if (!live || !domain_disks_find_copy(live, copy, &is, &target, error) ||
            !(xml = domain_disks_copy(copy, error)))
                return FALSE;
        if (virDomainBlockCopy(d, target, xml, NULL, 0, COPY) == 0)
                return TRUE;
        g_propagate_error(error, virt_error("beginning a copy"));
        return FALSE;
}

static gboolean pivot(VirDomain *d, const char *copy, GError **error)
{
        g_autofree char *live = xml_of(d, 0, error), *target = NULL;
        DomainCopy is;

        if (!live || !domain_disks_find_copy(live, copy, &is, &target, error))
                return FALSE;
        if (is != DOMAIN_COPY_READY) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "the disk %s has no copy that is ready",
                            target);
                return FALSE;
        }
        if (virDomainBlockJobAbort(d, target, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) == 0)
                return TRUE;
        g_propagate_error(error, virt_error("ending a copy by using it"));
        return FALSE;
}

static gboolean drop_copy(VirDomain *d, const char *copy, GError **error)
{
        g_autofree char *live = xml_of(d, 0, error), *target = NULL;
        DomainCopy is;

        if (!live || !domain_disks_find_copy(live, copy, &is, &target, error))
                return FALSE;
        if (is == DOMAIN_COPY_NONE || is == DOMAIN_COPY_OTHER || virDomainBlockJobAbort(d, target, 0) == 0)
                return TRUE;
        g_propagate_error(error, virt_error("ending a copy"));
        return FALSE;
}

static char *await(VirtHost *h, VirDomain *d, GError **error)
{
        guint seen = virt_jobs_seen(h);
        g_autofree char *live = xml_of(d, 0, error);

        if (!live)
                return NULL;
        if (domain_disks_copies(live))
                virt_jobs_wait(h, seen, g_get_monotonic_time() + AWAIT_US);
        return ask(d, error);
}

static gboolean set_running(VirDomain *d, gboolean running, GError **error)
{
        if ((running ? virDomainResume(d) : virDomainSuspend(d)) == 0)
                return TRUE;
        g_propagate_error(error, virt_error(running ? "resuming it" : "suspending it"));
        return FALSE;
}

static gboolean do_change(VirDomain *d, VirtDisks what, const char *arguments, GError **error)
{
        switch (what) {
        case VIRT_DISKS_DEFINE:
                return define(d, arguments, error);
        case VIRT_DISKS_SWITCH:
                return switch_all(d, arguments, error);
        case VIRT_DISKS_COPY:
                return begin_copy(d, arguments, error);
        case VIRT_DISKS_PIVOT:
                return pivot(d, arguments, error);
        case VIRT_DISKS_DROP:
                return drop_copy(d, arguments, error);
        case VIRT_STOP:
                return set_running(d, FALSE, error);
        case VIRT_GO_ON:
                return set_running(d, TRUE, error);
        case VIRT_DISKS_ASK:
        case VIRT_DISKS_AWAIT:
        default:
                g_assert_not_reached();
        }
}

char *virt_disks(VirtHost *h, virConnectPtr conn, const char *domain, VirtDisks what, const char *arguments,
                 GError **error)
{
        g_autoptr(VirDomain) d = virt_lookup(conn, domain, error);

        if (!d)
                return NULL;
        if (what == VIRT_DISKS_ASK)
                return ask(d, error);
        if (what == VIRT_DISKS_AWAIT)
                return await(h, d, error);
        return do_change(d, what, arguments, error) ? g_strdup("null") : NULL;
}
