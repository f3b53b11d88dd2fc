/* host-service/disk-helper/disk_packet.h - packets, each with at most one descriptor, over a Unix socket. */
#pragma once

#include <gio/gio.h>

/* @fd: stays the caller's; -1: none. IO; CANCELLED. */
gboolean disk_packet_send(GSocket *s, GBytes *packet, int fd, GCancellable *c, GError **error);
/* One of at most DISK_PACKET_MAX bytes. NULL without @error: the other side has closed. *@ret_fd: owned by
 * the caller; -1: none. MALFORMED: longer, or with more descriptors. */
GBytes *disk_packet_receive(GSocket *s, int *ret_fd, GCancellable *c, GError **error);
