/* shm/pack_wire.c - protobuf as it may stand in a pack: stricter than protobuf itself. */
#include "shm/pack_wire.h"

#include <glib.h>

struct cursor {
        const uint8_t *at, *end;
};

static const char *take_varint(struct cursor *c, uint64_t *ret)
{
        uint64_t value = 0;

        for (unsigned shift = 0;; shift += 7) {
                if (c->at == c->end)
                        return "it is cut off within a number";
                uint8_t byte = *c->at++;
                if (shift == 63 && byte > 1)
                        return "a number has more than 64 bits";
                value |= (uint64_t)(byte & 0x7f) << shift;
                if ((byte & 0x80) != 0)
                        continue;
                if (byte == 0 && shift > 0)
                        return "a number is not in its shortest form";
                *ret = value;
                return NULL;
        }
}

static const char *take_bytes(struct cursor *c, struct cursor *ret)
{
        uint64_t len;
        const char *why = take_varint(c, &len);

        if (why != NULL)
                return why;
        if (len > (uint64_t)(c->end - c->at))
                return "a field is longer than what holds it";
        *ret = (struct cursor){.at = c->at, .end = c->at + len};
        c->at += len;
        return NULL;
}

static gboolean is_number(const ProtobufCFieldDescriptor *f)
{
        return f->type != PROTOBUF_C_TYPE_BYTES && f->type != PROTOBUF_C_TYPE_MESSAGE;
}

static const char *take_number(const ProtobufCFieldDescriptor *f, struct cursor *c)
{
        uint64_t value, max;
        const char *why = take_varint(c, &value);

        if (why != NULL)
                return why;
        switch (f->type) {
        case PROTOBUF_C_TYPE_UINT32:
                max = UINT32_MAX;
                break;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_SINT64:
                max = UINT64_MAX;
                break;
        case PROTOBUF_C_TYPE_ENUM:
                max = INT32_MAX;
                break;
        case PROTOBUF_C_TYPE_BOOL:
                max = 1;
                break;
        default:
                return "its schema has a type that is not foreseen here";
        }
        return value <= max ? NULL : "a number does not fit its field";
}

static const char *take_field(const ProtobufCFieldDescriptor *f, unsigned wire_type, struct cursor *c)
{
        struct cursor inner;
        const char *why;

        if (is_number(f) && wire_type == PROTOBUF_C_WIRE_TYPE_VARINT)
                return take_number(f, c);
        if (wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
                return "a field has the wrong wire type";
        why = take_bytes(c, &inner);
        if (why != NULL)
                return why;
        if (f->type == PROTOBUF_C_TYPE_BYTES)
                return NULL;
        if (f->type == PROTOBUF_C_TYPE_MESSAGE) /* as deep as the schema, in which nothing recurs */
                return pack_wire_refusal(f->descriptor, inner.at, (size_t)(inner.end - inner.at));
        if (f->label != PROTOBUF_C_LABEL_REPEATED)
                return "a field has the wrong wire type";
        while (why == NULL && inner.at < inner.end)
                why = take_number(f, &inner);
        return why;
}

const char *pack_wire_refusal(const ProtobufCMessageDescriptor *d, const void *data, size_t len)
{
        uint64_t seen = 0; /* one bit for each field of the schema */

        g_assert(d->n_fields <= 64);
        if (len == 0) /* @data may be NULL */
                return NULL;
        struct cursor c = {.at = data, .end = (const uint8_t *)data + len};
        while (c.at < c.end) {
                uint64_t key;
                const char *why = take_varint(&c, &key);
                if (why != NULL)
                        return why;
                const ProtobufCFieldDescriptor *f =
                        key >> 3 <= UINT32_MAX
                                ? protobuf_c_message_descriptor_get_field(d, (unsigned)(key >> 3))
                                : NULL;
                if (f == NULL)
                        return "it has fields that format 1 does not know";
                uint64_t bit = UINT64_C(1) << (f - d->fields);
                if (f->label != PROTOBUF_C_LABEL_REPEATED && (seen & bit) != 0)
                        return "a field is there twice";
                seen |= bit;
                why = take_field(f, (unsigned)(key & 7), &c);
                if (why != NULL)
                        return why;
        }
        return NULL;
}
