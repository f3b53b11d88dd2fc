/* host-service/cli/vm_discover.c - moult vm discover: the domains of a libvirt that have the agent's channel.
 */
#include <string.h>

#include "common/error.h"
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/libvirt_client.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/hypervisor/domain_xml.h"

struct options {
        char *libvirt;
        gboolean all, add;
};

/* The name that moultd has for a domain, or NULL. */
static const char *known_as(JsonNode *vms, const char *uri, const char *name, const char *uuid)
{
        JsonArray *list = vms && JSON_NODE_HOLDS_ARRAY(vms) ? json_node_get_array(vms) : NULL;

        for (guint i = 0; list && i < json_array_get_length(list); i++) {
                JsonNode *node = json_array_get_element(list, i);
                JsonObject *vm = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
                const char *domain = vm ? json_text(vm, "domain") : NULL;

                if (domain && g_strcmp0(json_text(vm, "libvirt"), uri) == 0 &&
                    (g_str_equal(domain, name) || g_ascii_strcasecmp(domain, uuid) == 0))
                        return json_text(vm, "name");
        }
        return NULL;
}

/* NULL without an error: it went away while we looked. */
static JsonObject *describe(VirDomain *d, const char *uri, JsonNode *vms)
{
        g_autofree char *xml = libvirt_client_xml(d, 0, NULL), *path = NULL;
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        gboolean connected = FALSE, channel;
        const char *known;
        JsonObject *o;

        if (!xml)
                return NULL;
        virDomainGetUUIDString(d, uuid);
        channel = domain_xml_channel(xml, DOMAIN_CHANNEL, &path, &connected);
        known = known_as(vms, uri, virDomainGetName(d), uuid);
        o = json_object_new();
        json_object_set_string_member(o, "domain", virDomainGetName(d));
        json_object_set_string_member(o, "uuid", uuid);
        json_object_set_string_member(o, "state", virDomainIsActive(d) == 1 ? "running" : "off");
        json_object_set_boolean_member(o, "channel", channel);
        json_object_set_boolean_member(o, "agent", connected);
        json_object_set_int_member(o, "ports", domain_xml_ports(xml));
        if (known)
                json_object_set_string_member(o, "vm", known);
        else
                json_object_set_null_member(o, "vm");
        return o;
}

/* Each one that has the channel and is not known; the first failure does not keep the others out. */
static gboolean add_new(Cli *cli, Client *c, JsonArray *domains, const char *uri, GError **error)
{
        guint failed = 0;

        for (guint i = 0; i < json_array_get_length(domains); i++) {
                JsonObject *o = json_array_get_object_element(domains, i);
                const char *name = json_text(o, "domain");
                g_autoptr(GError) why = NULL;
                JsonObject *body;

                if (!json_flag(o, "channel") || json_text(o, "vm"))
                        continue;
                body = json_object_new();
                json_object_set_string_member(body, "name", name);
                json_object_set_string_member(body, "libvirt", uri);
                json_object_set_string_member(body, "domain", name);
                g_autoptr(JsonNode) answer = client_post(c, "/v1/vms", body, NULL, &why);
                if (answer) {
                        json_object_set_string_member(o, "vm", name);
                        continue;
                }
                failed++;
                json_object_set_string_member(o, "error", why->message);
                if (error && !*error)
                        g_propagate_prefixed_error(error, g_steal_pointer(&why), "adding domain %s: ", name);
        }
        if (failed > 1)
                g_prefix_error(error, "%u domains were not added; the first: ", failed);
        return failed == 0;
}

static JsonArray *look(VirConnect *conn, const char *uri, gboolean all, JsonNode *vms, GError **error)
{
        virDomainPtr *domains = NULL;
        int count = virConnectListAllDomains(conn, &domains, 0);
        JsonArray *found = json_array_new();

        if (count < 0) {
                libvirt_client_failed(error, "asking for the domains of", uri);
                json_array_unref(found);
                return NULL;
        }
        for (int i = 0; i < count; i++) {
                JsonObject *o = describe(domains[i], uri, vms);

                if (o && (all || json_flag(o, "channel")))
                        json_array_add_object_element(found, o);
                else if (o)
                        json_object_unref(o);
                virDomainFree(domains[i]);
        }
        free(domains);
        return found;
}

static void discover(Cli *cli, const struct options *o, GError **error)
{
        static const struct column columns[] = {
                {"DOMAIN", "domain", COLUMN_TEXT},
                {"STATE", "state", COLUMN_TEXT},
                {"CHANNEL", "channel", COLUMN_TEXT},
                {"AGENT", "agent", COLUMN_TEXT},
                {"PORTS", "ports", COLUMN_TEXT},
                {"VM", "vm", COLUMN_TEXT},
                {0},
        };
        const char *uri = libvirt_client_uri(o->libvirt);
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) vms = remote_get_member(c, "/v1/vms", "vms", error);
        g_autoptr(VirConnect) conn = vms ? libvirt_client_open(uri, error) : NULL;
        JsonArray *found = conn ? look(conn, uri, o->all, vms, error) : NULL;
        g_autoptr(JsonNode) node = NULL;

        if (!found)
                return;
        node = json_node_init_array(json_node_alloc(), found);
        json_array_unref(found);
        if (o->add)
                add_new(cli, c, found, uri, error);
        output_list(cli, node, columns,
                    o->all ? "this libvirt has no domains"
                           : "no domain has the agent's channel; --all shows the others",
                    error && !*error ? error : NULL);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"libvirt", 0, 0, G_OPTION_ARG_STRING, &o.libvirt,
                 "The libvirt to look at (default " LIBVIRT_DEFAULT_URI ")", "URI"},
                {"all", 'a', 0, G_OPTION_ARG_NONE, &o.all, "Also domains without the agent's channel", NULL},
                {"add", 0, 0, G_OPTION_ARG_NONE, &o.add,
                 "Add those that moultd does not know, by their names", NULL},
                {0},
        };

        if (command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                discover(cli, &o, error);
        g_free(o.libvirt);
        return EXIT_CODE_OK;
}

const struct command command_vm_discover = {
        .name = "discover",
        .summary = "The domains of a libvirt that have the agent's channel",
        .run = run,
};
