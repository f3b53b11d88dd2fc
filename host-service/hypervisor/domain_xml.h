/* host-service/hypervisor/domain_xml.h - what moult reads in a libvirt domain's XML, and adds to it: pure.
 *
 * The XML is parsed, looked at and extended as a tree (libxml2); what is not ours is written back as it was.
 */
#pragma once

#include <glib.h>

#define DOMAIN_CHANNEL       "org.moult.agent.0"
#define DOMAIN_PORTS_DEFAULT 2u
#define DOMAIN_PORTS_MAX     8u

struct domain_needs {
        guint ports;           /* spare PCIe root ports; 0: only the channel. At most DOMAIN_PORTS_MAX */
        guint64 reserve_bytes; /* that each keeps free for a pack: a power of two */
};

/* Whether the domain has the virtio port @name; *ret_path: its host end's socket, or NULL if the XML says
 * none (a domain that does not run). *ret_connected: an agent has it open (may be NULL). */
gboolean domain_xml_channel(const char *xml, const char *name, char **ret_path, gboolean *ret_connected);
/* How many root ports of ours it has. */
guint domain_xml_ports(const char *xml);

/* The XML with what is missing of @needs; *ret_changed: there was something. UNSUPPORTED: a domain that we
 * cannot or should not change, with the reason; MALFORMED. Newly allocated. */
char *domain_xml_prepare(const char *xml, const struct domain_needs *needs, gboolean *ret_changed,
                         GError **error);
/* As domain_xml_prepare() writes it: for comparing. */
char *domain_xml_normalise(const char *xml, GError **error);
