/* host-service/cli/vm_add.c - moult vm add: make a VM known to moultd. */
#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

struct options {
        char *qmp, *agent, *libvirt, *domain;
        GStrv labels;
        gboolean network, token;
};

static ExitCode add(Cli *cli, const char *name, const struct options *o, GError **error)
{
        static const struct column columns[] = {
                {"Name", "name", COLUMN_TEXT},
                {"QMP", "qmp", COLUMN_TEXT},
                {"Agent", "agent", COLUMN_TEXT},
                {"libvirt", "libvirt", COLUMN_TEXT},
                {"Domain", "domain", COLUMN_TEXT},
                {"Network", "network", COLUMN_TEXT},
                {"Labels", "labels", COLUMN_MAP},
                {"Token", "join_token", COLUMN_TEXT},
                {0},
        };
        g_autoptr(Client) c = client_new(cli);
        /* moultd has another working directory than we. */
        g_autofree char *qmp = o->qmp ? g_canonicalize_filename(o->qmp, NULL) : NULL;
        g_autofree char *agent = o->agent ? g_canonicalize_filename(o->agent, NULL) : NULL;
        JsonObject *labels = labels_to_json((const char *const *)o->labels, error), *body;

        if (!labels)
                return EXIT_CODE_USAGE;
        body = json_object_new();
        json_object_set_object_member(body, "labels", labels);
        json_object_set_string_member(body, "name", name);
        if (qmp)
                json_object_set_string_member(body, "qmp", qmp);
        if (agent)
                json_object_set_string_member(body, "agent", agent);
        if (o->libvirt) {
                json_object_set_string_member(body, "libvirt", o->libvirt);
                json_object_set_string_member(body, "domain", o->domain ? o->domain : name);
        }
        json_object_set_boolean_member(body, "network", o->network);
        if (o->token)
                json_object_set_boolean_member(body, "token", TRUE);
        g_autoptr(JsonNode) answer = client_post(c, "/v1/vms", body, NULL, error);
        g_autoptr(JsonNode) vm = answer ? remote_member(answer, "vm", error) : NULL;
        if (!vm)
                return EXIT_CODE_INTERNAL;
        const char *token = json_text(json_node_get_object(answer), "join_token");
        if (token)
                json_object_set_string_member(json_node_get_object(vm), "join_token", token);
        if (output_object(cli, vm, columns, error) && token)
                output_words(cli, "\nThe token is shown only now: it is the setting 'token' in [network] of "
                                  "the guest's "
                                  "moult-agent.conf, for the agent's first contact.\n");
        return EXIT_CODE_OK;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"qmp", 0, 0, G_OPTION_ARG_FILENAME, &o.qmp,
                 "QEMU's QMP socket; without it nothing is hot-plugged", "SOCKET"},
                {"agent", 0, 0, G_OPTION_ARG_FILENAME, &o.agent, "Socket of the agent's virtio-serial port",
                 "SOCKET"},
                {"libvirt", 0, 0, G_OPTION_ARG_STRING, &o.libvirt,
                 "The libvirt that has the VM; in place of both sockets", "URI"},
                {"domain", 0, 0, G_OPTION_ARG_STRING, &o.domain,
                 "The VM's name or UUID in libvirt (default: NAME)", "DOMAIN"},
                {"network", 0, 0, G_OPTION_ARG_NONE, &o.network,
                 "The agent's first contact may be over TLS, without a port", NULL},
                {"token", 0, 0, G_OPTION_ARG_NONE, &o.token,
                 "Print a one-time token for the agent's first contact over the network", NULL},
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.labels,
                 "A label: 'moult push --label' chooses VMs by them; may be repeated", "KEY=VALUE"},
                {0},
        };
        ExitCode code = EXIT_CODE_OK;

        if (command_parse(self, cli, entries, 1, 1, &argc, &argv, error)) {
                if (!o.agent && !o.network && !o.libvirt)
                        command_usage_error(
                                error, "'moult vm add' needs --libvirt URI, --agent SOCKET, or --network");
                else if (o.libvirt && (o.agent || o.qmp))
                        command_usage_error(error, "--libvirt is in place of --qmp and --agent");
                else if (o.domain && !o.libvirt)
                        command_usage_error(error, "--domain is a domain of --libvirt URI");
                else if (o.token && !o.network)
                        command_usage_error(error, "--token is for VMs that come over the --network");
                else
                        code = add(cli, argv[1], &o, error);
        }
        g_free(o.qmp);
        g_free(o.agent);
        g_strfreev(o.labels);
        g_free(o.libvirt);
        g_free(o.domain);
        return code;
}

const struct command command_vm_add = {
        .name = "add",
        .arguments = "NAME --libvirt URI | NAME --qmp SOCKET --agent SOCKET",
        .summary = "Make a VM known",
        .run = run,
};
