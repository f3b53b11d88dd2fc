/* guest-agent/upgrade/transaction_deadline.c - how long an active upgrade may wait for its confirmation.
 *
 * An agent that is started again goes on with the time of the one before: the record "active" holds the boot
 * and the time since it. Another boot has another clock: then the full time is given once more, with a record
 * of its own, and not a third time. Else a machine that new files make reboot again and again would wait for
 * ever. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "guest-agent/upgrade/transaction_parts.h"

#define BOOTS_MAX 2u

struct moment {
        char boot[64];
        guint64 ms; /* since that boot, with the time in suspend */
};

static void moment_now(struct moment *ret)
{
        g_autofree char *boot = NULL;
        struct timespec now;
        if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
                boot = g_strdup("unknown");
        g_strlcpy(ret->boot, g_strchomp(boot), sizeof ret->boot);
        clock_gettime(CLOCK_BOOTTIME, &now);
        ret->ms = (guint64)now.tv_sec * 1000 + (guint64)now.tv_nsec / 1000000;
}

static gboolean moment_parse(const char *text, struct moment *ret)
{
        return sscanf(text, "boot %63s at %" SCNu64 " ms", ret->boot, &ret->ms) == 2;
}

gboolean transaction_record_active(Transaction *t, GError **error)
{
        struct moment now;
        moment_now(&now);
        g_autofree char *text = g_strdup_printf("boot %s at %" G_GUINT64_FORMAT " ms", now.boot, now.ms);
        return journal_append(t->g->journal, JOURNAL_ACTIVE, text, error);
}

guint64 transaction_confirm_left_ms(Transaction *t, guint64 timeout_ms)
{
        const struct journal_record *r = t->g != NULL ? journal_find(t->g->journal, JOURNAL_ACTIVE) : NULL;
        struct moment since, now;
        if (r == NULL)
                return timeout_ms;
        moment_now(&now);
        if (moment_parse(r->text, &since) && g_str_equal(since.boot, now.boot)) {
                guint64 waited = now.ms > since.ms ? now.ms - since.ms : 0;
                return timeout_ms > waited ? timeout_ms - waited : 0;
        }
        if (journal_count(t->g->journal, JOURNAL_ACTIVE) >= BOOTS_MAX)
                return 0;
        /* Its space is there; if it fails all the same, this boot counts for none. */
        transaction_record_active(t, NULL);
        return timeout_ms;
}
