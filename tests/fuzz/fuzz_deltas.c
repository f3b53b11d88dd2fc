/* tests/fuzz/fuzz_deltas.c - what a stranger says of deltas: the index against a list, the trailer, and a
 * frame over a prefix. */
#include <stdint.h>
#include <string.h>

#include "proto/limits.h"
#include "shm/gzip_remake.h"
#include "shm/pack_deltas.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two blobs, and an entry that had a content before. */
static const Manifest *list(void)
{
        static Moult__Blob blobs[2];
        static Moult__Blob *blob_table[2] = {&blobs[0], &blobs[1]};
        static Moult__Entry entry;
        static Moult__Entry *entry_table[1] = {&entry};
        static uint8_t path[] = "usr/file", digest[DIGEST_SIZE];
        static ProtobufCBinaryData old = {sizeof digest, digest};
        static Manifest m;

        moult__manifest__init(&m);
        for (unsigned i = 0; i < 2; i++) {
                moult__blob__init(&blobs[i]);
                blobs[i].offset = 4096 + 4096 * i;
                blobs[i].size = blobs[i].stored_size = 3000;
        }
        moult__entry__init(&entry);
        entry.path = (ProtobufCBinaryData){sizeof path - 1, path};
        entry.n_old_digests = 1;
        entry.old_digests = &old;
        m.n_blobs = 2;
        m.blobs = blob_table;
        m.n_entries = 1;
        m.entries = entry_table;
        return &m;
}

/* What a recipe that was let through makes of any content stays in its room. */
static void try_recipes(const DeltaIndex *x)
{
        static uint8_t content[LIMIT_DELTA_OUTPUT];

        for (size_t i = 0; i < x->n_frames; i++)
                for (size_t k = 0; k < x->frames[i]->n_parts; k++) {
                        const Moult__DeltaPart *p = x->frames[i]->parts[k];
                        g_autoptr(GBytes) file =
                                p->gzip == NULL ? NULL : gzip_remake(p->gzip, content, (gsize)p->length);
                        g_assert(file == NULL || g_bytes_get_size(file) <= p->length);
                }
}

static void try_index(const uint8_t *data, size_t size, enum delta_index_kind kind)
{
        const Manifest *m = list();
        g_autoptr(GError) error = NULL;
        g_autoptr(DeltaIndex) x = delta_index_parse(data, size, kind, m, 12288, 1024 * 1024, &error);

        g_assert((x == NULL) == (error != NULL));
        for (size_t i = 0; x != NULL && i < x->n_frames; i++) {
                const Moult__DeltaFrame *f = x->frames[i];
                g_assert(f->offset >= 12288 && f->offset + f->stored_size <= 1024 * 1024);
                g_assert(delta_frame_prefix(f) <= LIMIT_DELTA_PREFIX);
                g_assert(delta_frame_output(f) > 0 && delta_frame_output(f) <= LIMIT_DELTA_OUTPUT);
                for (size_t k = 0; k < f->n_parts; k++)
                        g_assert(f->parts[k]->blob < 2 && f->parts[k]->offset + f->parts[k]->length <= 3000);
                for (size_t k = 0; k < f->n_prefix; k++)
                        g_assert(delta_source_path(m, x->sources[f->prefix[k]->source]).len > 0);
        }
        if (x != NULL)
                try_recipes(x);
}

static void try_gzip(const uint8_t *data, size_t size)
{
        Moult__GzipRecipe *r = NULL;
        g_autoptr(GBytes) content = gzip_recipe_make(data, size, &r), plain = gzip_unpack(data, size);

        if (content == NULL)
                return;
        g_assert(plain != NULL && g_bytes_equal(plain, content) && gzip_recipe_refusal(r) == NULL);
        g_autoptr(GBytes) again = gzip_remake(r, g_bytes_get_data(content, NULL), size);
        g_assert(again != NULL && g_bytes_get_size(again) == size);
        gzip_recipe_free(r);
}

static void try_frame(const uint8_t *data, size_t size)
{
        uint8_t prefix[4096], dst[8192 + 8];

        for (size_t i = 0; i < sizeof prefix; i++)
                prefix[i] = (uint8_t)(i * 7);
        memset(dst, 0x5a, sizeof dst);
        (void)delta_apply(prefix, sizeof prefix, data, size, dst, sizeof dst - 8, NULL);
        for (size_t i = sizeof dst - 8; i < sizeof dst; i++)
                g_assert(dst[i] == 0x5a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        if (data[0] == 0) {
                try_index(data + 1, size - 1, DELTA_INDEX_BYTES);
        } else if (data[0] == 1) {
                try_frame(data + 1, size - 1);
        } else if (data[0] == 3) {
                try_index(data + 1, size - 1, DELTA_INDEX_GZIP);
        } else if (data[0] == 4) {
                try_gzip(data + 1, size - 1);
        } else if (size > DELTA_TRAILER_SIZE) {
                struct delta_trailer t;
                gboolean there;
                if (delta_trailer_parse(data + 1, DELTA_INDEX_BYTES, &there, &t) == NULL && there)
                        g_assert(t.index_size > 0 && t.index_size <= LIMIT_DELTA_INDEX);
        }
        return 0;
}
