/* tests/unit/test_cli_text.c - quantities and foreign bytes become text that is safe and right. */
#include "host-service/cli/text.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/cli/exit_code.h"
#include "host-service/cli/suggest.h"

TestSuite(cli_text, .timeout = 20);

static void expect_safe(const char *bytes, size_t len, const char *want)
{
        g_autofree char *got = text_safe(bytes, len);

        cr_expect(eq(str, got, (char *)want));
}

Test(cli_text, foreign_bytes_cannot_move_the_cursor)
{
        expect_safe("usr/bin/x", 9, "usr/bin/x");
        expect_safe("a\033[2Jb", 6, "a\\x1b[2Jb");
        expect_safe("a\nb", 3, "a\\x0ab");
        expect_safe("a\0b", 3, "a\\x00b");
        expect_safe("\x7f", 1, "\\x7f");
        expect_safe("\xff\xfe", 2, "\\xff\\xfe");
        expect_safe("back\\slash", 10, "back\\\\slash");
        expect_safe("Gr\xc3\xbc\xc3\x9f", 6, "Gr\xc3\xbc\xc3\x9f");
        expect_safe("\xc3", 1, "\\xc3"); /* cut short */
        expect_safe("\xe2\x80\xae"
                    "x",
                    4, "\\xe2\\x80\\xaex"); /* right-to-left override */
        expect_safe("\xc2\x9b"
                    "2J",
                    4, "\\xc2\\x9b2J"); /* C1 control sequence introducer */
        expect_safe("", 0, "");
}

Test(cli_text, messages_keep_their_lines)
{
        g_autofree char *got = text_safe_lines("one\n\ttwo \033[1m \\ three\r");

        cr_expect(eq(str, got, "one\n\ttwo \\x1b[1m \\ three\\x0d"));
}

static void expect_bytes(uint64_t bytes, const char *want)
{
        g_autofree char *got = text_bytes(bytes);

        cr_expect(eq(str, got, (char *)want));
}

Test(cli_text, bytes_change_their_unit_where_they_should)
{
        expect_bytes(0, "0 B");
        expect_bytes(1023, "1023 B");
        expect_bytes(1024, "1.0 KiB");
        expect_bytes(1536, "1.5 KiB");
        expect_bytes(1024 * 1024 - 1, "1.0 MiB");
        expect_bytes(UINT64_C(1) << 40, "1.0 TiB");
        expect_bytes(UINT64_MAX, "16.0 EiB");
}

static void expect_duration(uint64_t us, const char *want)
{
        g_autofree char *got = text_duration_us(us);

        cr_expect(eq(str, got, (char *)want));
}

Test(cli_text, durations_change_their_unit_where_they_should)
{
        expect_duration(0, "0 us");
        expect_duration(999, "999 us");
        expect_duration(12345, "12.3 ms");
        expect_duration(999999, "1.0 s");
        expect_duration(59940000, "59.9 s");
        expect_duration(59990000, "1 min 0 s");
        expect_duration(200 * UINT64_C(1000000), "3 min 20 s");
        expect_duration(7500 * UINT64_C(1000000), "2 h 5 min");
}

static void expect_parsed(const char *text, uint64_t want)
{
        g_autoptr(GError) error = NULL;
        uint64_t ms = 77;

        cr_assert(text_parse_duration_ms(text, 7 * 24 * UINT64_C(3600000), &ms, &error), "%s: %s", text,
                  error ? error->message : "");
        cr_expect(eq(u64, ms, want));
}

Test(cli_text, reads_lengths_of_time)
{
        expect_parsed("500ms", 500);
        expect_parsed("60s", 60000);
        expect_parsed("60", 60000);
        expect_parsed("10m", 600000);
        expect_parsed("1h", 3600000);
        expect_parsed("1d12h", 129600000);
        expect_parsed("1w", 604800000);
        expect_parsed("1m30s", 90000);
        expect_parsed("1h0m1ms", 3600001);
}

Test(cli_text, refuses_what_is_no_length_of_time)
{
        static const char *const bad[] = {"",   "s",     "-1s", "1.5s", "1 s",  "1y", "0",
                                          "0s", "8760h", "1sx", "1s ",  "ms1s", "+3", "0x3"};

        for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                uint64_t ms = 77;

                cr_expect(not(text_parse_duration_ms(bad[i], 7 * 24 * UINT64_C(3600000), &ms, &error)), "%s",
                          bad[i]);
                cr_assert(ne(ptr, error, NULL));
                cr_expect(eq(int, (int)exit_code_of_error(error), EXIT_CODE_USAGE));
                cr_expect(eq(u64, ms, 77), "the result is left alone");
        }
}

Test(cli_text, a_length_of_time_cannot_overflow)
{
        static const char *const bad[] = {"18446744073709551616", "18446744073709551615h",
                                          "99999999999999999999999s", "18446744073709551615ms2ms"};

        for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
                uint64_t ms;

                cr_expect(not(text_parse_duration_ms(bad[i], UINT64_MAX, &ms, NULL)), "%s", bad[i]);
        }
}

Test(cli_text, numbers_are_digits_only)
{
        uint64_t v = 77;

        cr_expect(text_parse_u64("n", "0", 10, &v, NULL));
        cr_expect(eq(u64, v, 0));
        cr_expect(text_parse_u64("n", "10", 10, &v, NULL));
        cr_expect(not(text_parse_u64("n", "11", 10, &v, NULL)));
        cr_expect(not(text_parse_u64("n", "-1", 10, &v, NULL)));
        cr_expect(not(text_parse_u64("n", "+1", 10, &v, NULL)));
        cr_expect(not(text_parse_u64("n", "", 10, &v, NULL)));
        cr_expect(not(text_parse_u64("n", "1x", 10, &v, NULL)));
        cr_expect(eq(u64, v, 10));
}

Test(cli_text, suggests_the_word_that_was_meant)
{
        static const char *const words[] = {"push", "rollback", "status", "history", "vm", NULL};

        cr_expect(eq(str, (char *)suggest_word("psuh", words), "push"));
        cr_expect(eq(str, (char *)suggest_word("rolback", words), "rollback"));
        cr_expect(eq(str, (char *)suggest_word("hist", words), "history"));
        cr_expect(eq(ptr, (void *)suggest_word("zebra", words), NULL));
        cr_expect(eq(ptr, (void *)suggest_word("", words), NULL));
        cr_expect(eq(u32, suggest_distance("ab", "ba"), 1));
        cr_expect(eq(u32, suggest_distance("", "abc"), 3));
}
