/* host-service/hypervisor/libvirt_uri.c - what a libvirt's URI says. */
#include "host-service/hypervisor/libvirt_uri.h"

#include <string.h>

gboolean libvirt_uri_is_local(const char *uri)
{
        g_autoptr(GUri) u = g_uri_parse(uri, G_URI_FLAGS_NONE, NULL);
        const char *scheme = u ? g_uri_get_scheme(u) : "";
        const char *host = u ? g_uri_get_host(u) : NULL;

        return (!host || !*host) && (!strchr(scheme, '+') || g_str_has_suffix(scheme, "+unix"));
}
