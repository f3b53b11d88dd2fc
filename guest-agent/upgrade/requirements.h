/* guest-agent/upgrade/requirements.h - is this release for this machine? */
#pragma once

#include "shm/manifest.h"

/* The value of @key in os-release text (quotes taken off), or NULL. Pure. */
char *os_release_value(const char *text, const char *key);
/* @os_release: text; @machine: as uname -m. NULL if all are met, else the first that is not, for people.
 * Pure. */
char *requirements_refusal(const Manifest *m, const char *os_release, const char *machine);
/* Reads etc/os-release (else usr/lib/os-release) below @root_fd. MOULT_ERROR_REFUSED. */
gboolean requirements_check(const Manifest *m, int root_fd, GError **error);
