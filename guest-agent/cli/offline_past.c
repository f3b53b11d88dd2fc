/* guest-agent/cli/offline_past.c - `moult-agent history --offline` and `moult-agent rollback --offline`. */
#include "common/error.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"

int command_history_offline(int argc, char **argv)
{
        struct offline_options o = {0};
        gint count = 0;
        const GOptionEntry entries[] = {OFFLINE_OPTIONS(&o),
                                        {"count", 'n', 0, G_OPTION_ARG_INT, &count,
                                         "At most so many (default: all that are kept)", "N"},
                                        G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;
        if (!command_parse(&argc, &argv, entries, "", "Lists the upgrades of a tree, newest first.",
                           &status)) {
                offline_options_clear(&o);
                return status;
        }
        g_autoptr(Upgrade) u = offline_open_read_only(&o, &error);
        Moult__History *h = u != NULL ? upgrade_history(u, (unsigned)MAX(count, 0), &error) : NULL;
        status = AGENT_EXIT_OK;
        if (h == NULL)
                status = command_fail(error);
        else if (o.json)
                state_out_json(&h->base);
        else
                history_print(h);
        upgrade_history_free(h);
        offline_options_clear(&o);
        return status;
}

static void on_state(const Moult__TransactionState *s, gpointer user)
{
        gboolean *json = user;
        g_autofree char *text = state_out_text(s);
        if (*json)
                state_out_json(&s->base);
        else if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK)
                g_print("%s\n", text);
}

int command_rollback_offline(int argc, char **argv)
{
        struct offline_options o = {0};
        gint64 generation = 0;
        gboolean force = FALSE;
        const GOptionEntry entries[] = {
                OFFLINE_OPTIONS(&o),
                {"generation", 'g', 0, G_OPTION_ARG_INT64, &generation, "Only if this is the newest one",
                 "N"},
                {"force", 0, 0, G_OPTION_ARG_NONE, &force, "Although files were changed since", NULL},
                G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        guint8 id[16];
        int status;
        if (!command_parse(&argc, &argv, entries, "",
                           "Gives back the files as they were before the newest upgrade.", &status)) {
                offline_options_clear(&o);
                return status;
        }
        offline_push_id(id);
        const struct rollback_target target = {.number = (guint64)MAX(generation, 0), .force = force};
        g_autoptr(Upgrade) u = offline_open(&o, &error);
        status = AGENT_EXIT_OK;
        if (u == NULL || !upgrade_rollback(u, id, &target, on_state, &o.json, &error))
                status = command_fail(error);
        offline_options_clear(&o);
        return status;
}
