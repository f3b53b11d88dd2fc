/* proto/message.h - Message to bytes and back, under a memory budget. */
#pragma once

#include <glib.h>

#include "proto/channel.pb-c.h"
#include "common/error.h"

typedef Moult__Message Message;

/* A protobuf-c allocator that fails once @budget bytes are out. Also used for manifests. */
typedef struct {
        ProtobufCAllocator base; /* pass &budget.base */
        gsize left;
} MessageBudget;
void message_budget_init(MessageBudget *b, gsize bytes);
/* Frees what was unpacked with any budget: NULL, protobuf-c's name for malloc and free. */
ProtobufCAllocator *message_free_allocator(void);

GBytes *message_pack(const Message *m); /* the frame's payload, not the frame */
/* Unpacks and passes the content gate (proto/refusal.h). MOULT_ERROR_MALFORMED. */
Message *message_unpack(GBytes *payload, GError **error);
/* Unpacks only: for the one who needs the id of what the content gate refuses. MOULT_ERROR_MALFORMED. */
Message *message_decode(GBytes *payload, GError **error);
void message_free(Message *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Message, message_free)

/* protobuf `bytes` helpers. The view does not own: it lives as long as @s. */
ProtobufCBinaryData message_bytes(const char *s);
ProtobufCBinaryData message_blob(const void *data, size_t len);
/* Printable UTF-8 copy for people, on one line: bad bytes and control characters are escaped as \xNN or
 * \u{NNNN}. */
char *message_string(ProtobufCBinaryData b);
/* The same, but newline and tab are kept: for output of hooks. */
char *message_text(ProtobufCBinaryData b);

/* Error from GError, and back. The error's text is cut at LIMIT_TEXT; @ret points into @error. */
void message_error_fill(Moult__Error *ret, const GError *error);
GError *message_error_get(const Moult__Error *e);
