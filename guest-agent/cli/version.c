/* guest-agent/cli/version.c - `moult-agent version`. */
#include "guest-agent/cli/command.h"

int command_version(int argc, char **argv)
{
        g_print("moult-agent %s\n", MOULT_VERSION);
        return AGENT_EXIT_OK;
}
