/* proto/frame.h - frames in a byte stream that may begin in the middle of anything.
 *
 *   magic "MLT1" | payload length u32 | payload CRC-32 u32 | CRC-32 of these 12 bytes u32 | payload
 *
 * little-endian; bit 31 of the length: the payload is packed (proto/packing.h). A virtio port has no
 * connections: after a reopen the stream may hold half a frame or old ones. So a header proves itself by its
 * own CRC, and whatever is not a header is skipped byte by byte (counted, bounded). A frame whose payload
 * does not fit its CRC is skipped whole: looking for frames inside it would let one byte of a hostile stream
 * cost thousands of bytes of CRC, and would find frames that lie in a file's content. No I/O here: bytes in,
 * frames out. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "proto/packing.h"

#define FRAME_HEADER_SIZE 16u

/* Bytes of a frame around @payload, in one buffer. @len <= LIMIT_FRAME_PAYLOAD. */
GBytes *frame_encode(const void *payload, size_t len);
/* The same with the payload packed, where that is smaller. Only for who says that he knows packed ones. */
GBytes *frame_encode_packed(const void *payload, size_t len, enum packing_effort effort);

typedef struct FrameParser FrameParser;
FrameParser *frame_parser_new(void);
void frame_parser_free(FrameParser *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FrameParser, frame_parser_free)
/* Forgets a half frame: the stream was reopened, or the frame's end does not come. */
void frame_parser_reset(FrameParser *p);
/* Pull until NULL after each push: what is held is then less than one frame. */
void frame_parser_push(FrameParser *p, const void *data, size_t len);
/* The next whole frame's payload, or NULL when more bytes are needed. A frame with a bad payload CRC,
 * or one that cannot be unpacked, is dropped and counted as noise. */
GBytes *frame_parser_pull(FrameParser *p);
/* Bytes skipped in front of the frame that was pulled last; after a NULL: since the last good frame. */
uint64_t frame_parser_noise(const FrameParser *p);
/* Bytes of a frame that has begun and not ended. */
size_t frame_parser_pending(const FrameParser *p);
