/* host-service/hypervisor/domain_xml_tree.c - a domain's XML as a tree: parsed, walked, written back. */
#include "host-service/hypervisor/domain_xml_tree.h"

#include <libxml/parser.h>
#include <string.h>

#include "common/error.h"

#define XML_OPTIONS (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)
#define XML_MAX     (16 * 1024 * 1024)

XmlDoc *xml_domain_parse(const char *xml, GError **error)
{
        gsize len = strlen(xml);
        g_autoptr(XmlDoc) doc = len < XML_MAX ? xmlReadMemory(xml, (int)len, NULL, NULL, XML_OPTIONS) : NULL;
        xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

        if (!root || !xmlStrEqual(root->name, BAD_CAST "domain")) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "that is no domain's XML");
                return NULL;
        }
        if (doc->intSubset || doc->extSubset) { /* no libvirt writes one; what it declares would be lost */
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "the domain's XML has a document type of its own");
                return NULL;
        }
        return g_steal_pointer(&doc);
}

gboolean xml_is_named(const xmlNode *n, const char *name)
{
        return n->type == XML_ELEMENT_NODE && xmlStrEqual(n->name, BAD_CAST name);
}

xmlNode *xml_child(const xmlNode *parent, const char *name)
{
        for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
                if (xml_is_named(n, name))
                        return n;
        return NULL;
}

/* Newly allocated, or NULL. */
char *xml_attribute(const xmlNode *n, const char *name)
{
        xmlChar *value = n ? xmlGetNoNsProp(n, BAD_CAST name) : NULL;
        char *copy = g_strdup((char *)value);

        xmlFree(value);
        return copy;
}

gboolean xml_attribute_is(const xmlNode *n, const char *name, const char *value)
{
        g_autofree char *is = xml_attribute(n, name);

        return g_strcmp0(is, value) == 0;
}

xmlNode *xml_domain_devices(XmlDoc *doc)
{
        return xml_child(xmlDocGetRootElement(doc), "devices");
}

char *xml_dump(XmlDoc *doc)
{
        xmlBuffer *buffer = xmlBufferCreate();
        char *text;

        xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0);
        text = g_strconcat((const char *)xmlBufferContent(buffer), "\n", NULL);
        xmlBufferFree(buffer);
        return text;
}
