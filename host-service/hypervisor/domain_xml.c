/* host-service/hypervisor/domain_xml.c - what moult reads in a libvirt domain's XML, and adds to it. */
#include "host-service/hypervisor/domain_xml.h"

#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/domain_xml_tree.h"

#define QEMU_NS    "http://libvirt.org/schemas/domain/qemu/1.0"
#define PORT_ALIAS "ua-moult-rp" /* libvirt keeps aliases that begin with "ua-" */
#define RESERVE    "pref64-reserve"

static xmlNode *find_channel(XmlDoc *doc, const char *name, guint *ret_count)
{
        xmlNode *devices = xml_domain_devices(doc), *found = NULL;

        *ret_count = 0;
        for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
                if (xml_is_named(n, "channel") && xml_attribute_is(xml_child(n, "target"), "name", name)) {
                        found = n;
                        (*ret_count)++;
                }
        return found;
}

gboolean domain_xml_channel(const char *xml, const char *name, char **ret_path, gboolean *ret_connected)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(xml, NULL);
        guint count = 0;
        xmlNode *channel = doc ? find_channel(doc, name, &count) : NULL;

        *ret_path = xml_attribute(xml_child(channel, "source"), "path");
        if (*ret_path && !**ret_path)
                g_clear_pointer(ret_path, g_free);
        if (ret_connected)
                *ret_connected =
                        channel && xml_attribute_is(xml_child(channel, "target"), "state", "connected");
        return channel != NULL;
}

static gboolean is_root_port(const xmlNode *n)
{
        return xml_is_named(n, "controller") && xml_attribute_is(n, "type", "pci") &&
               xml_attribute_is(n, "model", "pcie-root-port");
}

/* N of our own root port's alias, or -1. */
static int port_number(const xmlNode *n)
{
        g_autofree char *alias = is_root_port(n) ? xml_attribute(xml_child(n, "alias"), "name") : NULL;
        guint64 number;

        if (!alias || !g_str_has_prefix(alias, PORT_ALIAS) ||
            !g_ascii_string_to_unsigned(alias + strlen(PORT_ALIAS), 10, 0, 999, &number, NULL))
                return -1;
        return (int)number;
}

static guint count_ports(XmlDoc *doc)
{
        guint count = 0;

        for (xmlNode *n = xml_domain_devices(doc)->children; n; n = n->next)
                count += port_number(n) >= 0;
        return count;
}

guint domain_xml_ports(const char *xml)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(xml, NULL);

        return doc && xml_domain_devices(doc) ? count_ports(doc) : 0;
}

static gboolean refuse(GError **error, const char *why)
{
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, why);
        return FALSE;
}

/* Every reason not to touch it, before anything is. */
static gboolean judge(XmlDoc *doc, const struct domain_needs *needs, GError **error)
{
        xmlNode *root = xmlDocGetRootElement(doc), *devices = xml_domain_devices(doc);
        xmlNode *channel;
        gboolean pcie = FALSE;
        guint count;

        if (!xml_attribute_is(root, "type", "qemu") && !xml_attribute_is(root, "type", "kvm"))
                return refuse(error, "it is not a domain of QEMU (type qemu or kvm)");
        if (!devices)
                return refuse(error, "it has no <devices>");
        channel = find_channel(doc, DOMAIN_CHANNEL, &count);
        if (count > 1)
                return refuse(error, "it has more than one channel \"" DOMAIN_CHANNEL
                                     "\"; remove all but one (virsh edit)");
        if (channel && (!xml_attribute_is(channel, "type", "unix") ||
                        !xml_attribute_is(xml_child(channel, "target"), "type", "virtio")))
                return refuse(error, "its channel \"" DOMAIN_CHANNEL
                                     "\" is not of type unix with a virtio target; correct or remove it "
                                     "(virsh edit)");
        for (xmlNode *n = devices->children; n; n = n->next)
                pcie |= xml_is_named(n, "controller") && xml_attribute_is(n, "type", "pci") &&
                        xml_attribute_is(n, "model", "pcie-root");
        if (needs->ports > 0 && !pcie)
                return refuse(error,
                              "its machine has no PCI Express (it is not q35, say), so there is no root port "
                              "to plug a pack into; `--ports 0` adds the channel alone, and packs go over "
                              "it or over the network");
        return TRUE;
}

/* Adds <@name> at the end of @parent, on a line of its own. */
static xmlNode *append(xmlNode *parent, xmlNs *ns, const char *name, int depth)
{
        g_autofree char *indent = g_strdup_printf("\n%*s", 2 * depth, "");
        g_autofree char *outdent = g_strdup_printf("\n%*s", 2 * (depth - 1), "");
        xmlNode *n = xmlNewNode(ns, BAD_CAST name);

        /* The last text is what stood before the parent's end tag. */
        if (parent->last && xmlNodeIsText(parent->last) && xmlIsBlankNode(parent->last)) {
                xmlNode *blank = parent->last;

                xmlUnlinkNode(blank);
                xmlFreeNode(blank);
        }
        xmlAddChild(parent, xmlNewText(BAD_CAST indent));
        xmlAddChild(parent, n);
        xmlAddChild(parent, xmlNewText(BAD_CAST outdent));
        return n;
}

static void set(xmlNode *n, const char *name, const char *value)
{
        xmlNewProp(n, BAD_CAST name, BAD_CAST value);
}

static void add_channel(XmlDoc *doc)
{
        xmlNode *channel = append(xml_domain_devices(doc), NULL, "channel", 2);
        xmlNode *target = append(channel, NULL, "target", 3);

        set(channel, "type", "unix");
        set(target, "type", "virtio");
        set(target, "name", DOMAIN_CHANNEL);
}

static void add_port(XmlDoc *doc, guint number)
{
        g_autofree char *name = g_strdup_printf(PORT_ALIAS "%u", number);
        xmlNode *port = append(xml_domain_devices(doc), NULL, "controller", 2);

        set(port, "type", "pci");
        set(port, "model", "pcie-root-port");
        set(append(port, NULL, "alias", 3), "name", name);
}

static gboolean has_port(XmlDoc *doc, guint number)
{
        for (xmlNode *n = xml_domain_devices(doc)->children; n; n = n->next)
                if (port_number(n) == (int)number)
                        return TRUE;
        return FALSE;
}

static gboolean is_qemu(const xmlNode *n, const char *name)
{
        return xml_is_named(n, name) && n->ns && xmlStrEqual(n->ns->href, BAD_CAST QEMU_NS);
}

static xmlNode *qemu_child(const xmlNode *parent, const char *name, const char *key, const char *value)
{
        for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
                if (is_qemu(n, name) && (!key || xml_attribute_is(n, key, value)))
                        return n;
        return NULL;
}

static xmlNode *qemu_ensure(xmlNode *parent, xmlNs *ns, const char *name, int depth)
{
        xmlNode *n = qemu_child(parent, name, NULL, NULL);

        return n ? n : append(parent, ns, name, depth);
}

/* libvirt has no element for what a root port reserves (before 10.3): it passes this property on to QEMU. An
 * operator's own value stays. TRUE: something was added. */
static gboolean reserve(XmlDoc *doc, const char *alias, guint64 bytes)
{
        g_autofree char *value = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
        xmlNode *root = xmlDocGetRootElement(doc), *override, *device, *frontend, *property;
        xmlNs *ns = xmlSearchNsByHref(doc, root, BAD_CAST QEMU_NS);

        override = qemu_child(root, "override", NULL, NULL);
        device = qemu_child(override, "device", "alias", alias);
        frontend = qemu_child(device, "frontend", NULL, NULL);
        if (qemu_child(frontend, "property", "name", RESERVE))
                return FALSE;
        if (!ns)
                ns = xmlNewNs(root, BAD_CAST QEMU_NS, BAD_CAST "qemu");
        override = qemu_ensure(root, ns, "override", 1);
        if (!device) {
                device = append(override, ns, "device", 2);
                set(device, "alias", alias);
        }
        frontend = qemu_ensure(device, ns, "frontend", 3);
        property = append(frontend, ns, "property", 4);
        set(property, "name", RESERVE);
        set(property, "type", "unsigned");
        set(property, "value", value);
        return TRUE;
}

static gboolean reserve_all(XmlDoc *doc, guint64 bytes)
{
        gboolean changed = FALSE;

        for (xmlNode *n = xml_domain_devices(doc)->children; n; n = n->next)
                if (port_number(n) >= 0) {
                        g_autofree char *alias = xml_attribute(xml_child(n, "alias"), "name");

                        changed |= reserve(doc, alias, bytes);
                }
        return changed;
}

static char *extend(const char *xml, const struct domain_needs *needs, gboolean *ret_changed, GError **error)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(xml, error);
        gboolean changed = FALSE;
        guint count;

        if (!doc || !judge(doc, needs, error))
                return NULL;
        if (!find_channel(doc, DOMAIN_CHANNEL, &count)) {
                add_channel(doc);
                changed = TRUE;
        }
        for (guint n = 0; count_ports(doc) < needs->ports; n++)
                if (!has_port(doc, n)) {
                        add_port(doc, n);
                        changed = TRUE;
                }
        if (needs->ports > 0)
                changed |= reserve_all(doc, needs->reserve_bytes);
        *ret_changed = changed;
        return xml_dump(doc);
}

char *domain_xml_prepare(const char *xml, const struct domain_needs *needs, gboolean *ret_changed,
                         GError **error)
{
        gboolean changed = FALSE, more = TRUE;
        g_autofree char *text = extend(xml, needs, &changed, error), *again = NULL;

        if (!text)
                return NULL;
        /* Name spaces of its own may give what we add another meaning: read back, nothing may be missing. */
        again = extend(text, needs, &more, NULL);
        if (!again || more || !g_str_equal(again, text)) {
                refuse(error,
                       "its XML is written in a way that cannot be added to; libvirt writes it otherwise");
                return NULL;
        }
        *ret_changed = changed;
        return g_steal_pointer(&text);
}

char *domain_xml_normalise(const char *xml, GError **error)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(xml, error);

        return doc ? xml_dump(doc) : NULL;
}
