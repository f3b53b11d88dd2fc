/* tests/unit/test_proto_message.c - unpacking costs no more than its budget; texts of a peer are made
 * harmless. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gio/gio.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/message.h"

TestSuite(message, .timeout = 30);

static GBytes *with_field(guint8 number, const void *body, size_t len)
{
        GByteArray *b = g_byte_array_new();
        guint8 tag[2] = {(guint8)(number << 3 | 2), (guint8)1};
        size_t left = len;

        /* Fields from 16 on have a tag of two bytes. */
        tag[0] = (guint8)((number << 3 | 2) & 0x7f) | 0x80;
        tag[1] = (guint8)(number >> 4);
        g_byte_array_append(b, tag, 2);
        do {
                guint8 c = (guint8)(left & 0x7f) | (left > 0x7f ? 0x80 : 0);

                g_byte_array_append(b, &c, 1);
                left >>= 7;
        } while (left > 0);
        g_byte_array_append(b, body, (guint)len);
        return g_byte_array_free_to_bytes(b);
}

Test(message, many_empty_sub_messages_break_the_budget_not_us)
{
        size_t n = LIMIT_FRAME_PAYLOAD / 2 - 16;
        g_autofree guint8 *items = g_malloc(2 * n);
        g_autoptr(GBytes) payload = NULL;
        g_autoptr(GError) error = NULL;

        for (size_t i = 0; i < n; i++) { /* PlanPage.items, each empty: 2 bytes that become about 100 */
                items[2 * i] = 4 << 3 | 2;
                items[2 * i + 1] = 0;
        }
        payload = with_field(31, items, 2 * n);
        cr_assert(eq(ptr, message_decode(payload, &error), NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_MALFORMED));
}

Test(message, budget_is_not_given_back_by_frees)
{
        MessageBudget b;
        void *first;

        message_budget_init(&b, 1000);
        first = b.base.alloc(b.base.allocator_data, 600);
        cr_assert(ne(ptr, first, NULL));
        b.base.free(b.base.allocator_data, first);
        cr_expect(eq(ptr, b.base.alloc(b.base.allocator_data, 600), NULL));
        cr_expect(eq(ptr, b.base.alloc(b.base.allocator_data, SIZE_MAX), NULL)); /* no overflow of the sum */
}

Test(message, largest_data_fits_budget_and_frame)
{
        g_autofree guint8 *bytes = g_malloc0(LIMIT_DATA_BYTES);
        Message m = MOULT__MESSAGE__INIT;
        Moult__Data data = MOULT__DATA__INIT;
        g_autoptr(GBytes) payload = NULL;
        g_autoptr(Message) got = NULL;

        m.id = G_MAXUINT64;
        m.reply_to = G_MAXUINT64;
        data.offset = LIMIT_FILE_SIZE;
        data.bytes = message_blob(bytes, LIMIT_DATA_BYTES);
        m.body_case = MOULT__MESSAGE__BODY_DATA;
        m.data = &data;
        payload = message_pack(&m);
        cr_assert(le(sz, g_bytes_get_size(payload), LIMIT_FRAME_PAYLOAD));
        got = message_unpack(payload, NULL);
        cr_assert(ne(ptr, got, NULL));
        cr_expect(eq(sz, got->data->bytes.len, LIMIT_DATA_BYTES));
        cr_expect(eq(u64, got->id, G_MAXUINT64));
}

Test(message, that_is_no_protobuf_is_malformed)
{
        g_autoptr(GBytes) payload = g_bytes_new_static("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11);
        g_autoptr(GError) error = NULL;

        cr_assert(eq(ptr, message_unpack(payload, &error), NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_MALFORMED));
}

Test(message, refused_by_the_content_gate_says_which_field)
{
        g_autoptr(GBytes) payload = with_field(33, "", 0); /* an empty Fetch */
        g_autoptr(GError) error = NULL;

        cr_assert(eq(ptr, message_unpack(payload, &error), NULL));
        cr_expect(ne(ptr, strstr(error->message, "fetch.manifest_digest"), NULL), "%s", error->message);
}

Test(message, strings_for_people_hold_no_control_characters)
{
        g_autofree char *line = message_string(message_blob("a\x1b[31m\n\tb\xff\xc3\xa9\0z", 14));
        g_autofree char *text = message_text(message_blob("a\nb\tc\x07", 6));
        g_autofree char *bidi = message_string(message_bytes("\xe2\x80\xae"));
        g_autofree char *empty = message_string(message_blob(NULL, 0));

        cr_expect(eq(str, line, "a\\x1b[31m\\x0a\\x09b\\xff\xc3\xa9\\x00z"));
        cr_expect(eq(str, text, "a\nb\tc\\x07"));
        cr_expect(eq(str, bidi, "\\u{202e}"));
        cr_expect(eq(str, empty, ""));
}

Test(message, errors_keep_class_and_text_across_the_channel)
{
        for (int code = 0; code < MOULT_ERROR_MAX; code++) {
                g_autoptr(GError) out = g_error_new(MOULT_ERROR, code, "text %d", code), in = NULL;
                Moult__Error e = MOULT__ERROR__INIT;

                message_error_fill(&e, out);
                in = message_error_get(&e);
                cr_expect(eq(int, in->code, code));
                cr_expect(eq(str, in->message, out->message));
        }
}

Test(message, errors_of_other_domains_and_unknown_codes_are_mapped)
{
        g_autoptr(GError) gio = g_error_new(G_IO_ERROR, G_IO_ERROR_NO_SPACE, "full"), in = NULL, odd = NULL;
        Moult__Error e = MOULT__ERROR__INIT;

        message_error_fill(&e, gio);
        in = message_error_get(&e);
        cr_expect(eq(int, in->code, MOULT_ERROR_NO_SPACE));
        e.code = (Moult__ErrorCode)9999;
        e.text = message_blob(NULL, 0);
        odd = message_error_get(&e);
        cr_expect(eq(int, odd->code, MOULT_ERROR_UNSPECIFIED));
        cr_expect(gt(sz, strlen(odd->message), 0));
}

Test(message, long_error_text_is_cut_between_characters)
{
        GString *s = g_string_new("x"); /* so that the limit falls inside a character */
        g_autoptr(GError) long_one = NULL;
        Moult__Error e = MOULT__ERROR__INIT;

        while (s->len < LIMIT_TEXT + 100)
                g_string_append(s, "\xc3\xa9");
        long_one = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_HOOK, s->str);
        g_string_free(s, TRUE);
        message_error_fill(&e, long_one);
        cr_expect(le(sz, e.text.len, LIMIT_TEXT));
        cr_expect(ge(sz, e.text.len, LIMIT_TEXT - 3));
        cr_expect(g_utf8_validate((char *)e.text.data, (gssize)e.text.len, NULL));
}
