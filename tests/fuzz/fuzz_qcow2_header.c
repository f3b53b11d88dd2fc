/* tests/fuzz/fuzz_qcow2_header.c - the first bytes of an image that calls itself qcow2. */
#include <stdint.h>

#include "host-service/image/qcow2_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct qcow2_header h;

        if (qcow2_header_parse(data, size, &h))
                return 0;
        /* What is taken can be read: the name lies in the first cluster. */
        if (h.backing_offset != 0 && (h.backing_length > QCOW2_NAME_BYTES ||
                                      h.backing_offset + h.backing_length > (1ull << h.cluster_bits)))
                __builtin_trap();
        qcow2_header_refusal(&h, TRUE);
        return 0;
}
