/* host-service/cli/libvirt_client.h - the operator's own connection to a libvirt, for what needs no moultd.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

/* For --help. */
#define LIBVIRT_DEFAULT_URI "$LIBVIRT_DEFAULT_URI, or qemu:///system"

typedef virConnect VirConnect;
typedef virDomain VirDomain;
void libvirt_client_close(VirConnect *c);
void libvirt_client_domain_free(VirDomain *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirConnect, libvirt_client_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirDomain, libvirt_client_domain_free)

/* @said, or what the variable says that virsh heeds too, or qemu:///system. */
const char *libvirt_client_uri(const char *said);
/* May ask for a password on the terminal. */
VirConnect *libvirt_client_open(const char *uri, GError **error);
/* By name or UUID. */
VirDomain *libvirt_client_domain(VirConnect *c, const char *domain, GError **error);
/* @error from what libvirt said last. Returns FALSE. */
gboolean libvirt_client_failed(GError **error, const char *doing, const char *what);
/* Newly allocated with g_malloc(). @flags: VIR_DOMAIN_XML_... */
char *libvirt_client_xml(VirDomain *d, unsigned flags, GError **error);
