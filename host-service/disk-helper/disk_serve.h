/* host-service/disk-helper/disk_serve.h - one connection of moultd's, served until it ends. */
#pragma once

#include <gio/gio.h>

#include "host-service/disk-helper/disk_dirs.h"

struct disk_service {
        const DiskDirs *dirs;
        const char *run_dir; /* for locks */
        uid_t user;          /* who may ask, beside root */
};

/* FALSE: the connection broke, somebody else asked, or what came was no request: all of them are told to the
 * other side first, as far as it goes. */
gboolean disk_serve(GSocket *s, const struct disk_service *service, GError **error);
/* The other side hears why it is not served. */
void disk_serve_refuse(GSocket *s, const GError *why);
