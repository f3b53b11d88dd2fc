/* tests/unit/test_shm_pack_reader.c - hostile packs: refused, or what comes out is what was signed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/pack_signature.h"
#include "tests/support/packs.h"

TestSuite(pack_reader, .timeout = 300);

static PackReader *open_bytes(const void *data, size_t len, const TrustStore *trust, GError **error)
{
        g_autoptr(PackSource) s = packs_memory_source(data, len);
        return pack_reader_open(s, trust, NULL, NULL, error);
}

static gboolean is_in_a_blob(const Manifest *m, uint64_t offset)
{
        for (size_t i = 0; i < m->n_blobs; i++)
                if (offset >= m->blobs[i]->offset && offset - m->blobs[i]->offset < m->blobs[i]->stored_size)
                        return TRUE;
        return FALSE;
}

/* Every bit of the header, the list, the signature and the stored blobs. What lies between two blobs is
 * padding, which nobody reads: there a byte's bits are flipped together. */
Test(pack_reader, a_flipped_bit_anywhere_is_refused_or_changes_nothing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = packs_small(t, NULL), *bytes = NULL;
        gsize len;
        g_autoptr(TrustStore) trust = packs_trust(t);
        cr_assert(g_file_get_contents(path, &bytes, &len, &error));
        g_autoptr(PackReader) good = open_bytes(bytes, len, trust, &error);
        cr_assert(ne(ptr, good, NULL));
        const struct pack_header *h = pack_reader_header(good);
        unsigned harmless_in_frames = 0;
        for (size_t i = 0; i < len; i++) {
                gboolean in_blobs = i >= h->blobs_offset && i < h->manifest_offset;
                gboolean is_padding = in_blobs && !is_in_a_blob(pack_reader_manifest(good), i);
                for (unsigned bit = 0; bit < (is_padding ? 1 : 8); bit++) {
                        g_autoptr(GError) why = NULL;
                        uint8_t flip = is_padding ? 0xff : (uint8_t)(1u << bit);
                        bytes[i] ^= (char)flip;
                        g_autoptr(PackReader) r = open_bytes(bytes, len, trust, &why);
                        gboolean ok = r != NULL && packs_verify(r, &why);
                        bytes[i] ^= (char)flip;
                        cr_expect(ok == (why == NULL), "byte %zu: refused without a reason", i);
                        cr_expect(ok || !is_padding, "byte %zu of the padding was read", i);
                        cr_expect(in_blobs || !ok, "bit %u of byte %zu was not noticed", bit, i);
                        if (ok) /* verified content is identical by its digests */
                                cr_expect(g_bytes_equal(pack_reader_manifest_bytes(r),
                                                        pack_reader_manifest_bytes(good)));
                        harmless_in_frames += ok && !is_padding;
                }
        }
        /* Some bits of a zstd frame's header mean nothing. */
        cr_expect(harmless_in_frames <= 8, "%u flips within blobs were harmless", harmless_in_frames);
}

Test(pack_reader, a_pack_that_is_cut_off_anywhere_is_refused)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = packs_small(t, NULL), *bytes = NULL;
        gsize len;
        g_autoptr(TrustStore) trust = packs_trust(t);
        cr_assert(g_file_get_contents(path, &bytes, &len, &error));
        for (size_t cut = 0; cut < len; cut += cut + 100 < len ? 97 : 1) {
                g_autoptr(GError) why = NULL;
                g_autoptr(PackReader) r = open_bytes(bytes, cut, trust, &why);
                cr_expect(eq(ptr, r, NULL), "%zu of %zu bytes were accepted", cut, len);
                cr_expect(ne(ptr, why, NULL));
        }
}

static char *build(TempDir *t, SigningKey *const *keys, unsigned n_keys)
{
        g_autoptr(GError) error = NULL;
        const struct pack_writer_options options = {.name = "n", .version = "1"};
        g_autofree char *path = tempdir_path(t, "p");
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        packs_add_file(w, "a", "content", 7);
        cr_assert(pack_writer_finish(w, keys, n_keys, NULL, &error));
        return g_steal_pointer(&path);
}

static SigningKey *new_key(TempDir *t, const char *name)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *key = tempdir_path(t, name), *pub = g_strconcat(key, ".pub", NULL);
        cr_assert(signing_key_create(key, pub, &error));
        return signing_key_load(key, &error);
}

Test(pack_reader, an_unsigned_pack_is_untrusted)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autofree char *path = build(t, NULL, 0);
        g_autoptr(PackReader) r = packs_open(path, trust, &error);
        cr_expect(eq(ptr, r, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(error->message, "not signed"), NULL));
        g_clear_error(&error);
        g_autoptr(PackReader) shown = packs_open(path, NULL, &error);
        cr_expect(ne(ptr, shown, NULL));
}

Test(pack_reader, a_stranger_s_signature_is_untrusted_and_one_trusted_key_suffices)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(SigningKey) ours = packs_key(t), stranger = new_key(t, "stranger");
        g_autofree char *path = build(t, &stranger, 1);
        g_autoptr(PackReader) r = packs_open(path, trust, &error);
        cr_expect(eq(ptr, r, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(error->message, "none of the 1 trusted"), NULL));

        g_clear_error(&error);
        SigningKey *both[] = {stranger, ours};
        g_free(g_steal_pointer(&path));
        path = build(t, both, 2);
        g_autoptr(PackReader) good = packs_open(path, trust, &error);
        cr_assert(ne(ptr, good, NULL), "%s", error != NULL ? error->message : "");
        uint8_t id[DIGEST_SIZE];
        signing_key_id(ours, id);
        cr_expect(eq(int, memcmp(pack_reader_key_id(good), id, sizeof id), 0));
}

Test(pack_reader, a_stranger_who_names_a_trusted_key_is_told_apart)
{
        /* The trusted key's id, with the stranger's signature. */
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(SigningKey) ours = packs_key(t), stranger = new_key(t, "stranger");
        g_autofree char *path = build(t, &stranger, 1), *bytes = NULL;
        gsize len;
        uint8_t id[DIGEST_SIZE], other[DIGEST_SIZE];
        signing_key_id(ours, id);
        signing_key_id(stranger, other);
        cr_assert(g_file_get_contents(path, &bytes, &len, &error));
        char *at = memmem(bytes, len, other, sizeof other);
        cr_assert(ne(ptr, at, NULL));
        memcpy(at, id, sizeof id);
        g_autoptr(PackReader) r = open_bytes(bytes, len, trust, &error);
        cr_expect(eq(ptr, r, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(error->message, "altered"), NULL));
}

Test(pack_reader, another_pack_than_the_offered_one_is_refused)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *path = packs_small(t, digest);
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        g_autoptr(PackSource) s = pack_source_file_new(g_steal_fd(&fd), &error);
        digest[0] ^= 1;
        g_autoptr(PackReader) r = pack_reader_open(s, trust, digest, NULL, &error);
        cr_expect(eq(ptr, r, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
}

Test(pack_reader, kept_copies_open_without_the_pack_and_are_judged_again)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autofree char *path = packs_small(t, NULL);
        g_autoptr(PackReader) r = packs_open(path, trust, &error);
        g_autoptr(PackReader) kept =
                pack_reader_open_kept(pack_reader_header_bytes(r), pack_reader_manifest_bytes(r),
                                      pack_reader_signature_bytes(r), NULL, trust, &error);
        cr_assert(ne(ptr, kept, NULL), "%s", error != NULL ? error->message : "");
        cr_expect(eq(sz, pack_reader_manifest(kept)->n_entries, pack_reader_manifest(r)->n_entries));
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        uint8_t buf[CHUNK_SIZE];
        size_t len;
        cr_expect(not(pack_reader_read_chunk(kept, 0, 0, scratch, buf, &len, NULL, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));

        g_clear_error(&error);
        g_autoptr(GBytes) other = g_bytes_new_from_bytes(pack_reader_manifest_bytes(r), 0, 100);
        g_autoptr(PackReader) bad = pack_reader_open_kept(
                pack_reader_header_bytes(r), other, pack_reader_signature_bytes(r), NULL, trust, &error);
        cr_expect(eq(ptr, bad, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
}

/* Counts the reads of what is below. */
typedef struct {
        PackSource base;
        PackSource *below;
        unsigned reads;
        size_t largest;
} Counter;

static gboolean counter_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *c,
                             GError **error)
{
        Counter *k = (Counter *)self;
        k->reads++;
        k->largest = MAX(k->largest, len);
        return pack_source_read(k->below, offset, buf, len, c, error);
}

static void counter_free(PackSource *self)
{
        pack_source_unref(((Counter *)self)->below);
        g_free(self);
}

static const struct pack_source_ops counter_ops = {
        .name = "counter", .read = counter_read, .free = counter_free};

Test(pack_reader, small_neighbours_come_in_one_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = packs_small(t, NULL);
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        Counter *k = g_new0(Counter, 1);
        k->below = pack_source_file_new(g_steal_fd(&fd), &error);
        pack_source_init(&k->base, &counter_ops, k->below->size);
        g_autoptr(PackSource) source = &k->base;
        g_autoptr(PackReader) r = pack_reader_open(source, NULL, NULL, NULL, &error);
        const struct pack_header *h = pack_reader_header(r);
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        g_autofree uint8_t *buf = g_malloc(CHUNK_SIZE);
        size_t len;
        k->reads = 0;
        cr_assert(pack_reader_prefetch(r, h->blobs_offset, h->blobs_size, scratch, NULL, &error));
        for (uint32_t b = 0; b < pack_reader_manifest(r)->n_blobs; b++)
                cr_assert(pack_reader_read_chunk(r, b, 0, scratch, buf, &len, NULL, &error));
        cr_expect(eq(u32, k->reads, 1));
        /* What was not read ahead is read. */
        cr_assert(pack_reader_prefetch(r, h->blobs_offset, 1, scratch, NULL, &error));
        cr_assert(pack_reader_read_chunk(r, 0, 0, scratch, buf, &len, NULL, &error));
        cr_expect(eq(u32, k->reads, 3));
        cr_expect(not(pack_reader_prefetch(r, h->blobs_offset, h->blobs_size + 1, scratch, NULL, &error)));
        g_clear_error(&error);
        cr_expect(not(pack_reader_prefetch(r, 0, 1, scratch, NULL, &error)));
}

/* A pack whose header promises a list of 256 MiB, with the signature of another one behind it. */
Test(pack_reader, a_large_list_is_not_fetched_on_a_stranger_s_word)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(SigningKey) stranger = new_key(t, "stranger"), ours = packs_key(t);
        SigningKey *const signers[] = {stranger, ours};
        for (unsigned i = 0; i < G_N_ELEMENTS(signers); i++) {
                struct pack_header h = {
                        .blobs_offset = PACK_HEADER_SIZE,
                        .manifest_offset = PACK_HEADER_SIZE,
                        .manifest_size = 1, /* as signed */
                };
                uint8_t header[PACK_HEADER_SIZE];
                g_autofree char *path = tempdir_path(t, i == 0 ? "strange" : "ours");
                g_autoptr(GBytes) signature = pack_signature_make(&h, &signers[i], 1, &error);
                h.manifest_size = LIMIT_MANIFEST_BYTES;
                h.signature_offset = h.manifest_offset + h.manifest_size;
                h.signature_size = g_bytes_get_size(signature);
                h.pack_size = h.signature_offset + h.signature_size;
                pack_header_format(&h, header);
                scoped_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                cr_assert(fd_pwrite_all(fd, header, sizeof header, 0, path, &error));
                cr_assert(fd_pwrite_all(fd, g_bytes_get_data(signature, NULL), h.signature_size,
                                        (off_t)h.signature_offset, path, &error));
                Counter *k = g_new0(Counter, 1);
                k->below = pack_source_file_new(g_steal_fd(&fd), &error);
                pack_source_init(&k->base, &counter_ops, k->below->size);
                g_autoptr(PackSource) source = &k->base;
                g_autoptr(PackReader) r = pack_reader_open(source, trust, NULL, NULL, &error);
                cr_expect(eq(ptr, r, NULL));
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_UNTRUSTED));
                cr_expect(eq(u32, k->reads, 2)); /* header, signature */
                cr_expect(eq(sz, k->largest, PACK_HEADER_SIZE));
                g_clear_error(&error);
        }
}
