/* host-service/cli/progress.h - progress on standard error: bars on a terminal, lines elsewhere, JSON for
 * programs. */
#pragma once

#include <stdint.h>

#include "host-service/cli/cli.h"

typedef struct Progress Progress;

Progress *progress_new(const Cli *cli);
/* Takes the bars off the screen. */
void progress_free(Progress *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Progress, progress_free)

/* @key: whose progress ("" where there is only one; a VM's name). Shows it when it is time to. @phase is a
 * word for people. One thread at a time. */
void progress_update(Progress *p, const char *key, const char *phase, uint64_t done, uint64_t total);
/* A line that stays, above the bars. Not in JSON or none. */
void progress_say(Progress *p, const char *format, ...) G_GNUC_PRINTF(2, 3);
