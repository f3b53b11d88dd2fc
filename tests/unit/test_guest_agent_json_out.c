/* tests/unit/test_guest_agent_json_out.c - messages as JSON that every reader accepts. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "guest-agent/cli/json_out.h"
#include "proto/message.h"

TestSuite(json_out, .timeout = 10);

static char *text_of(const ProtobufCMessage *m)
{
        GString *s = g_string_new(NULL);

        json_out_message(s, m);
        return g_string_free(s, FALSE);
}

Test(json_out, writes_words_hex_and_numbers)
{
        Moult__HistoryItem item = MOULT__HISTORY_ITEM__INIT, *items[] = {&item};
        Moult__History h = MOULT__HISTORY__INIT;
        const guint8 digest[] = {0, 0x1f, 0xff};

        item.generation = G_MAXUINT64;
        item.release = message_bytes("NAME 1");
        item.manifest_digest = message_blob(digest, sizeof digest);
        item.phase = MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK;
        item.time_unix_s = 7;
        item.can_roll_back = TRUE;
        h.items = items;
        h.n_items = 1;
        g_autofree char *text = text_of(&h.base);
        cr_expect(eq(str, text,
                     (char *)"{\"items\":[{\"generation\":18446744073709551615,\"release\":\"NAME 1\","
                             "\"manifest_digest\":\"001fff\",\"phase\":\"rolled-back\",\"time_unix_s\":7,"
                             "\"text\":\"\","
                             "\"can_roll_back\":true}]}"));
}

Test(json_out, escapes_what_would_break_out_of_a_string)
{
        Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;

        s.text = message_bytes("a\"b\\c\nd\x01"
                               "e\xff");
        g_autofree char *text = text_of(&s.base);
        cr_expect(eq(ptr, strchr(text, '\n'), NULL));
        cr_expect(eq(ptr, strchr(text, '\x01'), NULL));
        cr_expect(g_utf8_validate(text, -1, NULL));
        cr_expect(ne(ptr, strstr(text, "a\\\"b\\\\c"), NULL), "%s", text);
}

Test(json_out, an_absent_message_is_null)
{
        Moult__Status s = MOULT__STATUS__INIT;
        g_autofree char *text = text_of(&s.base);

        cr_expect(ne(ptr, strstr(text, "\"current\":null"), NULL), "%s", text);
}
