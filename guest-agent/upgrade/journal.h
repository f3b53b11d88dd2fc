/* guest-agent/upgrade/journal.h - the durable record of how far a generation has come.
 *
 * An append-only text file, one record a line: "SEQ NAME UNIX_TIME TEXT CRC". A record counts once its line
 * is whole and its CRC fits; a torn or wrong last line is as if it was never written, and is cut off before
 * the next append. Each append is followed by fdatasync. The file is preallocated, so that "back" can be
 * written on a full disk. */
#pragma once

#include <glib.h>

typedef enum {
        JOURNAL_NONE,
        JOURNAL_BEGUN,
        JOURNAL_PLANNED,
        JOURNAL_STAGED,
        JOURNAL_COMMIT, /* the decision: from here a crash rolls forward */
        JOURNAL_SWITCHED,
        JOURNAL_HEALTH,  /* post hooks, restarts and health hooks begin, once more */
        JOURNAL_FILLING, /* instant: health passed, what was deferred is copied; with the moment */
        JOURNAL_FILLED,  /* instant: everything is local, and synced */
        JOURNAL_ACTIVE,
        JOURNAL_COMMITTED,
        JOURNAL_BACK, /* the decision to roll back */
        JOURNAL_ROLLED_BACK,
        JOURNAL_REFUSED,
        JOURNAL_FAILED,
} JournalStep;
#define JOURNAL_STEPS (JOURNAL_FAILED + 1)

struct journal_record {
        guint64 seq;
        JournalStep step;
        gint64 time_unix_s;
        char *text;
};
void journal_record_free(struct journal_record *r);

const char *journal_step_name(JournalStep step);
/* True for steps after which recovery has nothing to decide. */
gboolean journal_step_is_final(JournalStep step);

/* One line with its newline. Pure. @text is escaped and cut at 4096 bytes. */
char *journal_format(guint64 seq, JournalStep step, gint64 time_unix_s, const char *text);
/* The good records at the start of @data (array of struct journal_record); *ret_good_len is where they end.
 * Pure. */
GPtrArray *journal_parse(const char *data, gsize len, gsize *ret_good_len);

typedef struct Journal Journal;
/* Opens "journal" in @dirfd. Nothing is written before the first append, but that with @create it is made;
 * without, none is the same as an empty one. @dirfd must stay as long. */
Journal *journal_open(int dirfd, gboolean create, GError **error);
void journal_free(Journal *j);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_free)
/* Written and synced. On an error the record may or may not be on the disk: see journal_in_doubt(). */
gboolean journal_append(Journal *j, JournalStep step, const char *text, GError **error);
/* True after an append that failed when its record was in the file and only not known to be on the disk.
 * Another append that succeeds settles it. */
gboolean journal_in_doubt(const Journal *j);
JournalStep journal_last(const Journal *j);
/* The newest record with this step, or NULL. Valid until the next append. */
const struct journal_record *journal_find(const Journal *j, JournalStep step);
const struct journal_record *journal_last_record(const Journal *j);
/* How many records have this step. */
guint journal_count(const Journal *j, JournalStep step);
