/* tests/fuzz/fuzz_s3_list.c - a list of objects as an S3 service may give it: refused, or objects with names.
 */
#include <stdint.h>
#include <stdlib.h>

#include "host-service/s3_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_auto(S3List) l = {0};

        if (s3_list_parse((const char *)data, size, &l))
                return 0;
        for (guint i = 0; i < l.entries->len; i++)
                if (!*((const struct object_entry *)l.entries->pdata[i])->key)
                        abort();
        return 0;
}
