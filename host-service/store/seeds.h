/* host-service/store/seeds.h - chunks that packs on this host have, so that they need not travel. */
#pragma once

#include "host-service/env.h"
#include "host-service/store/chunk_index.h"

typedef struct Seeds Seeds;

Seeds *seeds_new(const struct host_env *env);
void seeds_free(Seeds *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Seeds, seeds_free)

/* Looks through a pack of the store. Blocks: one worker thread. A pack that cannot be read is none. */
void seeds_add(Seeds *s, const char *file, GCancellable *cancellable);
/* A chunk that a pack has, read and compared with its name, or NULL. Blocks: any worker thread, several at
 * once, after the last seeds_add(). */
GBytes *seeds_read(const Seeds *s, const uint8_t id[static DIGEST_SIZE], gsize len);
