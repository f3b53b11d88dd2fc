/* guest-agent/cli/request.c - `moult-agent request PATH...` (U1): asks the host to upgrade the named files.
 */
#include <string.h>

#include "common/error.h"
#include "common/fs_beneath.h"
#include "guest-agent/cli/client.h"
#include "guest-agent/cli/online.h"
#include "proto/limits.h"

#define TIMEOUT_MS 90000u

/* NULL if @path can be asked for. */
static const char *path_refusal(const char *path)
{
        if (path[0] != '/')
                return "not an absolute path";
        return fs_path_refusal((const guint8 *)path + 1, strlen(path + 1));
}

static int check_paths(int n, char **paths)
{
        if (n == 0 || n > (int)LIMIT_SELECTION) {
                g_printerr("moult-agent request: name 1 to %u files\n", LIMIT_SELECTION);
                return AGENT_EXIT_USAGE;
        }
        for (int i = 0; i < n; i++) {
                const char *why = path_refusal(paths[i]);

                if (why) {
                        g_printerr("moult-agent request: \"%s\": %s\n", paths[i], why);
                        return AGENT_EXIT_USAGE;
                }
        }
        return AGENT_EXIT_OK;
}

int command_request(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        const GOptionEntry entries[] = {CLIENT_OPTIONS(&options), G_OPTION_ENTRY_NULL};
        Message request = MOULT__MESSAGE__INIT;
        Moult__UpgradeRequest body = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData paths[LIMIT_SELECTION];
        g_autoptr(GError) error = NULL;
        g_autoptr(Client) client = NULL;
        g_autoptr(Message) answer = NULL;
        int status;

        if (!command_parse(
                    &argc, &argv, entries, "PATH...",
                    "Asks the host to upgrade these files. The host builds the list from its newest release\n"
                    "that has them and offers it; `moult-agent status` shows how it goes.",
                    &status))
                return status;
        status = check_paths(argc - 1, argv + 1);
        if (status != AGENT_EXIT_OK)
                return status;
        client = client_connect(&options, &error);
        g_free(options.socket);
        if (!client)
                return client_unreachable(error);
        for (int i = 1; i < argc; i++)
                paths[body.n_paths++] = message_bytes(argv[i]);
        body.paths = paths;
        request.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        request.upgrade_request = &body;
        answer = client_ask(client, &request, TIMEOUT_MS, &error);
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT) ||
            g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO))
                return client_unreachable(error);
        if (!answer)
                return command_fail(error);
        g_print("%s", options.json ? "{\"accepted\":true}\n"
                                   : "The host has taken the request; moult-agent status shows the push.\n");
        return AGENT_EXIT_OK;
}
