/* guest-agent/trial.h - `moult-agent try`: what the daemon does at its start, up to the host's hello,
 * changing nothing.
 *
 * The daemon runs it from a new agent's staging place, with its own options, and waits. So this is also an
 * interface between two versions: options may be added, none may be taken away. */
#pragma once

#include "guest-agent/config.h"

/* Blocks. @hello_within_s: so long a host has to answer; 0: none is asked. FALSE: not fit, and why. */
gboolean trial_run(const struct agent_config *config, guint hello_within_s, GError **error);
