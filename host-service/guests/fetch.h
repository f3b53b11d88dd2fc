/* host-service/guests/fetch.h - serves a guest's requests for blocks of the packs that are offered to it.
 *
 * Theory of operation: one FetchServer per session. At most LIMIT_FETCHES_IN_FLIGHT requests wait; one is
 * read at a time, by a worker thread, at most LIMIT_FETCH_BYTES; nothing is read while the peer has not taken
 * what was sent before. So a guest that stalls costs a few MiB and no time, and one that asks quickly waits
 * for itself only. */
#pragma once

#include "host-service/env.h"
#include "proto/session.h"

/* A pack that may be read now. */
typedef struct FetchPack FetchPack;
/* Opens @store_name in the pack store (in a worker, at the first read). @size_bytes: without padding. */
FetchPack *fetch_pack_new(const struct host_env *env, const guint8 digest[static DIGEST_SIZE],
                          const char *store_name, guint64 size_bytes);
FetchPack *fetch_pack_ref(FetchPack *p);
void fetch_pack_unref(FetchPack *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FetchPack, fetch_pack_unref)
const guint8 *fetch_pack_digest(const FetchPack *p);

/* The offered pack with this digest, or NULL. Borrowed. */
typedef FetchPack *(*fetch_lookup_func)(const guint8 *digest, gsize len, gpointer user);

typedef struct FetchServer FetchServer;
/* @session is borrowed and must outlive the server. */
FetchServer *fetch_server_new(const struct host_env *env, Session *session, fetch_lookup_func lookup,
                              gpointer user);
void fetch_server_free(FetchServer *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FetchServer, fetch_server_free)

/* A Fetch message came. Always answered: data, or Error (NOT_FOUND: not offered; CORRUPT: outside of the
 * pack; BUSY: too many at once). FALSE: it was refused (the caller's budget counts those). */
gboolean fetch_server_request(FetchServer *f, const Message *request);
/* The session has room again. */
void fetch_server_writable(FetchServer *f);
/* The conversation is over: what waits is forgotten. */
void fetch_server_reset(FetchServer *f);
guint64 fetch_server_sent(const FetchServer *f); /* payload bytes, for metrics and tests */
