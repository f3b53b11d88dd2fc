/* tests/fuzz/fuzz_conffiles.c - the list of conffiles of a package that anybody may have made. */
#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "host-service/release/deb_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(GHashTable) set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        GHashTableIter i;
        gpointer path;

        deb_conffiles_parse((const char *)data, size, set);
        for (g_hash_table_iter_init(&i, set); g_hash_table_iter_next(&i, &path, NULL);)
                g_assert(*(const char *)path != '\0');
        return 0;
}
