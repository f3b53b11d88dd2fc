/* guest-agent/source_session.h - a pack's bytes, fetched from the host over a session that stands.
 *
 * Theory of operation: staging threads block in read(); sessions belong to the main loop. So a read is cut
 * into Fetch requests that are posted to the main loop, whose answers it copies into the reader's buffer; the
 * reader sleeps on a condition. Whoever gives up (cancelled, or no byte for FETCH_SILENCE_US) takes his
 * buffer back under the lock, and late answers find nobody. No thread but the main one ever touches a
 * Session.
 *
 * At most LIMIT_FETCHES_IN_FLIGHT fetches are out at once, for all readers together. */
#pragma once

#include "guest-agent/peers.h"
#include "shm/pack_source.h"

/* Bytes [0, @size) of the pack whose manifest has this digest. @peers must outlive it. */
PackSource *source_session_new(Peers *peers, Moult__SourceKind kind, const guint8 manifest_digest[static 32],
                               uint64_t size);
/* Makes the next read fail, so that a ladder looks for a better source. Any thread. */
void source_session_supersede(PackSource *source);
/* True if the host answered a fetch with "not here" or "no", rather than not at all. Any thread. */
gboolean source_session_is_refused(PackSource *source);
/* Monotonic time of the last byte that came, 0 for none. Any thread. */
gint64 source_session_last_byte_us(PackSource *source);
