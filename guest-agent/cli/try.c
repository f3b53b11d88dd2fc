/* guest-agent/cli/try.c - `moult-agent try`: asked by the daemon of a program that is to come after it. */
#include <string.h>

#include "guest-agent/cli/command.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/own_program.h"
#include "guest-agent/trial.h"
#include "guest-agent/version.h"

#define HELLO_WITHIN "--hello-within="

/* Takes that out of the options, which are those of "run" otherwise. By hand: half a minute. */
static guint take_patience(int *argc, char **argv)
{
        guint seconds = 30;
        int kept = 1;

        for (int i = 1; i < *argc; i++)
                if (g_str_has_prefix(argv[i], HELLO_WITHIN))
                        seconds = (guint)g_ascii_strtoull(argv[i] + strlen(HELLO_WITHIN), NULL, 10);
                else
                        argv[kept++] = argv[i];
        argv[kept] = NULL;
        *argc = kept;
        return seconds;
}

int command_try(int argc, char **argv)
{
        g_autoptr(GError) error = NULL;
        guint patience = take_patience(&argc, argv);
        g_autoptr(AgentConfig) config = agent_config_load(&argc, &argv, AGENT_CONFIG_FILE, &error);

        g_set_prgname("moult-agent try");
        if (!config || !trial_run(config, patience, &error))
                return command_fail(error);
        g_print("%s: %s\n", agent_software(), OWN_PROGRAM_GOOD);
        return AGENT_EXIT_OK;
}
