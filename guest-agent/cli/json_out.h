/* guest-agent/cli/json_out.h - a protobuf message as one line of JSON, by its descriptor.
 *
 * Writing only, and only our own messages: the agent has no JSON library, since it must build as one static
 * binary from what Debian has as .a. Enums become words ("rolled-back"), ids and digests hexadecimal, names
 * and texts UTF-8 with what is not printable escaped. */
#pragma once

#include <glib.h>
#include <protobuf-c/protobuf-c.h>

/* Appends the object; fields in the schema's order, defaults included, so that a reader can rely on them. */
void json_out_message(GString *to, const ProtobufCMessage *m);
/* The word of an enum's value: "PHASE_ROLLED_BACK" is "rolled-back". */
char *json_out_enum_word(const ProtobufCEnumDescriptor *d, int value);
