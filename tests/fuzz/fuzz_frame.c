/* tests/fuzz/fuzz_frame.c - bytes in fragments through the frame parser, and each frame's payload as a
 * message.
 *
 * The first byte chooses the size of the fragments. Also checked: how the stream is cut changes nothing. */
#include <stdint.h>

#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
        unsigned frames;
        size_t bytes;
        uint64_t noise;
};

static struct seen parse(const uint8_t *data, size_t size, size_t step)
{
        g_autoptr(FrameParser) p = frame_parser_new();
        struct seen seen = {0};

        for (size_t i = 0; i < size; i += step) {
                frame_parser_push(p, data + i, MIN(step, size - i));
                for (;;) {
                        g_autoptr(GBytes) payload = frame_parser_pull(p);
                        g_autoptr(Message) m = NULL;

                        if (!payload)
                                break;
                        g_assert(g_bytes_get_size(payload) <= LIMIT_FRAME_PAYLOAD);
                        seen.frames++;
                        seen.bytes += g_bytes_get_size(payload);
                        seen.noise += frame_parser_noise(p);
                        m = message_unpack(payload, NULL);
                }
                g_assert(frame_parser_pending(p) < FRAME_HEADER_SIZE + LIMIT_FRAME_PAYLOAD);
        }
        return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct seen whole, pieces;

        if (size < 1)
                return 0;
        whole = parse(data + 1, size - 1, MAX(size - 1, 1));
        pieces = parse(data + 1, size - 1, (size_t)data[0] + 1);
        g_assert(whole.frames == pieces.frames && whole.bytes == pieces.bytes && whole.noise == pieces.noise);
        return 0;
}
