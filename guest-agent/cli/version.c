/* guest-agent/cli/version.c - `moult-agent version`. */
#include "guest-agent/cli/command.h"
#include "guest-agent/version.h"

int command_version(int argc, char **argv)
{
        g_print("%s\n", agent_software());
        return AGENT_EXIT_OK;
}
