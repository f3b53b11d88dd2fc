/* host-service/guests/serial_link.h - keeps a session over one VM's virtio port.
 *
 * QEMU listens on a Unix socket for the host's end of the port, or libvirt says where it is. The link
 * connects, and connects again after whatever ended it: soon when the VM restarts, ever later when nobody is
 * there, and much later when the guest misbehaved (meanwhile QEMU takes no bytes from it, so its flood stays
 * in the guest). */
#pragma once

#include "host-service/guests/guest_session.h"

typedef struct SerialLink SerialLink;

/* Where the host's end of the port is: a socket, or with a libvirt, which knows. */
struct serial_port {
        const char *path;
        const char *libvirt, *domain; /* then no path */
};

/* @events->closed is called for the owner's information only: the link frees the session and connects again.
 * @hello: its strings must outlive the link. */
SerialLink *serial_link_new(const struct host_env *env, const struct serial_port *port,
                            const struct session_hello *hello, const struct guest_session_events *events,
                            gpointer user);
void serial_link_free(SerialLink *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SerialLink, serial_link_free)
/* The present session, or NULL between two. */
GuestSession *serial_link_session(SerialLink *l);
