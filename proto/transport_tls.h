/* proto/transport_tls.h - TLS 1.3 over a connected socket, both sides with a certificate, libssl on memory
 * BIOs. */
#pragma once

#include "proto/tls_identity.h"
#include "proto/transport.h"

/* True if a peer with this key may talk to us. Called during the handshake, before the peer's signature is
 * checked (libssl does that right after); a `false` ends it. Must not free the transport. */
typedef gboolean (*tls_accept_func)(const guint8 fingerprint[static DIGEST_SIZE], gpointer user);

/* Takes over @fd (connected or connecting). UP comes after the TLS handshake, which has 10 s. In TLS 1.3 a
 * client is UP before the server has judged its key: a refusal then comes as CLOSED. @id must outlive the
 * transport. */
Transport *transport_tls_new(int fd, gboolean is_server, const TlsIdentity *id, const char *peer,
                             tls_accept_func accept, gpointer user);
