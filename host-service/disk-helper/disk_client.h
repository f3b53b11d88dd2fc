/* host-service/disk-helper/disk_client.h - moultd's way to moult-disks(8). */
#pragma once

#include <gio/gio.h>

#include "host-service/snapshot/layer_links.h"

typedef struct DiskClient DiskClient;

/* @socket: its path. It connects when it is needed, and once more when the other side was killed. */
DiskClient *disk_client_new(const char *socket);
void disk_client_free(DiskClient *c); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskClient, disk_client_free)

/* A connection, and what is said on it once: @request (with @image, or -1) is answered with a descriptor
 * (*ret_fd; NULL: there is none to be had). @dir: for texts: where moult-disks is needed. CANCELLED: the
 * other side sees that nobody waits any more, and ends what takes long. */
gboolean disk_client_ask(DiskClient *c, const char *dir, GBytes *request, int image, struct layer_look *ret,
                         int *ret_fd, GCancellable *cancellable, GError **error);
/* The connection, for those who go on with it; it is not the client's any more. */
GSocket *disk_client_steal(DiskClient *c);

/* As layer_links_do(), by moult-disks. Blocks as long as that does; one thread at a time. Its errors, and
 * UNSUPPORTED: it is not there; IO: it died, twice. */
gboolean disk_client_do(DiskClient *c, const LayerLinks *links, enum layer_operation operation, int image,
                        struct layer_look *ret, GCancellable *cancellable, GError **error);
