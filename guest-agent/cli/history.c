/* guest-agent/cli/history.c - `moult-agent history`: the generations of this machine, newest first. */
#include "guest-agent/cli/client.h"
#include "guest-agent/cli/json_out.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"
#include "proto/limits.h"

#define TIMEOUT_MS 30000u

void history_print(const Moult__History *h)
{
        if (h->n_items == 0)
                g_print("moult has changed nothing on this machine yet\n");
        for (size_t i = 0; i < h->n_items; i++) {
                const Moult__HistoryItem *item = h->items[i];
                g_autoptr(GDateTime) when = g_date_time_new_from_unix_local((gint64)item->time_unix_s);
                g_autofree char *time = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
                g_autofree char *phase =
                        json_out_enum_word(&moult__transaction_phase__descriptor, (int)item->phase);
                g_autofree char *release = message_string(item->release), *text = message_string(item->text);

                g_print("%4" G_GUINT64_FORMAT "  %s  %-11s  %s%s\n", item->generation, time, phase, release,
                        item->can_roll_back ? "  (can be rolled back)" : "");
                if (text[0])
                        g_print("      %s\n", text);
        }
}

int command_history(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        int count = 0;
        const GOptionEntry entries[] = {CLIENT_OPTIONS(&options),
                                        {"count", 'n', 0, G_OPTION_ARG_INT, &count,
                                         "At most so many (default: all that are kept)", "N"},
                                        G_OPTION_ENTRY_NULL};
        Message request = MOULT__MESSAGE__INIT;
        Moult__HistoryQuery query = MOULT__HISTORY_QUERY__INIT;
        g_autoptr(GError) error = NULL;
        g_autoptr(Client) client = NULL;
        g_autoptr(Message) answer = NULL;
        int status;

        if (offline_is_asked(&argc, argv))
                return command_history_offline(argc, argv);
        if (!command_parse(&argc, &argv, entries, "", "Lists the upgrades of this machine, newest first.",
                           &status))
                return status;
        client = client_connect(&options, &error);
        g_free(options.socket);
        if (!client)
                return client_unreachable(error);
        query.count = (guint32)CLAMP(count, 0, (int)LIMIT_HISTORY);
        request.body_case = MOULT__MESSAGE__BODY_HISTORY_QUERY;
        request.history_query = &query;
        answer = client_ask(client, &request, TIMEOUT_MS, &error);
        if (!answer)
                return command_fail(error);
        if (options.json)
                state_out_json(&answer->history->base);
        else
                history_print(answer->history);
        return AGENT_EXIT_OK;
}
