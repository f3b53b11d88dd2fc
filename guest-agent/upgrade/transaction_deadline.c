/* guest-agent/upgrade/transaction_deadline.c - how long an active upgrade may wait for its confirmation.
 *
 * An agent that is started again goes on with the time of the one before: the record "active" holds the
 * moment from which on it waits. After a reboot the full time is given once more, with a record of its own,
 * and not a third time. Else a machine that new files make reboot again and again would wait for ever. */
#include "guest-agent/upgrade/moment.h"
#include "guest-agent/upgrade/transaction_parts.h"

#define BOOTS_MAX 2u

gboolean transaction_record_active(Transaction *t, GError **error)
{
        struct moment now;
        moment_now(&now);
        g_autofree char *text = moment_text(&now);
        return journal_append(t->g->journal, JOURNAL_ACTIVE, text, error);
}

guint64 transaction_confirm_left_ms(Transaction *t, guint64 timeout_ms)
{
        const struct journal_record *r = t->g != NULL ? journal_find(t->g->journal, JOURNAL_ACTIVE) : NULL;
        struct moment since, now;
        if (r == NULL)
                return timeout_ms;
        moment_now(&now);
        if (moment_parse(r->text, &since) && moment_is_same_boot(&since, &now))
                return moment_left_ms(&since, &now, timeout_ms);
        if (journal_count(t->g->journal, JOURNAL_ACTIVE) >= BOOTS_MAX)
                return 0;
        /* Its space is there; if it fails all the same, this boot counts for none. */
        transaction_record_active(t, NULL);
        return timeout_ms;
}
