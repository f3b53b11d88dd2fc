/* guest-agent/host_pin.h - which host may talk to us over the network, and where it listens.
 *
 * Theory of operation: a host is known by the SHA-256 of its TLS public key. That pin comes from the hello
 * over the virtio port (the hypervisor vouches, and may change it), or from a join token that an operator put
 * into the configuration: "moult1:FINGERPRINT:SECRET". A token counts once: its digest is kept with the pin,
 * so that a later pin from the port is not undone by an old token at the next start. Kept in DIR/host.pin. */
#pragma once

#include <glib.h>

#include "common/digest.h"
#include "guest-agent/worker.h"

typedef struct HostPin HostPin;

/* @token may be "". MALFORMED for a token that is none; a damaged host.pin is an error too: guessing is not
 * safe. */
HostPin *host_pin_load(const char *dir, const char *token, GError **error);
void host_pin_free(HostPin *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostPin, host_pin_free)

const guint8 *host_pin_fingerprint(const HostPin *p); /* NULL: no host is known */
const char *host_pin_secret(const HostPin *p);        /* NULL: there is no token, or it was used */
const char *const *host_pin_endpoints(const HostPin *p);

/* What the host said over the virtio port. TRUE if something is new. */
gboolean host_pin_learn(HostPin *p, const guint8 fingerprint[static DIGEST_SIZE],
                        const char *const *endpoints);
/* A TLS session stands: the token has done its work. TRUE if it had not before. */
gboolean host_pin_spend_token(HostPin *p);
/* Writes DIR/host.pin in @worker; a failure is logged. */
void host_pin_save(const HostPin *p, Worker *worker);
