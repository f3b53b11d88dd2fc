/* host-service/hypervisor/domain_xml_tree.h - a domain's XML as a tree: for domain_xml.c and domain_disks.c.
 */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

typedef xmlDoc XmlDoc;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlDoc, xmlFreeDoc)

/* MALFORMED: no <domain>, or it is longer than any of libvirt's, or declares things of its own. */
XmlDoc *xml_domain_parse(const char *xml, GError **error);
/* <devices>, or NULL. */
xmlNode *xml_domain_devices(XmlDoc *doc);
gboolean xml_is_named(const xmlNode *n, const char *name);
/* The first child with this name, or NULL; @parent may be NULL. */
xmlNode *xml_child(const xmlNode *parent, const char *name);
/* Newly allocated; NULL: @n is NULL or has none. */
char *xml_attribute(const xmlNode *n, const char *name);
gboolean xml_attribute_is(const xmlNode *n, const char *name, const char *value);
/* As text, newly allocated. */
char *xml_dump(XmlDoc *doc);
