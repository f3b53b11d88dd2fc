/* host-service/hypervisor/domain_disks.c - the files of a libvirt domain's disks, in its XML. */
#include "host-service/hypervisor/domain_disks.h"

#include <json-glib/json-glib.h>

#include "common/error.h"
#include "host-service/hypervisor/domain_xml_tree.h"

/* Of a disk that is a file. Newly allocated; NULL: it is none. */
static char *file_of(const xmlNode *disk)
{
        return xml_attribute(xml_child(disk, "source"), "file");
}

static char *target_of(const xmlNode *disk)
{
        return xml_attribute(xml_child(disk, "target"), "dev");
}

/* The next <disk> after @n, or from @n on. */
static xmlNode *next_disk(xmlNode *n)
{
        while (n && !xml_is_named(n, "disk"))
                n = n->next;
        return n;
}

static xmlNode *first_disk(XmlDoc *doc)
{
        xmlNode *devices = xml_domain_devices(doc);

        return devices ? next_disk(devices->children) : NULL;
}

static xmlNode *disk_with(XmlDoc *doc, const char *target, GError **error)
{
        for (xmlNode *n = first_disk(doc); n; n = next_disk(n->next)) {
                g_autofree char *is = target_of(n);

                if (g_strcmp0(is, target) == 0)
                        return n;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "the domain has no disk %s", target);
        return NULL;
}

/* ---- what is there ---- */

static gboolean add_files(JsonObject *to, const char *member, const char *xml, GError **error)
{
        g_autoptr(XmlDoc) doc = NULL;
        JsonObject *files;

        if (!xml)
                return TRUE;
        doc = xml_domain_parse(xml, error);
        if (!doc)
                return FALSE;
        files = json_object_new();
        for (xmlNode *n = first_disk(doc); n; n = next_disk(n->next)) {
                g_autofree char *target = target_of(n), *file = file_of(n);

                if (target && file)
                        json_object_set_string_member(files, target, file);
        }
        json_object_set_object_member(to, member, files);
        return TRUE;
}

/* A copy or a commit that goes on, or is ready; NULL: none. */
static xmlNode *mirror_of(const xmlNode *disk)
{
        return xml_child(disk, "mirror");
}

static gboolean add_copies(JsonObject *to, const char *xml, GError **error)
{
        g_autoptr(XmlDoc) doc = NULL;
        JsonObject *copies;

        if (!xml)
                return TRUE;
        doc = xml_domain_parse(xml, error);
        if (!doc)
                return FALSE;
        copies = json_object_new();
        for (xmlNode *n = first_disk(doc); n; n = next_disk(n->next)) {
                const xmlNode *mirror = mirror_of(n);
                g_autofree char *target = target_of(n), *file = mirror ? file_of(mirror) : NULL;
                JsonObject *copy;

                if (!target || !file || !xml_attribute_is(mirror, "job", "copy"))
                        continue;
                copy = json_object_new();
                json_object_set_string_member(copy, "to", file);
                json_object_set_boolean_member(copy, "ready", xml_attribute_is(mirror, "ready", "yes"));
                json_object_set_object_member(copies, target, copy);
        }
        json_object_set_object_member(to, "copies", copies);
        return TRUE;
}

char *domain_disks_tell(const char *live, const char *defined, gboolean saved, GError **error)
{
        g_autoptr(JsonObject) o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);

        if (!add_files(o, "live", live, error) || !add_copies(o, live, error) ||
            !add_files(o, "defined", defined, error))
                return NULL;
        json_object_set_boolean_member(o, "saved", saved);
        return json_to_string(node, FALSE);
}

/* ---- what it is started from ---- */

static gboolean is_among(JsonObject *change, const char *file)
{
        JsonArray *from = json_object_get_array_member(change, "from");

        for (guint i = 0; i < json_array_get_length(from); i++)
                if (g_strcmp0(json_array_get_string_element(from, i), file) == 0)
                        return TRUE;
        return FALSE;
}

static void remove_child(xmlNode *of, const char *name)
{
        xmlNode *n = xml_child(of, name);

        if (!n)
                return;
        xmlUnlinkNode(n);
        xmlFreeNode(n);
}

/* FALSE: refused. */
static gboolean change_disk(xmlNode *disk, const char *target, JsonObject *change, gboolean *changed,
                            GError **error)
{
        const char *to = json_object_get_string_member(change, "to");
        const char *format = json_object_get_string_member(change, "format");
        xmlNode *driver = xml_child(disk, "driver"), *source = xml_child(disk, "source");
        g_autofree char *is = file_of(disk);

        if (!driver || !is || (g_strcmp0(is, to) != 0 && !is_among(change, is))) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "its definition names the file %s for %s, which is not the disk that moult knows: "
                        "somebody else has changed it",
                        is ? is : "(none)", target);
                return FALSE;
        }
        if (g_str_equal(is, to) && xml_attribute_is(driver, "type", format) &&
            !xml_child(disk, "backingStore"))
                return TRUE;
        xmlSetProp(source, BAD_CAST "file", BAD_CAST to);
        xmlSetProp(driver, BAD_CAST "type", BAD_CAST format);
        remove_child(disk, "backingStore");
        *changed = TRUE;
        return TRUE;
}

static JsonObject *parse_changes(const char *changes, JsonNode **ret_node, GError **error)
{
        JsonNode *node = *ret_node = json_from_string(changes, error);

        return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

char *domain_disks_define(const char *xml, const char *changes, GError **error)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(xml, error);
        g_autoptr(JsonNode) node = NULL;
        JsonObject *wanted = doc ? parse_changes(changes, &node, error) : NULL;
        g_autoptr(GList) targets = wanted ? json_object_get_members(wanted) : NULL;
        gboolean changed = FALSE;

        if (!wanted)
                return NULL;
        for (GList *l = targets; l; l = l->next) {
                xmlNode *disk = disk_with(doc, l->data, error);

                if (!disk || !change_disk(disk, l->data, json_object_get_object_member(wanted, l->data),
                                          &changed, error))
                        return NULL;
        }
        return changed ? xml_dump(doc) : g_strdup("");
}

/* ---- the switch ---- */

static void add_disk(xmlNode *disks, const char *target, const char *file)
{
        xmlNode *disk = xmlNewChild(disks, NULL, BAD_CAST "disk", NULL);

        xmlNewProp(disk, BAD_CAST "name", BAD_CAST target);
        xmlNewProp(disk, BAD_CAST "snapshot", BAD_CAST(file ? "external" : "no"));
        if (!file)
                return;
        xmlNewProp(xmlNewChild(disk, NULL, BAD_CAST "driver", NULL), BAD_CAST "type", BAD_CAST "qcow2");
        xmlNewProp(xmlNewChild(disk, NULL, BAD_CAST "source", NULL), BAD_CAST "file", BAD_CAST file);
}

char *domain_disks_switch(const char *live, const char *changes, GError **error)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(live, error), snapshot = NULL;
        g_autoptr(JsonNode) node = NULL;
        JsonObject *wanted = doc ? parse_changes(changes, &node, error) : NULL;
        g_autoptr(GList) targets = wanted ? json_object_get_members(wanted) : NULL;
        xmlNode *root, *disks;

        if (!wanted)
                return NULL;
        for (GList *l = targets; l; l = l->next)
                if (!disk_with(doc, l->data, error))
                        return NULL;
        snapshot = xmlNewDoc(BAD_CAST "1.0");
        root = xmlNewNode(NULL, BAD_CAST "domainsnapshot");
        xmlDocSetRootElement(snapshot, root);
        disks = xmlNewChild(root, NULL, BAD_CAST "disks", NULL);
        for (xmlNode *n = first_disk(doc); n; n = next_disk(n->next)) {
                g_autofree char *target = target_of(n);

                if (target)
                        add_disk(disks, target,
                                 json_object_get_string_member_with_default(wanted, target, NULL));
        }
        return xml_dump(snapshot);
}

/* ---- copies ---- */

static JsonObject *parse_copy(const char *copy, JsonNode **ret_node, GError **error)
{
        JsonObject *o = parse_changes(copy, ret_node, error);

        if (o && json_object_has_member(o, "target") && json_object_has_member(o, "to"))
                return o;
        if (o)
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "a copy has a target and a file");
        return NULL;
}

/* <driver>, <source>, or their like in a backing store. */
static void describe(xmlNode *n, const char *format_element, const char *format, const char *file)
{
        xmlNewProp(xmlNewChild(n, NULL, BAD_CAST format_element, NULL), BAD_CAST "type", BAD_CAST format);
        xmlNewProp(xmlNewChild(n, NULL, BAD_CAST "source", NULL), BAD_CAST "file", BAD_CAST file);
}

/* All of it, with its end: no header is read. */
static void describe_below(xmlNode *n, JsonArray *below)
{
        for (guint i = 0; below && i < json_array_get_length(below); i++) {
                JsonObject *o = json_array_get_object_element(below, i);

                n = xmlNewChild(n, NULL, BAD_CAST "backingStore", NULL);
                xmlNewProp(n, BAD_CAST "type", BAD_CAST "file");
                describe(n, "format", json_object_get_string_member(o, "format"),
                         json_object_get_string_member(o, "file"));
        }
        xmlNewChild(n, NULL, BAD_CAST "backingStore", NULL);
}

char *domain_disks_copy(const char *copy, GError **error)
{
        g_autoptr(XmlDoc) doc = NULL;
        g_autoptr(JsonNode) node = NULL;
        JsonObject *o = parse_copy(copy, &node, error);
        xmlNode *disk;

        if (!o)
                return NULL;
        doc = xmlNewDoc(BAD_CAST "1.0");
        disk = xmlNewNode(NULL, BAD_CAST "disk");
        xmlDocSetRootElement(doc, disk);
        xmlNewProp(disk, BAD_CAST "type", BAD_CAST "file");
        describe(disk, "driver", "qcow2", json_object_get_string_member(o, "to"));
        describe_below(disk,
                       json_object_has_member(o, "below") ? json_object_get_array_member(o, "below") : NULL);
        return xml_dump(doc);
}

gboolean domain_disks_find_copy(const char *live, const char *copy, DomainCopy *ret, char **ret_target,
                                GError **error)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(live, error);
        g_autoptr(JsonNode) node = NULL;
        JsonObject *o = doc ? parse_copy(copy, &node, error) : NULL;
        xmlNode *disk = o ? disk_with(doc, json_object_get_string_member(o, "target"), error) : NULL, *mirror;
        g_autofree char *file = NULL;

        if (!disk)
                return FALSE;
        mirror = mirror_of(disk);
        file = mirror ? file_of(mirror) : NULL;
        *ret_target = g_strdup(json_object_get_string_member(o, "target"));
        *ret = !mirror ? DOMAIN_COPY_NONE
               : !xml_attribute_is(mirror, "job", "copy") ||
                               g_strcmp0(file, json_object_get_string_member(o, "to")) != 0
                       ? DOMAIN_COPY_OTHER
               : xml_attribute_is(mirror, "ready", "yes") ? DOMAIN_COPY_READY
                                                          : DOMAIN_COPY_UNDER_WAY;
        return TRUE;
}

gboolean domain_disks_copies(const char *live)
{
        g_autoptr(XmlDoc) doc = xml_domain_parse(live, NULL);

        for (xmlNode *n = doc ? first_disk(doc) : NULL; n; n = next_disk(n->next))
                if (mirror_of(n) && !xml_attribute_is(mirror_of(n), "ready", "yes"))
                        return TRUE;
        return FALSE;
}
