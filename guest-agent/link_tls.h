/* guest-agent/link_tls.h - the link to the host over the network: one TLS connection, dialled from here.
 *
 * Theory of operation: dialled only while a host is pinned and an address is known (configuration first, then
 * what the host said). A failure waits, twice as long each time up to a minute, with jitter, so that a
 * thousand guests do not come back in the same second when a host restarts. */
#pragma once

#include "guest-agent/host_pin.h"
#include "guest-agent/peers.h"
#include "proto/tls_identity.h"

typedef struct LinkTls LinkTls;

/* @address: the configured one, or "". @pin and @identity must outlive it. @established: a session stands. */
LinkTls *link_tls_new(Peers *peers, const TlsIdentity *identity, const HostPin *pin, const char *address,
                      void (*established)(gpointer user), gpointer user);
void link_tls_free(LinkTls *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkTls, link_tls_free)
/* The pin or the addresses are new, or the operator asks: dials now if it is not connected. */
void link_tls_kick(LinkTls *l);
