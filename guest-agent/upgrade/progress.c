/* guest-agent/upgrade/progress.c - the one description of a transaction's state, and who is told when it
 * changes. */
#include "guest-agent/upgrade/progress.h"

#include <string.h>

#include "proto/limits.h"
#include "proto/message.h"

#define REPORT_EVERY_US (100 * 1000)

struct Progress {
        GMutex telling;                /* makes the observer's calls one at a time; taken before lock */
        GMutex lock;                   /* protects everything below */
        Moult__TransactionState state; /* its bytes point to the strings below */
        guint8 push_id[16], digest[32];
        char *text, *hook, *hook_output, *release, *delta_text;
        transaction_observer observer;
        gpointer user;
        gint64 reported_us;
};

static void set_string(ProtobufCBinaryData *field, char **owner, char *value)
{
        g_free(*owner);
        *owner = value;
        field->data = (guint8 *)value;
        field->len = value != NULL ? MIN(strlen(value), (size_t)LIMIT_TEXT) : 0;
}

Progress *progress_new(const guint8 push_id[static 16], transaction_observer observer, gpointer user)
{
        Progress *p = g_new0(Progress, 1);
        g_mutex_init(&p->telling);
        g_mutex_init(&p->lock);
        moult__transaction_state__init(&p->state);
        memcpy(p->push_id, push_id, sizeof p->push_id);
        p->state.push_id = (ProtobufCBinaryData){sizeof p->push_id, p->push_id};
        p->observer = observer;
        p->user = user;
        return p;
}

void progress_free(Progress *p)
{
        if (p == NULL)
                return;
        g_mutex_clear(&p->telling);
        g_mutex_clear(&p->lock);
        g_free(p->text);
        g_free(p->hook);
        g_free(p->hook_output);
        g_free(p->delta_text);
        g_free(p->release);
        g_free(p);
}

static Moult__TransactionState *copy(const Moult__TransactionState *s)
{
        gsize len = moult__transaction_state__get_packed_size(s);
        g_autofree guint8 *buf = g_malloc(len + 1);
        moult__transaction_state__pack(s, buf);
        return moult__transaction_state__unpack(NULL, len, buf);
}

/* Tells the observer, without the lock: it may ask for the state, or wait for somebody who does. */
static void report(Progress *p, gboolean now)
{
        if (p->observer == NULL)
                return;
        g_mutex_lock(&p->telling);
        g_mutex_lock(&p->lock);
        gint64 t = g_get_monotonic_time();
        gboolean due = now || t - p->reported_us >= REPORT_EVERY_US;
        Moult__TransactionState *s = due ? copy(&p->state) : NULL;
        if (due)
                p->reported_us = t;
        g_mutex_unlock(&p->lock);
        if (s != NULL) {
                p->observer(s, p->user);
                transaction_state_free(s);
        }
        g_mutex_unlock(&p->telling);
}

void progress_phase(Progress *p, Moult__TransactionPhase phase, MoultError code, const char *text)
{
        g_mutex_lock(&p->lock);
        p->state.phase = phase;
        p->state.error = (Moult__ErrorCode)code;
        set_string(&p->state.text, &p->text, g_strdup(text));
        g_mutex_unlock(&p->lock);
        report(p, TRUE);
}

void progress_release(Progress *p, const Manifest *m, const guint8 digest[static 32], guint64 generation)
{
        g_autofree char *name = message_string(m->name), *version = message_string(m->version);
        g_mutex_lock(&p->lock);
        memcpy(p->digest, digest, sizeof p->digest);
        p->state.manifest_digest = (ProtobufCBinaryData){sizeof p->digest, p->digest};
        p->state.generation = generation;
        set_string(&p->state.release, &p->release, g_strdup_printf("%s %s", name, version));
        g_mutex_unlock(&p->lock);
}

void progress_counts(Progress *p, guint64 bytes_total, guint total, guint change, guint equal, guint blocked,
                     guint merged)
{
        g_mutex_lock(&p->lock);
        p->state.bytes_total = bytes_total;
        p->state.entries_total = total;
        p->state.entries_change = change;
        p->state.entries_equal = equal;
        p->state.entries_blocked = blocked;
        p->state.entries_merged = merged;
        g_mutex_unlock(&p->lock);
}

void progress_bytes(Progress *p, guint64 more)
{
        g_mutex_lock(&p->lock);
        p->state.bytes_done += more;
        gboolean due = g_get_monotonic_time() - p->reported_us >= REPORT_EVERY_US;
        g_mutex_unlock(&p->lock);
        if (due) /* a look that saves the other lock; report() looks again */
                report(p, FALSE);
}

void progress_source(Progress *p, int kind, unsigned changes)
{
        g_mutex_lock(&p->lock);
        p->state.source = (Moult__SourceKind)kind;
        p->state.source_changes = changes;
        g_mutex_unlock(&p->lock);
}

void progress_hook(Progress *p, const char *hook, const char *output)
{
        g_mutex_lock(&p->lock);
        set_string(&p->state.hook, &p->hook, g_strdup(hook));
        set_string(&p->state.hook_output, &p->hook_output, g_strdup(output));
        g_mutex_unlock(&p->lock);
        report(p, TRUE);
}

void progress_deltas(Progress *p, const struct stage_deltas *d)
{
        g_mutex_lock(&p->lock);
        p->state.delta_files = d->files;
        p->state.delta_bytes = d->bytes;
        p->state.delta_saved = d->saved_bytes;
        p->state.delta_unsuited = d->unsuited;
        p->state.delta_failed = d->failed;
        set_string(&p->state.delta_text, &p->delta_text, g_strdup(d->text));
        g_mutex_unlock(&p->lock);
}

void progress_times(Progress *p, guint64 staging_us, guint64 switch_us)
{
        g_mutex_lock(&p->lock);
        if (staging_us != 0)
                p->state.staging_us = staging_us;
        if (switch_us != 0)
                p->state.switch_us = switch_us;
        g_mutex_unlock(&p->lock);
}

Moult__TransactionPhase progress_get_phase(Progress *p)
{
        g_mutex_lock(&p->lock);
        Moult__TransactionPhase phase = p->state.phase;
        g_mutex_unlock(&p->lock);
        return phase;
}

Moult__TransactionState *progress_state(Progress *p)
{
        g_mutex_lock(&p->lock);
        Moult__TransactionState *s = copy(&p->state);
        g_mutex_unlock(&p->lock);
        return s;
}
