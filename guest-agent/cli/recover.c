/* guest-agent/cli/recover.c - `moult-agent recover`: after a crash, without a daemon: all old or all new, and
 * says which. */
#include "guest-agent/cli/offline.h"

#include <string.h>

#include "common/error.h"
#include "guest-agent/cli/state_out.h"

static int decide(Upgrade *u, gboolean confirm, gboolean back, gboolean json, GError **error)
{
        g_autoptr(Transaction) t = upgrade_recovered_transaction(u, NULL, NULL);
        if (t == NULL) {
                g_autofree char *removed = NULL;
                if (!upgrade_forget_interrupted(u, &removed, error))
                        return command_exit_status(*error);
                if (removed != NULL && !json)
                        g_print("%s\n", removed);
                if (!json)
                        g_print("nothing is left to do\n");
                return AGENT_EXIT_OK;
        }
        gboolean ok = TRUE;
        if (back) {
                ok = transaction_abort(t, NULL, error);
        } else if (confirm) {
                Moult__TransactionState *s = transaction_state(t);
                gboolean before_health = s->phase == MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
                transaction_state_free(s);
                ok = (!before_health || transaction_commit(t, NULL, error)) && transaction_confirm(t, error);
        }
        Moult__TransactionState *s = transaction_state(t);
        g_autofree char *text = state_out_text(s);
        int status = ok                                                        ? AGENT_EXIT_OK
                     : s->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK ? AGENT_EXIT_ROLLED_BACK
                                                                               : AGENT_EXIT_FAILED;
        if (json)
                state_out_json(&s->base);
        else if (!confirm && !back)
                g_print("not confirmed yet: the daemon goes on with it, or \"moult-agent recover --confirm\" "
                        "or \"--back\"\n");
        else
                g_print("%s\n", text);
        transaction_state_free(s);
        return status;
}

static gboolean asks_for_boot(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                if (g_str_equal(argv[i], "--boot"))
                        return TRUE;
        return FALSE;
}

static gboolean is_known(const char *option, const GOptionEntry *entries)
{
        for (const GOptionEntry *e = entries; e->long_name != NULL; e++) {
                const char *rest = option + strlen("--");
                if (g_str_has_prefix(rest, e->long_name) &&
                    (rest[strlen(e->long_name)] == '\0' || rest[strlen(e->long_name)] == '='))
                        return TRUE;
        }
        return g_str_equal(option, "--help");
}

/* The unit that starts us may be of a later release than we are. A machine without what is merged is worse
 * than one without what the option is for. */
static void drop_unknown(int *argc, char **argv, const GOptionEntry *entries)
{
        int kept = 1;
        for (int i = 1; i < *argc; i++) {
                if (!g_str_has_prefix(argv[i], "--") || is_known(argv[i], entries))
                        argv[kept++] = argv[i];
                else
                        g_printerr("warning: this moult-agent does not know \"%s\"; it recovers without\n",
                                   argv[i]);
        }
        argv[kept] = NULL;
        *argc = kept;
}

int command_recover(int argc, char **argv)
{
        struct offline_options o = {0};
        gboolean confirm = FALSE, back = FALSE;
        const GOptionEntry entries[] = {
                OFFLINE_OPTIONS(&o),
                {"confirm", 0, 0, G_OPTION_ARG_NONE, &confirm,
                 "Run the health checks that are due, and keep the new files", NULL},
                {"back", 0, 0, G_OPTION_ARG_NONE, &back, "Take an unconfirmed upgrade back", NULL},
                {"boot", 0, 0, G_OPTION_ARG_NONE, &o.boot,
                 "Only the files, before services run; the daemon goes on from there", NULL},
                {"count-boots", 0, 0, G_OPTION_ARG_NONE, &o.count_boots,
                 "With --boot: a release with which the machine does not get healthy is rolled back; "
                 "\"boot-ok\" ends the count",
                 NULL},
                G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;
        if (asks_for_boot(argc, argv))
                drop_unknown(&argc, argv, entries);
        if (!command_parse(&argc, &argv, entries, "",
                           "Brings the tree to all old or all new after a crash, and says which.", &status)) {
                offline_options_clear(&o);
                return status;
        }
        if (argc != 1 || confirm + back + o.boot > 1) {
                g_printerr("%s: takes no arguments, and only one of --confirm, --back and --boot\n",
                           g_get_prgname());
                offline_options_clear(&o);
                return AGENT_EXIT_USAGE;
        }
        g_autoptr(Upgrade) u = offline_open(&o, &error);
        status = u == NULL ? AGENT_EXIT_FAILED
                 : o.boot  ? AGENT_EXIT_OK
                           : decide(u, confirm, back, o.json, &error);
        offline_options_clear(&o);
        if (error == NULL)
                return status;
        int by_error = command_fail(error);
        return status != AGENT_EXIT_FAILED ? status : by_error;
}
