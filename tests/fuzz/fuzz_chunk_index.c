/* tests/fuzz/fuzz_chunk_index.c - a list of chunks as a shared store may give it: refused, or within its
 * bounds. */
#include <stdlib.h>

#include "host-service/store/chunk_cut.h"
#include "host-service/store/chunk_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        GArray *refs = NULL;
        uint64_t at = 0;

        if (chunk_index_parse(data, size, &refs))
                return 0;
        if (refs->len == 0)
                abort();
        for (guint i = 0; i < refs->len; i++) {
                const struct chunk_ref *r = &g_array_index(refs, struct chunk_ref, i);

                if (r->end <= at || r->end - at > CHUNK_CUT_MAX)
                        abort();
                at = r->end;
        }
        g_array_unref(refs);
        return 0;
}
