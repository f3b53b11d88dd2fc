/* proto/message.c - Message to bytes and back, under a memory budget. */
#include "proto/message.h"

#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/refusal.h"

#define SAME_CODE(name) G_STATIC_ASSERT((int)MOULT_ERROR_##name == (int)MOULT__ERROR_CODE__ERROR_##name)
SAME_CODE(UNSPECIFIED);
SAME_CODE(UNSUPPORTED);
SAME_CODE(MALFORMED);
SAME_CODE(WRONG_STATE);
SAME_CODE(BUSY);
SAME_CODE(NOT_FOUND);
SAME_CODE(UNTRUSTED);
SAME_CODE(REFUSED);
SAME_CODE(NO_SPACE);
SAME_CODE(HOOK);
SAME_CODE(HEALTH);
SAME_CODE(TIMEOUT);
SAME_CODE(IO);
SAME_CODE(CANCELLED);
SAME_CODE(CORRUPT);
SAME_CODE(DRIFT);
G_STATIC_ASSERT((int)MOULT_ERROR_MAX == (int)MOULT__ERROR_CODE__ERROR_DRIFT + 1);

/* What malloc keeps beside each block: else a million empty sub-messages would look cheaper than they are. */
#define MALLOC_OVERHEAD 16u

static void *budget_alloc(void *data, size_t size)
{
        MessageBudget *b = data;
        size_t cost;

        if (__builtin_add_overflow(size, MALLOC_OVERHEAD, &cost) || cost > b->left)
                return NULL;
        b->left -= cost;
        return malloc(MAX(size, 1));
}

static void budget_free(void *data, void *block)
{
        free(block); /* not given back: the budget is for all that was ever asked */
}

void message_budget_init(MessageBudget *b, gsize bytes)
{
        b->base = (ProtobufCAllocator){.alloc = budget_alloc, .free = budget_free, .allocator_data = b};
        b->left = bytes;
}

ProtobufCAllocator *message_free_allocator(void)
{
        return NULL;
}

GBytes *message_pack(const Message *m)
{
        size_t len = moult__message__get_packed_size(m);
        guint8 *buf = g_malloc(MAX(len, 1));
        size_t written = moult__message__pack(m, buf);

        g_assert(written == len);
        return g_bytes_new_take(buf, len);
}

Message *message_decode(GBytes *payload, GError **error)
{
        MessageBudget budget;
        gsize len;
        const guint8 *data = g_bytes_get_data(payload, &len);
        Message *m;

        message_budget_init(&budget, LIMIT_MESSAGE_MEMORY);
        m = moult__message__unpack(&budget.base, len, data);
        if (!m)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "a message of %zu bytes is not valid protobuf, or would take more than %u bytes "
                            "to hold",
                            len, LIMIT_MESSAGE_MEMORY);
        return m;
}

Message *message_unpack(GBytes *payload, GError **error)
{
        g_autoptr(Message) m = message_decode(payload, error);
        const char *why;

        if (!m)
                return NULL;
        why = message_refusal(m);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "message refused: %s", why);
                return NULL;
        }
        return g_steal_pointer(&m);
}

void message_free(Message *m)
{
        moult__message__free_unpacked(m, message_free_allocator());
}

ProtobufCBinaryData message_bytes(const char *s)
{
        return message_blob(s, s ? strlen(s) : 0);
}

ProtobufCBinaryData message_blob(const void *data, size_t len)
{
        return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)data};
}

static char *printable(ProtobufCBinaryData b, const char *keep)
{
        GString *ret = g_string_sized_new(b.len);

        for (size_t i = 0; i < b.len;) {
                const char *s = (const char *)b.data + i;
                gunichar c = g_utf8_get_char_validated(s, (gssize)(b.len - i));

                if (c == (gunichar)-1 || c == (gunichar)-2) { /* not UTF-8, or cut */
                        g_string_append_printf(ret, "\\x%02x", b.data[i]);
                        i++;
                        continue;
                }
                if (g_unichar_isprint(c) || (c != 0 && c < 128 && strchr(keep, (int)c)))
                        g_string_append_unichar(ret, c);
                else if (c < 128)
                        g_string_append_printf(ret, "\\x%02x", c);
                else
                        g_string_append_printf(ret, "\\u{%04x}", c);
                i += (size_t)(g_utf8_next_char(s) - s);
        }
        return g_string_free(ret, FALSE);
}

char *message_string(ProtobufCBinaryData b)
{
        return printable(b, "");
}

char *message_text(ProtobufCBinaryData b)
{
        return printable(b, "\n\t");
}

void message_error_fill(Moult__Error *ret, const GError *error)
{
        size_t len = strlen(error->message);

        if (len > LIMIT_TEXT) {
                const char *cut = error->message + LIMIT_TEXT;

                while (cut > error->message && ((guint8)*cut & 0xc0) == 0x80) /* not inside a character */
                        cut--;
                len = (size_t)(cut - error->message);
        }
        ret->code = (Moult__ErrorCode)moult_error_code(error);
        ret->text = message_blob(error->message, len);
}

GError *message_error_get(const Moult__Error *e)
{
        g_autofree char *text = message_string(e->text);
        int code = (int)e->code;

        if (code < 0 || code >= MOULT_ERROR_MAX)
                code = MOULT_ERROR_UNSPECIFIED;
        return g_error_new_literal(MOULT_ERROR, code, *text ? text : "the other side gave no reason");
}
