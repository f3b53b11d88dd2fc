/* tests/support/packs.h - small packs for tests: entries in one line, a key that is always the same. */
#pragma once

#include "shm/pack_reader.h"
#include "shm/pack_writer.h"
#include "tests/support/tempdir.h"

/* DIR/test.key, DIR/trust/test.pub; deterministic, so that corpora stay valid. */
SigningKey *packs_key(TempDir *t);
TrustStore *packs_trust(TempDir *t);

/* An entry with nothing but these; @path must outlive it. */
Moult__Entry packs_entry(Moult__EntryType type, const char *path);
/* Adds a file with this content. */
void packs_add_file(PackWriter *w, const char *path, const void *data, size_t len);
void packs_add(PackWriter *w, const Moult__Entry *e);

/* A pack with all types of entry, raw and compressed, of about 16 KiB; *ret_digest may be NULL. */
char *packs_small(TempDir *t, uint8_t *ret_digest);

PackReader *packs_open(const char *path, const TrustStore *trust, GError **error);
/* A source over private memory. */
PackSource *packs_memory_source(const void *data, size_t len);
/* Reads the entry's whole logical content; NULL with @error. */
GBytes *packs_content(PackReader *r, const Moult__Entry *e, GError **error);
/* Reads every file and compares its digest: what an agent does before it uses anything. */
gboolean packs_verify(PackReader *r, GError **error);
