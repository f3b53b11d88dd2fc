/* host-service/api/tls_listener.h - the API's door to the network: TLS 1.3 with the host's own key.
 *
 * A client knows the host by the key's fingerprint, which its token file has (decision 5); the host knows the
 * client by the token. Until their handshake is over callers are few and have little time, and those who have
 * shaken hands are counted apart from the Unix socket's: strangers cannot lock out the administrator.
 *
 * GIO shakes hands in GTask's worker threads, which others need as well: so a handshake begins only when the
 * caller has sent something, and few are under way at once. */
#pragma once

#include "host-service/api/peers.h"
#include "host-service/env.h"

#define API_TLS_CONNECTIONS_MAX 64
#define API_TLS_VISITORS_MAX    32
#define API_TLS_SHAKING_MAX     4
#define API_TLS_VISIT_TIME_MS   10000

struct api_tls_listener;

/* @endpoint: "ADDRESS:PORT" with a numeric address. @pem: certificate and key. */
struct api_tls_listener *api_tls_listener_new(const struct host_env *env, SoupServer *server,
                                              const char *endpoint, const char *pem, GError **error);
void api_tls_listener_free(struct api_tls_listener *l);
struct api_peers *api_tls_listener_peers(const struct api_tls_listener *l);
