/* tests/unit/test_guest_agent_upgrade_journal.c - a record counts when it is whole, and a torn one never was.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest-agent/upgrade/engine.h"
#include "guest-agent/upgrade/journal.h"
#include "tests/support/tempdir.h"

TestSuite(journal, .timeout = 20);

static char *three_records(void)
{
        g_autofree char *a = journal_format(1, JOURNAL_BEGUN, 1700000000, NULL);
        g_autofree char *b =
                journal_format(2, JOURNAL_STAGED, 1700000001, "a text\nof two lines \"quoted\" \xc3\xa4");
        g_autofree char *c = journal_format(3, JOURNAL_COMMIT, 1700000002, "");
        return g_strconcat(a, b, c, NULL);
}

Test(journal, what_was_written_is_read)
{
        g_autofree char *text = three_records();
        gsize good;
        g_autoptr(GPtrArray) records = journal_parse(text, strlen(text), &good);
        cr_assert(eq(u32, records->len, 3));
        cr_expect(eq(sz, good, strlen(text)));
        const struct journal_record *r = g_ptr_array_index(records, 1);
        cr_expect(eq(int, (int)r->step, JOURNAL_STAGED));
        cr_expect(eq(i64, r->time_unix_s, 1700000001));
        cr_expect(eq(str, r->text, "a text\nof two lines \"quoted\" \xc3\xa4"));
        cr_expect(eq(str, ((struct journal_record *)g_ptr_array_index(records, 2))->text, "-"));
}

Test(journal, a_last_line_cut_anywhere_was_never_written)
{
        g_autofree char *text = three_records();
        gsize two = (gsize)(strstr(text, "3 commit") - text);
        for (gsize cut = two; cut < strlen(text); cut++) {
                gsize good;
                g_autoptr(GPtrArray) records = journal_parse(text, cut, &good);
                cr_expect(eq(u32, records->len, 2), "cut at %zu", cut);
                cr_expect(eq(sz, good, two), "cut at %zu", cut);
        }
}

Test(journal, any_flipped_bit_ends_the_good_records)
{
        g_autofree char *text = three_records();
        gsize len = strlen(text), two = (gsize)(strstr(text, "3 commit") - text);
        for (gsize at = two; at < len; at++) {
                for (int bit = 0; bit < 8; bit++) {
                        g_autofree char *bad = g_memdup2(text, len + 1);
                        gsize good;
                        bad[at] = (char)(bad[at] ^ (1 << bit));
                        g_autoptr(GPtrArray) records = journal_parse(bad, len, &good);
                        /* The case of a hexadecimal digit is no damage. */
                        gboolean harmless = records->len == 3 && bit == 5 && g_ascii_isxdigit(text[at]);
                        cr_expect(records->len == 2 || harmless, "byte %zu bit %d", at, bit);
                }
        }
}

Test(journal, numbers_must_follow_each_other)
{
        g_autofree char *a = journal_format(1, JOURNAL_BEGUN, 0, NULL);
        g_autofree char *c = journal_format(3, JOURNAL_COMMIT, 0, NULL);
        g_autofree char *text = g_strconcat(a, c, NULL);
        gsize good;
        g_autoptr(GPtrArray) records = journal_parse(text, strlen(text), &good);
        cr_expect(eq(u32, records->len, 1));
}

Test(journal, garbage_of_any_kind_is_no_record)
{
        static const char garbage[] = "\n\n\0\0 x x x x\n1 begun\n1 begun 0 - 00000000\n";
        gsize good;
        g_autoptr(GPtrArray) records = journal_parse(garbage, sizeof garbage - 1, &good);
        cr_expect(eq(u32, records->len, 0));
        cr_expect(eq(sz, good, 0));
        g_autoptr(GPtrArray) none = journal_parse("", 0, &good);
        cr_expect(eq(u32, none->len, 0));
}

Test(journal, a_torn_end_is_cut_off_and_written_over)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *text = three_records();
        tempdir_put(t, "journal", text, strlen(text) - 3);
        {
                g_autoptr(Journal) j = journal_open(t->fd, TRUE, &error);
                cr_assert(ne(ptr, j, NULL));
                cr_expect(eq(int, (int)journal_last(j), JOURNAL_STAGED));
                cr_assert(journal_append(j, JOURNAL_FAILED, "io: why", &error));
        }
        g_autoptr(Journal) again = journal_open(t->fd, TRUE, &error);
        cr_assert(ne(ptr, again, NULL));
        cr_expect(eq(int, (int)journal_last(again), JOURNAL_FAILED));
        cr_expect(eq(u64, journal_last_record(again)->seq, 3));
        cr_expect(eq(str, journal_find(again, JOURNAL_FAILED)->text, "io: why"));
        cr_expect(eq(ptr, (void *)journal_find(again, JOURNAL_COMMIT), NULL));
}

Test(journal, final_steps_are_those_after_which_nothing_is_decided)
{
        cr_expect(journal_step_is_final(JOURNAL_COMMITTED));
        cr_expect(journal_step_is_final(JOURNAL_REFUSED));
        cr_expect(not(journal_step_is_final(JOURNAL_BACK)));
        cr_expect(not(journal_step_is_final(JOURNAL_ACTIVE)));
}

Test(journal, a_rollback_by_command_is_read_back_from_its_record)
{
        static const guint8 id[16] = {0, 1, 0xab, 0xff};
        for (int force = 0; force < 2; force++) {
                g_autofree char *text = rollback_record_text(id, force);
                guint8 read[16];
                gboolean forced;
                cr_assert(rollback_record_parse(text, read, &forced), "%s", text);
                cr_expect(memcmp(read, id, sizeof id) == 0);
                cr_expect(eq(int, forced, force));
        }
}

Test(journal, no_other_reason_to_go_back_is_taken_for_a_command)
{
        static const char *const others[] = {
                "",
                "-",
                "rolled back by command",
                "rolled back by command (",
                "rolled back by command (00010203040506070809)",
                "rolled back by command (000102030405060708090a0b0c0d0e0f",
                "rolled back by command (000102030405060708090a0b0c0d0e0f, later)",
                "rolled back by command (000102030405060708090a0b0c0d0e0g)",
                "timeout: rolled back by command (000102030405060708090a0b0c0d0e0f)",
        };
        for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
                guint8 id[16];
                gboolean force;
                cr_expect(rollback_record_parse(others[i], id, &force) == FALSE, "%s", others[i]);
        }
}
