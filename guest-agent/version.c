/* guest-agent/version.c - what this agent calls itself. */
#include "guest-agent/version.h"

#ifndef AGENT_VERSION
#define AGENT_VERSION MOULT_VERSION
#endif

const char *agent_version(void)
{
        return AGENT_VERSION;
}

const char *agent_software(void)
{
        return "moult-agent " AGENT_VERSION;
}
