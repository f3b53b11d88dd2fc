/* tests/fuzz/fuzz_pack.c - a whole pack through the reader, and its contents.
 *
 * Digest, signature and checksum stop a fuzzer at the first gate. So each input is tried twice: as it is, and
 * with these three made right around whatever list and ranges it has. The key is the tests' own. */
#include <stdint.h>
#include <string.h>

#include "shm/pack_signature.h"
#include "shm/verified_file.h"
#include "tests/support/packs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A sparse file of terabytes is legal; reading it here would only take time. */
#define CONTENT_MAX (8u * 1024u * 1024u)

struct trust {
        SigningKey *key;
        TrustStore *store;
};

static gpointer make_trust(gpointer unused)
{
        static struct trust t;
        g_autoptr(TempDir) dir = tempdir_new();
        t.key = packs_key(dir);
        t.store = packs_trust(dir);
        return &t;
}

/* The same file by the block, in two pieces: if it gives out anything, it is what the whole file holds. The
 * whole has the digest that the list gives. */
static void read_by_block(PackReader *r, uint32_t entry)
{
        const Moult__Entry *e = pack_reader_manifest(r)->entries[entry];
        if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return;
        g_autoptr(GError) error = NULL;
        g_autoptr(VerifiedFile) f = verified_file_open(r, entry, &error);
        g_assert((f == NULL) == (error != NULL));
        if (f == NULL)
                return;
        g_autoptr(GBytes) whole = packs_content(r, e, NULL);
        g_autofree uint8_t *buf = g_malloc(e->size + 1);
        size_t len, middle = (size_t)e->size / 2;
        if (verified_file_read(f, middle, buf, (size_t)e->size, &len, NULL, &error))
                g_assert_cmpmem(buf, len, (const uint8_t *)g_bytes_get_data(whole, NULL) + middle,
                                e->size - middle);
        g_clear_error(&error);
        if (verified_file_read(f, 0, buf, middle, &len, NULL, &error))
                g_assert_cmpmem(buf, len, g_bytes_get_data(whole, NULL), middle);
}

static void read_all(const void *data, size_t size, const TrustStore *store)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(PackSource) source = packs_memory_source(data, size);
        g_autoptr(PackReader) r = pack_reader_open(source, store, NULL, NULL, &error);
        g_assert((r == NULL) == (error != NULL));
        if (r == NULL)
                return;
        uint64_t total = 0;
        const Manifest *m = pack_reader_manifest(r);
        for (size_t i = 0; i < m->n_entries; i++)
                total += MIN(m->entries[i]->size, CONTENT_MAX + 1);
        if (total <= CONTENT_MAX) {
                gboolean ok = packs_verify(r, &error);
                g_assert(ok == (error == NULL));
                for (size_t i = 0; ok && i < m->n_entries; i++)
                        read_by_block(r, (uint32_t)i);
        }
}

/* Keeps the input's blobs and list, where its header says they are; NULL if that is nowhere. */
static GByteArray *mend(const struct trust *t, const uint8_t *data, size_t size)
{
        struct pack_header_wire wire;
        if (size < PACK_HEADER_SIZE)
                return NULL;
        memcpy(&wire, data, sizeof wire);
        uint64_t blobs_size = GUINT64_FROM_LE(wire.blobs_size);
        uint64_t manifest_size = GUINT64_FROM_LE(wire.manifest_size);
        if (blobs_size > size - PACK_HEADER_SIZE || manifest_size > size - PACK_HEADER_SIZE - blobs_size)
                return NULL;
        struct pack_header h = {
                .blobs_offset = PACK_HEADER_SIZE,
                .blobs_size = blobs_size,
                .manifest_offset = PACK_HEADER_SIZE + blobs_size,
                .manifest_size = manifest_size,
                .signature_offset = PACK_HEADER_SIZE + blobs_size + manifest_size,
        };
        g_autoptr(Hasher) hasher = hasher_new();
        hasher_sha256(hasher, data + h.manifest_offset, (size_t)manifest_size, h.manifest_digest);
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) signature = pack_signature_make(&h, (SigningKey *[]){t->key}, 1, &error);
        g_assert_no_error(error);
        h.signature_size = g_bytes_get_size(signature);
        h.pack_size = h.signature_offset + h.signature_size;
        uint8_t header[PACK_HEADER_SIZE];
        pack_header_format(&h, header);
        GByteArray *whole = g_byte_array_new();
        g_byte_array_append(whole, header, sizeof header);
        g_byte_array_append(whole, data + PACK_HEADER_SIZE, (guint)(blobs_size + manifest_size));
        g_byte_array_append(whole, g_bytes_get_data(signature, NULL), (guint)h.signature_size);
        return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static GOnce once = G_ONCE_INIT;
        const struct trust *t = g_once(&once, make_trust, NULL);
        read_all(data, size, t->store);
        g_autoptr(GByteArray) mended = mend(t, data, size);
        if (mended != NULL)
                read_all(mended->data, mended->len, t->store);
        return 0;
}
