/* common/events.c - structured log: events with stable ids that an operator can search and act on. */
#include "common/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIELDS_MAX 32
/* What is written later, and no more: it stays in memory. */
#define HELD_MAX 256u

static const struct {
        const char *name;
        const char *priority; /* syslog's, as journald wants it */
        GLogLevelFlags glib;
} levels[] = {
        [EVENT_DEBUG] = {"debug", "7", G_LOG_LEVEL_DEBUG},
        [EVENT_INFO] = {"info", "6", G_LOG_LEVEL_INFO},
        [EVENT_NOTICE] = {"notice", "5", G_LOG_LEVEL_MESSAGE},
        [EVENT_WARNING] = {"warning", "4", G_LOG_LEVEL_WARNING},
        [EVENT_ERROR] = {"error", "3", G_LOG_LEVEL_CRITICAL},
};

/* The one setting of a program's log, set once by main(). Atomic: worker threads log too. */
static gint lowest_level = EVENT_INFO;

void event_set_level(EventLevel level)
{
        g_atomic_int_set(&lowest_level, (gint)level);
}

/* Threads log at any time, so who observes is changed and called under a lock. */
static GRWLock observer_lock;
static event_observer observer;
static gpointer observer_user;

void event_set_observer(event_observer func, gpointer user)
{
        g_rw_lock_writer_lock(&observer_lock);
        observer = func;
        observer_user = user;
        g_rw_lock_writer_unlock(&observer_lock);
}

static void tell_observer(EventLevel level, const char *event_id)
{
        g_rw_lock_reader_lock(&observer_lock);
        if (observer)
                observer(level, event_id, observer_user);
        g_rw_lock_reader_unlock(&observer_lock);
}

/* Values may come from a peer: no control characters, no line breaks, no quotes that end early. */
static void append_value(GString *line, const char *value)
{
        gboolean plain = *value != '\0';
        for (const char *p = value; *p != '\0' && plain; p++)
                plain = g_ascii_isgraph(*p) && *p != '"' && *p != '\\' && *p != '=';
        if (plain) {
                g_string_append(line, value);
                return;
        }
        g_autofree char *valid = g_utf8_make_valid(value, -1);
        g_string_append_c(line, '"');
        for (const char *p = valid; *p != '\0'; p++) {
                if (*p == '"' || *p == '\\')
                        g_string_append_printf(line, "\\%c", *p);
                else if ((guchar)*p < 0x20 || *p == 0x7f)
                        g_string_append_printf(line, "\\x%02x", (guchar)*p);
                else
                        g_string_append_c(line, *p);
        }
        g_string_append_c(line, '"');
}

/* "manifest-digest" -> "MOULT_MANIFEST_DIGEST": what journald accepts as a field name. */
static char *journal_key(const char *key)
{
        g_autofree char *upper = g_ascii_strup(key, -1);
        g_strcanon(upper, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", '_');
        return g_strconcat("MOULT_", upper, NULL);
}

static void write_line(EventLevel level, const char *event_id, const char *text, const char *const *pairs,
                       unsigned n_pairs)
{
        g_autoptr(GString) line = g_string_new(NULL);
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        g_string_printf(line, "%s %s: ", levels[level].name, event_id);
        for (const char *p = valid; *p != '\0'; p++)
                g_string_append_c(line, (guchar)*p < 0x20 || *p == 0x7f ? ' ' : *p);
        for (unsigned i = 0; i < n_pairs; i++) {
                g_string_append_printf(line, " %s=", pairs[2 * i]);
                append_value(line, pairs[2 * i + 1]);
        }
        g_string_append_c(line, '\n');
        /* One write: lines of several threads or processes do not mix. A log that cannot be written is no
         * reason to stop. */
        ssize_t n;
        do
                n = write(STDERR_FILENO, line->str, line->len);
        while (n < 0 && errno == EINTR);
}

static void write_event(EventLevel level, const char *event_id, const char *text, const char *const *pairs,
                        unsigned n)
{
        if (!g_log_writer_is_journald(STDERR_FILENO)) {
                write_line(level, event_id, text, pairs, n);
                return;
        }
        GLogField fields[FIELDS_MAX + 3] = {
                {"MESSAGE", text, -1},
                {"PRIORITY", levels[level].priority, -1},
                {"MOULT_EVENT", event_id, -1},
        };
        g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
        for (unsigned i = 0; i < n; i++) {
                g_ptr_array_add(keys, journal_key(pairs[2 * i]));
                fields[3 + i] = (GLogField){keys->pdata[i], pairs[2 * i + 1], -1};
        }
        if (g_log_writer_journald(levels[level].glib, fields, 3 + n, NULL) != G_LOG_WRITER_HANDLED)
                write_line(level, event_id, text, pairs, n);
}

/* An event that waits until the log may be written again. */
struct held_event {
        EventLevel level;
        const char *event_id;
        char *text;
        GPtrArray *pairs;
};

/* As the observer: threads log at any time. */
static GMutex held_lock;
static gboolean holding;
static GQueue held = G_QUEUE_INIT;
static unsigned held_dropped;

/* FALSE: nothing is held back now. */
static gboolean hold_back(EventLevel level, const char *event_id, const char *text, const char *const *pairs,
                          unsigned n)
{
        g_mutex_lock(&held_lock);
        gboolean waits = holding;
        if (waits && held.length >= HELD_MAX) {
                held_dropped++;
        } else if (waits) {
                struct held_event *e = g_new(struct held_event, 1);
                *e = (struct held_event){level, event_id, g_strdup(text),
                                         g_ptr_array_new_with_free_func(g_free)};
                for (unsigned i = 0; i < 2 * n; i++)
                        g_ptr_array_add(e->pairs, g_strdup(pairs[i]));
                g_queue_push_tail(&held, e);
        }
        g_mutex_unlock(&held_lock);
        return waits;
}

void event_hold(gboolean hold)
{
        g_mutex_lock(&held_lock);
        holding = hold;
        GQueue due = held;
        unsigned dropped = held_dropped;
        if (!hold) {
                held = (GQueue)G_QUEUE_INIT;
                held_dropped = 0;
        }
        g_mutex_unlock(&held_lock);
        for (struct held_event *e; !hold && (e = g_queue_pop_head(&due)) != NULL; g_free(e)) {
                write_event(e->level, e->event_id, e->text, (const char *const *)e->pairs->pdata,
                            e->pairs->len / 2);
                g_ptr_array_unref(e->pairs);
                g_free(e->text);
        }
        if (!hold && dropped > 0) {
                g_autofree char *text = g_strdup_printf("%u more events were not kept", dropped);
                write_event(EVENT_WARNING, "events-dropped", text, NULL, 0);
        }
}

void event_log(EventLevel level, const char *event_id, const char *text, ...)
{
        tell_observer(level, event_id);
        if ((gint)level < g_atomic_int_get(&lowest_level))
                return;

        const char *pairs[2 * FIELDS_MAX];
        unsigned n = 0;
        va_list args;
        va_start(args, text);
        for (const char *key; n < FIELDS_MAX && (key = va_arg(args, const char *)) != NULL; n++) {
                const char *value = va_arg(args, const char *);
                pairs[2 * n] = key;
                pairs[2 * n + 1] = value != NULL ? value : "";
        }
        va_end(args);
        if (!hold_back(level, event_id, text, pairs, n))
                write_event(level, event_id, text, pairs, n);
}
