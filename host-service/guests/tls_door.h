/* host-service/guests/tls_door.h - lets agents in over the network: by their pinned key, or once by a join
 * token.
 *
 * A caller is a visitor until its Hello has come. The TLS handshake refuses unknown keys unless some VM waits
 * for its first contact. Visitors are few and have little time, so that strangers can hold nothing for long.
 */
#pragma once

#include "host-service/catalogue/vms.h"
#include "host-service/guests/guest_session.h"

typedef struct TlsDoor TlsDoor;

#define TLS_VISITORS_MAX  64u
#define TLS_VISIT_TIME_MS 15000u

/* @gs is the callee's now, established; it sets its own events. @vm: whose agent this is. */
typedef void (*tls_door_func)(const char *vm, GuestSession *gs, const Moult__Hello *peer, gpointer user);

/* Listens on @endpoints. NULL with @error if one of them cannot be listened on. @identity, @hello, @endpoints
 * and
 * @c must outlive the door. */
TlsDoor *tls_door_new(const struct host_env *env, Catalogue *c, const TlsIdentity *identity,
                      const char *const *endpoints, const struct session_hello *hello, tls_door_func enter,
                      gpointer user, GError **error);
void tls_door_free(TlsDoor *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsDoor, tls_door_free)
