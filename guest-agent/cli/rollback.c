/* guest-agent/cli/rollback.c - `moult-agent rollback`: the newest upgrade is taken back, and the command
 * waits for it. */
#include <string.h>
#include <sys/random.h>

#include "guest-agent/cli/client.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"
#include "guest-agent/operation.h"

#define TIMEOUT_MS 30000u

/* Follows the operation to its end. NULL with @error if the daemon went away. */
static Message *wait_for_end(Client *client, Message *first, const guint8 id[static 16], GError **error)
{
        g_autoptr(Message) m = first;

        while (!push_phase_is_final(m->state->phase)) {
                Message *next = client_next_state(client, error);

                if (!next)
                        return NULL;
                if (next->state->push_id.len != 16 || memcmp(next->state->push_id.data, id, 16) != 0) {
                        message_free(next);
                        continue;
                }
                message_free(m);
                m = next;
        }
        return g_steal_pointer(&m);
}

static int report(const Moult__TransactionState *s, gboolean json)
{
        g_autofree char *text = state_out_text(s);

        if (json)
                state_out_json(&s->base);
        else if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK)
                g_print("%s\n", text);
        else
                g_printerr("moult-agent: not rolled back: %s\n", text);
        return state_out_exit(s, MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK);
}

int command_rollback(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        gint64 generation = 0;
        gboolean force = FALSE;
        const GOptionEntry entries[] = {
                CLIENT_OPTIONS(&options),
                {"generation", 'g', 0, G_OPTION_ARG_INT64, &generation, "Only if this is the newest one",
                 "N"},
                {"force", 0, 0, G_OPTION_ARG_NONE, &force, "Although files were changed since", NULL},
                G_OPTION_ENTRY_NULL};
        Message request = MOULT__MESSAGE__INIT;
        Moult__RollbackGeneration body = MOULT__ROLLBACK_GENERATION__INIT;
        guint8 id[16];
        g_autoptr(GError) error = NULL;
        g_autoptr(Client) client = NULL;
        g_autoptr(Message) answer = NULL;
        int status;

        if (offline_is_asked(&argc, argv))
                return command_rollback_offline(argc, argv);
        if (!command_parse(&argc, &argv, entries, "",
                           "Gives back the files as they were before the newest upgrade.", &status))
                return status;
        client = client_connect(&options, &error);
        g_free(options.socket);
        if (!client) {
                status = client_unreachable(error);
                g_printerr("Without the agent: moult-agent rollback --offline does the same.\n");
                return status;
        }
        if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
                g_error("the kernel gives no random bytes");
        body.push_id = message_blob(id, sizeof id);
        body.generation = (guint64)MAX(generation, 0);
        body.force = force;
        request.body_case = MOULT__MESSAGE__BODY_ROLLBACK;
        request.rollback = &body;
        answer = client_ask(client, &request, TIMEOUT_MS, &error);
        if (answer)
                answer = wait_for_end(client, g_steal_pointer(&answer), id, &error);
        if (!answer)
                return command_fail(error);
        return report(answer->state, options.json);
}
