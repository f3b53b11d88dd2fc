/* guest-agent/version.h - what this agent calls itself. In a file of its own: the tests build a second agent
 * that differs in nothing else. */
#pragma once

/* "0.1.0" */
const char *agent_version(void);
/* "moult-agent 0.1.0": in hellos and answers. */
const char *agent_software(void);
