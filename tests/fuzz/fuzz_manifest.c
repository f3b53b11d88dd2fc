/* tests/fuzz/fuzz_manifest.c - raw bytes as an upgrade file list; what passes the gate must keep its
 * promises. */
#include <stdint.h>
#include <string.h>

#include "common/fs_beneath.h"
#include "shm/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct pack_header header = {.blobs_offset = 4096, .blobs_size = 1024 * 1024};

/* What users of a list rely on without looking again. */
static void check_promises(const Manifest *m)
{
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                g_assert(fs_path_refusal(e->path.data, e->path.len) == NULL);
                g_assert(manifest_find(m, e->path.data, e->path.len) == (gssize)i);
                g_assert((e->mode & ~07777u) == 0);
                if (e->type == MOULT__ENTRY_TYPE__ENTRY_FILE) {
                        g_assert(e->digest.len == DIGEST_SIZE);
                        g_assert(e->blob <= m->n_blobs);
                }
                if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK) {
                        gssize target = manifest_find(m, e->link_target.data, e->link_target.len);
                        g_assert(target >= 0 && m->entries[target]->type == MOULT__ENTRY_TYPE__ENTRY_FILE);
                }
        }
        for (size_t i = 0; i < m->n_blobs; i++) {
                const Moult__Blob *b = m->blobs[i];
                g_assert(b->offset >= 4096 && b->offset <= 4096 + header.blobs_size);
                g_assert(b->stored_size <= 4096 + header.blobs_size - b->offset);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Manifest) m = manifest_parse(data, size, &header, &error);
        g_assert((m == NULL) == (error != NULL));
        if (m != NULL)
                check_promises(m);
        return 0;
}
