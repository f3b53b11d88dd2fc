/* shm/pack_wire.h - protobuf as it may stand in a pack: stricter than protobuf itself.
 *
 * Theory of operation: decoders differ in what they make of a field that is there twice, of a number that is
 * too large for its field, or of a length written in more bytes than it needs. What two readers take
 * differently has no place in something signed, so the bytes are judged by the schema before they are
 * unpacked. */
#pragma once

#include <protobuf-c/protobuf-c.h>

/* Pure: NULL, or why these bytes are not a message of this kind as docs/pack-format.md has it: only known
 * fields, each that is not repeated at most once, numbers in their shortest form and within their field's
 * range. */
const char *pack_wire_refusal(const ProtobufCMessageDescriptor *d, const void *data, size_t len);
