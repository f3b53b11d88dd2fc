/* guest-agent/cli/json_out.c - the walk over a message's descriptor. */
#include "guest-agent/cli/json_out.h"

#include <string.h>

#include "proto/message.h"

static void append_string(GString *to, const char *utf8)
{
        g_string_append_c(to, '"');
        for (const char *s = utf8; *s; s++) {
                if (*s == '"' || *s == '\\')
                        g_string_append_printf(to, "\\%c", *s);
                else if ((unsigned char)*s < 0x20)
                        g_string_append_printf(to, "\\u%04x", (unsigned char)*s);
                else
                        g_string_append_c(to, *s);
        }
        g_string_append_c(to, '"');
}

char *json_out_enum_word(const ProtobufCEnumDescriptor *d, int value)
{
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);
        const char *bar = v ? strchr(v->name, '_') : NULL;
        char *word;

        if (!bar)
                return g_strdup_printf("%d", value);
        word = g_ascii_strdown(bar + 1, -1);
        return g_strdelimit(word, "_", '-');
}

static gboolean is_binary(const char *field)
{
        return strcmp(field, "push_id") == 0 || g_str_has_suffix(field, "digest") ||
               g_str_has_suffix(field, "fingerprint");
}

static void append_bytes(GString *to, const char *field, const ProtobufCBinaryData *b)
{
        g_autofree char *text = NULL;

        if (!is_binary(field)) {
                text = message_text(*b); /* JSON has its own way to write a newline */
                append_string(to, text);
                return;
        }
        g_string_append_c(to, '"');
        for (size_t i = 0; i < b->len; i++)
                g_string_append_printf(to, "%02x", b->data[i]);
        g_string_append_c(to, '"');
}

static size_t append_value(GString *to, const ProtobufCFieldDescriptor *f, const void *at)
{
        switch (f->type) {
        case PROTOBUF_C_TYPE_MESSAGE: {
                const ProtobufCMessage *sub = *(ProtobufCMessage *const *)at;

                if (sub)
                        json_out_message(to, sub);
                else
                        g_string_append(to, "null");
                return sizeof sub;
        }
        case PROTOBUF_C_TYPE_BYTES:
                append_bytes(to, f->name, at);
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_ENUM: {
                g_autofree char *word = json_out_enum_word(f->descriptor, *(const int *)at);

                append_string(to, word);
                return sizeof(int);
        }
        case PROTOBUF_C_TYPE_BOOL:
                g_string_append(to, *(const protobuf_c_boolean *)at ? "true" : "false");
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_UINT32:
                g_string_append_printf(to, "%" G_GUINT32_FORMAT, *(const guint32 *)at);
                return sizeof(guint32);
        case PROTOBUF_C_TYPE_UINT64:
                g_string_append_printf(to, "%" G_GUINT64_FORMAT, *(const guint64 *)at);
                return sizeof(guint64);
        default:
                g_assert_not_reached(); /* the schema has no other types: a new one needs a line here */
        }
}

static void append_repeated(GString *to, const ProtobufCFieldDescriptor *f, const char *base)
{
        size_t n = *(const size_t *)(base + f->quantifier_offset);
        const char *at = *(char *const *)(base + f->offset);

        g_string_append_c(to, '[');
        for (size_t i = 0; i < n; i++) {
                if (i)
                        g_string_append_c(to, ',');
                at += append_value(to, f, at);
        }
        g_string_append_c(to, ']');
}

/* Recursion is as deep as the schema, which has no recursive message. */
void json_out_message(GString *to, const ProtobufCMessage *m)
{
        const char *base = (const char *)m;

        g_string_append_c(to, '{');
        for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];

                g_string_append_printf(to, "%s\"%s\":", i ? "," : "", f->name);
                if (f->label == PROTOBUF_C_LABEL_REPEATED)
                        append_repeated(to, f, base);
                else
                        append_value(to, f, base + f->offset);
        }
        g_string_append_c(to, '}');
}
