/* guest-agent/upgrade/journal.c - the durable record of how far a generation has come. */
#include "guest-agent/upgrade/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"

#define JOURNAL_FILE        "journal"
#define JOURNAL_BYTES_MAX   (1024u * 1024u)
#define JOURNAL_PREALLOCATE (64 * 1024)
#define TEXT_BYTES_MAX      4096u

/* The names are the file format. Each has its own names for fault points, so that tests can say which. */
static const struct {
        const char *name, *before, *after, *sync;
} steps[JOURNAL_STEPS] = {
#define STEP(n)                                                                                              \
        {                                                                                                    \
                n, "journal-" n ".before", "journal-" n ".after", "sync-journal-" n                          \
        }
        [JOURNAL_NONE] = STEP("none"),
        [JOURNAL_BEGUN] = STEP("begun"),
        [JOURNAL_PLANNED] = STEP("planned"),
        [JOURNAL_STAGED] = STEP("staged"),
        [JOURNAL_COMMIT] = STEP("commit"),
        [JOURNAL_SWITCHED] = STEP("switched"),
        [JOURNAL_HEALTH] = STEP("health"),
        [JOURNAL_FILLING] = STEP("filling"),
        [JOURNAL_FILLED] = STEP("filled"),
        [JOURNAL_ACTIVE] = STEP("active"),
        [JOURNAL_COMMITTED] = STEP("committed"),
        [JOURNAL_BACK] = STEP("back"),
        [JOURNAL_ROLLED_BACK] = STEP("rolled-back"),
        [JOURNAL_REFUSED] = STEP("refused"),
        [JOURNAL_FAILED] = STEP("failed"),
#undef STEP
};

struct Journal {
        int dirfd; /* not ours */
        int fd;    /* -1: there is none yet */
        gboolean writable;
        off_t end;      /* where the next record goes */
        gboolean torn;  /* something that is no record lies behind it */
        gboolean doubt; /* that may be a whole record, which may be on the disk */
        GPtrArray *records;
};

void journal_record_free(struct journal_record *r)
{
        if (r == NULL)
                return;
        g_free(r->text);
        g_free(r);
}

const char *journal_step_name(JournalStep step)
{
        return steps[step].name;
}

gboolean journal_step_is_final(JournalStep step)
{
        return step == JOURNAL_COMMITTED || step == JOURNAL_ROLLED_BACK || step == JOURNAL_REFUSED ||
               step == JOURNAL_FAILED;
}

char *journal_format(guint64 seq, JournalStep step, gint64 time_unix_s, const char *text)
{
        g_autofree char *cut = g_strndup(text != NULL && *text != '\0' ? text : "-", TEXT_BYTES_MAX);
        g_autofree char *escaped = g_strescape(cut, NULL);
        g_autofree char *body = g_strdup_printf("%" G_GUINT64_FORMAT " %s %" G_GINT64_FORMAT " %s", seq,
                                                steps[step].name, time_unix_s, escaped);
        uLong crc = crc32(0, (const Bytef *)body, (uInt)strlen(body));
        return g_strdup_printf("%s %08lx\n", body, crc);
}

static JournalStep step_from_name(const char *name)
{
        for (int i = JOURNAL_BEGUN; i < JOURNAL_STEPS; i++)
                if (g_str_equal(name, steps[i].name))
                        return (JournalStep)i;
        return JOURNAL_NONE;
}

/* NULL if @line (without newline) is not a good record with number @seq. */
static struct journal_record *parse_line(const char *line, gsize len, guint64 seq)
{
        g_autofree char *copy = g_strndup(line, len);
        char *space = strrchr(copy, ' ');
        if (space == NULL || strlen(copy) != len || strlen(space + 1) != 8)
                return NULL;
        char *end;
        guint64 crc = g_ascii_strtoull(space + 1, &end, 16);
        if (*end != '\0' || crc != crc32(0, (const Bytef *)copy, (uInt)(space - copy)))
                return NULL;
        *space = '\0';
        g_auto(GStrv) parts = g_strsplit(copy, " ", 4);
        if (g_strv_length(parts) != 4)
                return NULL;
        JournalStep step = step_from_name(parts[1]);
        if (step == JOURNAL_NONE || g_ascii_strtoull(parts[0], NULL, 10) != seq)
                return NULL;
        struct journal_record *r = g_new0(struct journal_record, 1);
        r->seq = seq;
        r->step = step;
        r->time_unix_s = g_ascii_strtoll(parts[2], NULL, 10);
        r->text = g_strcompress(parts[3]);
        return r;
}

GPtrArray *journal_parse(const char *data, gsize len, gsize *ret_good_len)
{
        GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)journal_record_free);
        gsize at = 0;
        while (at < len) {
                const char *newline = memchr(data + at, '\n', len - at);
                if (newline == NULL)
                        break;
                struct journal_record *r =
                        parse_line(data + at, (gsize)(newline - data) - at, records->len + 1);
                if (r == NULL)
                        break;
                g_ptr_array_add(records, r);
                at = (gsize)(newline - data) + 1;
        }
        *ret_good_len = at;
        return records;
}

static gboolean journal_read(Journal *j, int dirfd, GError **error)
{
        g_autoptr(GBytes) bytes = fd_read_file_at(dirfd, JOURNAL_FILE, JOURNAL_BYTES_MAX, error);
        if (bytes == NULL)
                return FALSE;
        gsize len, good;
        const char *data = g_bytes_get_data(bytes, &len);
        j->records = journal_parse(data, len, &good);
        j->end = (off_t)good;
        j->torn = good != len;
        return TRUE;
}

Journal *journal_open(int dirfd, gboolean create, GError **error)
{
        g_autoptr(Journal) j = g_new0(Journal, 1);
        j->dirfd = dirfd;
        j->writable = create;
        j->fd = openat(dirfd, JOURNAL_FILE, (create ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW,
                       0600);
        if (j->fd < 0 && (create || errno != ENOENT)) {
                moult_error_errno(error, errno, "opening the journal");
                return NULL;
        }
        if (j->fd < 0)
                j->records = g_ptr_array_new_with_free_func((GDestroyNotify)journal_record_free);
        else if (!journal_read(j, dirfd, error))
                return NULL;
        return g_steal_pointer(&j);
}

void journal_free(Journal *j)
{
        if (j == NULL)
                return;
        if (j->fd >= 0)
                close(j->fd);
        g_clear_pointer(&j->records, g_ptr_array_unref);
        g_free(j);
}

static gboolean open_for_writing(Journal *j, GError **error)
{
        int fd = openat(j->dirfd, JOURNAL_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return moult_error_errno(error, errno, "opening the journal for writing");
        scoped_fd_close(&j->fd);
        j->fd = fd;
        j->writable = TRUE;
        return TRUE;
}

/* Only who appends changes the file: others may read it at the same time. */
static gboolean prepare_append(Journal *j, GError **error)
{
        if (!j->writable && !open_for_writing(j, error))
                return FALSE;
        gboolean cut = j->torn;
        if (cut && ftruncate(j->fd, j->end) < 0)
                return moult_error_errno(error, errno, "cutting the torn end of the journal off");
        j->torn = FALSE;
        /* A file system that cannot preallocate is no reason to stop: then a full disk may block a record.
         * The same after a cut, which gave the space back. */
        if ((j->end == 0 || cut) && fallocate(j->fd, FALLOC_FL_KEEP_SIZE, 0, JOURNAL_PREALLOCATE) < 0 &&
            errno == ENOSPC && j->end == 0)
                return moult_error_errno(error, ENOSPC, "reserving space for the journal");
        return TRUE;
}

gboolean journal_append(Journal *j, JournalStep step, const char *text, GError **error)
{
        guint64 seq = j->records->len + 1;
        gint64 now = g_get_real_time() / G_USEC_PER_SEC;
        g_autofree char *line = journal_format(seq, step, now, text);
        gsize len = strlen(line);

        int fake = fault_point(steps[step].before);
        if (fake != 0)
                return moult_error_errno(error, fake, "writing the journal record \"%s\"", steps[step].name);
        if (!prepare_append(j, error) || !fd_pwrite_all(j->fd, line, len, j->end, "the journal", error))
                return FALSE;
        j->torn = j->doubt = TRUE; /* until it is known to be a record */
        if (!fault_skip(steps[step].sync) && fdatasync(j->fd) < 0)
                return moult_error_errno(error, errno, "syncing the journal record \"%s\"", steps[step].name);
        j->end += (off_t)len;
        j->torn = j->doubt = FALSE;
        struct journal_record *r = g_new0(struct journal_record, 1);
        r->seq = seq;
        r->step = step;
        r->time_unix_s = now;
        r->text = g_strndup(text != NULL && *text != '\0' ? text : "-", TEXT_BYTES_MAX);
        g_ptr_array_add(j->records, r);
        fake = fault_point(steps[step].after);
        return fake == 0
                       ? TRUE
                       : moult_error_errno(error, fake, "after the journal record \"%s\"", steps[step].name);
}

gboolean journal_in_doubt(const Journal *j)
{
        return j->doubt;
}

const struct journal_record *journal_last_record(const Journal *j)
{
        return j->records->len > 0 ? g_ptr_array_index(j->records, j->records->len - 1) : NULL;
}

JournalStep journal_last(const Journal *j)
{
        const struct journal_record *r = journal_last_record(j);
        return r != NULL ? r->step : JOURNAL_NONE;
}

const struct journal_record *journal_find(const Journal *j, JournalStep step)
{
        for (guint i = j->records->len; i > 0; i--) {
                const struct journal_record *r = g_ptr_array_index(j->records, i - 1);
                if (r->step == step)
                        return r;
        }
        return NULL;
}

guint journal_count(const Journal *j, JournalStep step)
{
        guint n = 0;
        for (guint i = 0; i < j->records->len; i++)
                n += ((const struct journal_record *)g_ptr_array_index(j->records, i))->step == step;
        return n;
}
