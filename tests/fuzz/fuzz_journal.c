/* tests/fuzz/fuzz_journal.c - any bytes as a generation's journal: the good records are those that would be
 * written so. */
#include <stdint.h>
#include <string.h>

#include "guest-agent/upgrade/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        gsize good, again;
        g_autoptr(GPtrArray) records = journal_parse((const char *)data, size, &good);
        g_assert(good <= size);
        /* What was taken for good is good on its own. */
        g_autoptr(GPtrArray) same = journal_parse((const char *)data, good, &again);
        g_assert(again == good && same->len == records->len);
        for (guint i = 0; i < records->len; i++) {
                const struct journal_record *r = g_ptr_array_index(records, i);
                g_assert(r->seq == i + 1 && r->step > JOURNAL_NONE && r->step < JOURNAL_STEPS);
                /* And it can be written again. */
                g_autofree char *line = journal_format(r->seq, r->step, r->time_unix_s, r->text);
                g_assert(line[strlen(line) - 1] == '\n');
        }
        return 0;
}
