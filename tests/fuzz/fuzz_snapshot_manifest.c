/* tests/fuzz/fuzz_snapshot_manifest.c - a restore point's manifest as a shared store may give it: refused, or
 * it can be written again and is the same. */
#include <stdlib.h>
#include <string.h>

#include "host-service/layers/snapshot_manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(SnapshotManifest) m = NULL, back = NULL;
        g_autofree char *text = g_strndup((const char *)data, size),
                        *why = snapshot_manifest_parse(text, size, &m);
        g_autoptr(GBytes) once = NULL, twice = NULL;

        if (why)
                return 0;
        once = snapshot_manifest_encode(m, NULL);
        if (!once)
                abort();
        why = snapshot_manifest_parse(g_bytes_get_data(once, NULL), g_bytes_get_size(once), &back);
        if (why)
                abort();
        twice = snapshot_manifest_encode(back, NULL);
        if (!twice || !g_bytes_equal(once, twice))
                abort();
        return 0;
}
