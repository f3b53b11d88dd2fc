/* host-service/disk-helper/disk_confine.h - to what a qemu-nbd is held: the files of its chain, and programs'
 * own. */
#pragma once

#include <glib.h>

/* A ruleset of Landlock's: the files @fds may be read, the first one written if @writable; programs and
 * libraries may be read and started; no other file can be opened, whatever rights the process has. The caller
 * closes. -1 without @error: this kernel has no Landlock. */
int disk_confine_to(const int *fds, guint n, gboolean writable, GError **error);
