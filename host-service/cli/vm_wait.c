/* host-service/cli/vm_wait.c - moult vm wait: until the agents of VMs are connected. For scripts. */
#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

/* Between two questions. All VMs are in one answer, however many are waited for. */
#define ASK_EVERY_MS      250
#define DEFAULT_TIMEOUT_S 300

static gboolean is_connected(JsonArray *vms, const char *name, gboolean *ret_known)
{
        *ret_known = FALSE;
        for (guint i = 0; i < json_array_get_length(vms); i++) {
                JsonObject *vm = json_array_get_object_element(vms, i);
                if (g_strcmp0(json_object_get_string_member_with_default(vm, "name", NULL), name) != 0)
                        continue;
                *ret_known = TRUE;
                return json_object_get_boolean_member_with_default(vm, "connected", FALSE);
        }
        return FALSE;
}

/* The first of @names without a session, or NULL: all have one. FALSE: moultd has said no, or does not know
 * one of them. */
static gboolean look(Client *c, char *const *names, const char **ret_missing, GError **error)
{
        g_autoptr(JsonNode) vms = remote_get_member(c, "/v1/vms", "vms", error);

        *ret_missing = NULL;
        if (!vms)
                return FALSE;
        for (; *names; names++) {
                gboolean known, connected = is_connected(json_node_get_array(vms), *names, &known);
                if (!known) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no VM named \"%s\"",
                                    *names);
                        return FALSE;
                }
                if (!connected && !*ret_missing)
                        *ret_missing = *names;
        }
        return TRUE;
}

static void wait_for_all(Cli *cli, char *const *names, guint64 timeout_s, GError **error)
{
        const gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_s * G_USEC_PER_SEC;
        g_autoptr(Client) c = client_new(cli);
        const char *missing;

        do {
                if (!look(c, names, &missing, error) || !missing)
                        return;
        } while (g_get_monotonic_time() < deadline_us && client_pause(c, ASK_EVERY_MS, error));
        if (error == NULL || *error == NULL)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                            "the agent of %s is not connected after %" G_GUINT64_FORMAT
                            " s; 'moult doctor %s' says why",
                            missing, timeout_s, missing);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *timeout = NULL;
        uint64_t timeout_s = DEFAULT_TIMEOUT_S;
        const GOptionEntry entries[] = {
                {"timeout", 0, 0, G_OPTION_ARG_FILENAME, &timeout,
                 "Give up after so many seconds (default 300)", "SECONDS"},
                {0},
        };

        if (command_parse(self, cli, entries, 1, -1, &argc, &argv, error) &&
            (!timeout || text_parse_u64("--timeout", timeout, G_MAXINT32, &timeout_s, error)))
                wait_for_all(cli, argv + 1, timeout_s, error);
        return EXIT_CODE_OK;
}

const struct command command_vm_wait = {
        .name = "wait",
        .arguments = "NAME...",
        .summary = "Wait until the agents of VMs are connected",
        .details = "For scripts: ends with 0 as soon as all are, with 6 if one of them is not in time.",
        .run = run,
};
