/* guest-agent/upgrade/served.h - what serves a path now: the target file system or the original (U10). Only
 * looks. */
#pragma once

#include "guest-agent/upgrade/record.pb-c.h"
#include "guest-agent/upgrade/transaction.h"

/* @path: absolute, or relative to the root; its last component is not followed. NOT_FOUND: there is nothing,
 * and no release deleted it. Freed with moult__record__served__free_unpacked(). */
Moult__Record__Served *upgrade_served(Upgrade *u, const char *path, GError **error);
