/* proto/transport_fd.h - a transport over a descriptor: virtio port, Unix socket, socketpair. */
#pragma once

#include "proto/transport.h"

/* Takes over @fd (set O_NONBLOCK here). @name "virtio-serial" or "unix". @reopens: a read of 0 or HUP means
 * AWAY (virtio port), looked at again after 200 ms, then 400 .. 5000 ms. */
Transport *transport_fd_new(int fd, const char *name, const char *peer, gboolean reopens);
