/* guest-agent/cli/status.c - `moult-agent status`: what the daemon does now. */
#include "guest-agent/cli/client.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"

#define TIMEOUT_MS 30000u

static void print_status(const Moult__Status *s)
{
        g_autofree char *software = message_string(s->software), *release = message_string(s->release);

        g_print("agent:   %s, up %" G_GUINT64_FORMAT " s\n", software, s->uptime_s);
        g_print("host:    ");
        for (size_t i = 0; i < s->n_session_names; i++) {
                g_autofree char *name = message_string(s->session_names[i]);
                g_print("%s%s", i ? ", " : "connected over ", name);
        }
        g_print("%s\n", s->n_session_names ? "" : "not connected");
        g_print("release: %s\n", release[0] ? release : "none was committed by moult");
        if (s->current) {
                g_autofree char *text = state_out_text(s->current);
                g_print("push:    %s\n", text);
        } else {
                g_print("push:    none since the agent started\n");
        }
}

int command_status(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        const GOptionEntry entries[] = {CLIENT_OPTIONS(&options), G_OPTION_ENTRY_NULL};
        Message request = MOULT__MESSAGE__INIT;
        Moult__StatusQuery query = MOULT__STATUS_QUERY__INIT;
        g_autoptr(GError) error = NULL;
        g_autoptr(Client) client = NULL;
        g_autoptr(Message) answer = NULL;
        int status;

        if (!command_parse(&argc, &argv, entries, "", "Shows what the agent does now.", &status))
                return status;
        client = client_connect(&options, &error);
        g_free(options.socket);
        if (!client)
                return client_unreachable(error);
        request.body_case = MOULT__MESSAGE__BODY_STATUS_QUERY;
        request.status_query = &query;
        answer = client_ask(client, &request, TIMEOUT_MS, &error);
        if (!answer)
                return command_fail(error);
        if (options.json)
                state_out_json(&answer->status->base);
        else
                print_status(answer->status);
        return AGENT_EXIT_OK;
}
