/* host-service/cli/libvirt_client.c - the operator's own connection to a libvirt. */
#include "host-service/cli/libvirt_client.h"

#include <libvirt/virterror.h>

#include "common/error.h"

void libvirt_client_close(VirConnect *c)
{
        if (c)
                virConnectClose(c);
}

void libvirt_client_domain_free(VirDomain *d)
{
        if (d)
                virDomainFree(d);
}

const char *libvirt_client_uri(const char *said)
{
        const char *preferred = g_getenv("LIBVIRT_DEFAULT_URI");
        if (said)
                return said;
        return preferred && *preferred ? preferred : "qemu:///system";
}

gboolean libvirt_client_failed(GError **error, const char *doing, const char *what)
{
        const virError *e = virGetLastError();
        MoultError code = MOULT_ERROR_IO;

        if (e && e->code == VIR_ERR_NO_DOMAIN)
                code = MOULT_ERROR_NOT_FOUND;
        else if (e && (e->code == VIR_ERR_OPERATION_DENIED || e->code == VIR_ERR_ACCESS_DENIED ||
                       e->code == VIR_ERR_AUTH_FAILED))
                code = MOULT_ERROR_REFUSED;
        g_set_error(error, MOULT_ERROR, code, "%s %s: %s", doing, what,
                    e && e->message ? e->message : "unknown error");
        return FALSE;
}

static void ignore_error(void *user, virErrorPtr error)
{
}

VirConnect *libvirt_client_open(const char *uri, GError **error)
{
        VirConnect *c;

        virSetErrorFunc(NULL, ignore_error); /* it would print what we print */
        c = virConnectOpenAuth(uri, virConnectAuthPtrDefault, 0);
        if (!c)
                libvirt_client_failed(error, "connecting to libvirt", uri);
        return c;
}

VirDomain *libvirt_client_domain(VirConnect *c, const char *domain, GError **error)
{
        VirDomain *d = g_uuid_string_is_valid(domain) ? virDomainLookupByUUIDString(c, domain)
                                                      : virDomainLookupByName(c, domain);

        if (!d)
                libvirt_client_failed(error, "looking for the domain", domain);
        return d;
}

char *libvirt_client_xml(VirDomain *d, unsigned flags, GError **error)
{
        char *xml = virDomainGetXMLDesc(d, flags), *copy = g_strdup(xml);

        if (!xml)
                libvirt_client_failed(error, "reading the XML of", virDomainGetName(d));
        free(xml);
        return copy;
}
