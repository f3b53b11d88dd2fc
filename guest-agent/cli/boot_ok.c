/* guest-agent/cli/boot_ok.c - `moult-agent boot-ok`: run once the services are up, by moult-boot-ok.service
 * or a last init script. */
#include "common/error.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"

/* The daemon holds the engine, so it is asked; without one, directly. */
static int roll_back(const struct offline_options *o)
{
        char *online[] = {(char *)"rollback", NULL};
        char *offline[] = {(char *)"rollback", (char *)"--root", o->root, (char *)"--state", o->state, NULL};
        if (o->root != NULL && o->state != NULL)
                return command_rollback_offline(G_N_ELEMENTS(offline) - 1, offline);
        int status = command_rollback(G_N_ELEMENTS(online) - 1, online);
        if (status != AGENT_EXIT_UNREACHABLE)
                return status;
        char *here[] = {(char *)"rollback", NULL};
        return command_rollback_offline(G_N_ELEMENTS(here) - 1, here);
}

int command_boot_ok(int argc, char **argv)
{
        struct offline_options o = {0};
        const GOptionEntry entries[] = {OFFLINE_OPTIONS(&o), G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;
        if (!command_parse(&argc, &argv, entries, "",
                           "Runs the health checks of the newest upgrade after a start of the machine, and "
                           "ends the count of "
                           "starts; if they fail, the upgrade is rolled back.",
                           &status)) {
                offline_options_clear(&o);
                return status;
        }
        status = AGENT_EXIT_OK;
        Upgrade *u = offline_open_read_only(&o, &error);
        gboolean good = u != NULL && upgrade_boot_is_good(u, &error);
        upgrade_free(u);
        if (!good) {
                MoultError code = moult_error_code(error);
                status = command_fail(error);
                if (code == MOULT_ERROR_HEALTH || code == MOULT_ERROR_HOOK || code == MOULT_ERROR_TIMEOUT)
                        status = roll_back(&o) == AGENT_EXIT_OK ? AGENT_EXIT_ROLLED_BACK : AGENT_EXIT_FAILED;
        }
        offline_options_clear(&o);
        return status;
}
