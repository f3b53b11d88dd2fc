/* guest-agent/ladder.c - picks the rung to read from. */
#include "guest-agent/ladder.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/source_session.h"
#include "shm/pci_window.h"
#include "shm/pmem_window.h"

/* A hot-plugged device needs a moment until its BAR, or its block device, is there. */
#define WINDOW_APPEARS_US (5 * G_USEC_PER_SEC)
#define WINDOW_LOOK_US    (G_USEC_PER_SEC / 10)
#define COOL_DOWN_US      G_USEC_PER_SEC
#define COOL_DOWN_MAX_US  (30 * G_USEC_PER_SEC)
#define MAX_RUNGS         8

struct rung {
        Moult__SourceKind kind;
        gint64 not_before_us; /* cooling down until then; G_MAXINT64: not before the host says so */
        gint64 cool_down_us;
        gint64 until_us;   /* a window may still appear until then; 0: not waited for yet */
        gboolean worked;   /* a window was opened in this push */
        gboolean hopeless; /* the window did not come, or the host said no: no use unless something changes */
        gboolean damaged;  /* the window gave bytes that do not match the signed list: no use for this push */
        GError *why;       /* of its last failure */
};

struct Ladder {
        Peers *peers;
        char *sysfs_pci, *sysfs_block, *dev;
        guint8 digest[32];
        uint64_t size;
        gboolean strict;
        gint64 patience_us;
        GCancellable *cancellable;
        gulong cancel_handler;
        void (*tell_wanted)(gpointer user);
        gpointer user;
        PackSource *source;

        GMutex lock; /* of all below; ranks above the lock in Peers */
        struct rung rungs[MAX_RUNGS];
        unsigned n_rungs;
        int at;              /* index of the rung in use, -1 before the first */
        PackSource *in_use;  /* session rungs only: a reference */
        gboolean superseded; /* in_use works, but there may be a better one */
        gint64 opened_us;
        Moult__SourceKind wanted, told; /* the window that is waited for; what the owner knows of that */
        gint64 gave_bytes_us;           /* when some rung was last known to work */
        Moult__SourceKind kind;
        unsigned changes;
        gboolean ever_read;
        gboolean holds_on; /* ladder_hold_on() */
};

static gboolean is_session(Moult__SourceKind kind)
{
        return kind == MOULT__SOURCE_KIND__SOURCE_SERIAL || kind == MOULT__SOURCE_KIND__SOURCE_TLS;
}

static const char *kind_name(Moult__SourceKind kind)
{
        return kind == MOULT__SOURCE_KIND__SOURCE_IVSHMEM ? "ivshmem"
               : kind == MOULT__SOURCE_KIND__SOURCE_PMEM  ? "pmem"
               : kind == MOULT__SOURCE_KIND__SOURCE_TLS   ? "tls"
                                                          : "virtio-serial";
}

/* Under the lock: the ladder asks for another rung, so the one in use has failed. */
static void judge_present(Ladder *l, gboolean damaged, gint64 now)
{
        struct rung *r = l->at >= 0 ? &l->rungs[l->at] : NULL;
        gint64 last_byte;

        if (!r)
                return;
        if (!is_session(r->kind)) {
                r->not_before_us = G_MAXINT64;
                l->gave_bytes_us = now;
                l->ever_read = TRUE;
                r->hopeless = TRUE;
                g_clear_error(&r->why);
                r->damaged = damaged;
                r->why = g_error_new_literal(MOULT_ERROR, damaged ? MOULT_ERROR_CORRUPT : MOULT_ERROR_IO,
                                             damaged ? "what was read there does not match the signed list"
                                                     : "the window is gone");
                if (damaged)
                        event_log(EVENT_WARNING, "agent-window-damaged", r->why->message, "source",
                                  kind_name(r->kind), NULL);
                return;
        }
        last_byte = source_session_last_byte_us(l->in_use);
        if (last_byte >= l->opened_us) {
                l->gave_bytes_us = MAX(l->gave_bytes_us, last_byte);
                l->ever_read = TRUE;
                r->cool_down_us = 0;
        }
        r->hopeless = source_session_is_refused(l->in_use);
        g_clear_pointer(&l->in_use, pack_source_unref);
        if (l->superseded) {
                l->superseded = FALSE;
                return;
        }
        /* Lost sessions need no cool-down: they are waited for. One that stands and gives nothing does. */
        r->cool_down_us = CLAMP(2 * r->cool_down_us, COOL_DOWN_US, COOL_DOWN_MAX_US);
        r->not_before_us = peers_stands(l->peers) & (1u << r->kind) ? now + r->cool_down_us : 0;
        g_clear_error(&r->why);
        r->why =
                g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "the session was lost, or gave nothing for a while");
}

static PackSource *open_window(const Ladder *l, Moult__SourceKind kind, GError **error)
{
        return kind == MOULT__SOURCE_KIND__SOURCE_PMEM
                       ? pmem_window_open(l->sysfs_block, l->dev, l->digest, l->strict, error)
                       : pci_window_open(l->sysfs_pci, l->digest, l->strict, error);
}

/* Under the lock: how long a window that is not there may still appear. Persistent memory is waited for where
 * the other kind of window has never worked: one that was taken off in the middle is not asked for under
 * another name. */
static gint64 window_deadline(Ladder *l, struct rung *r, gint64 now)
{
        if (!r->until_us) {
                r->until_us = now + WINDOW_APPEARS_US;
                for (unsigned i = 0; i < l->n_rungs; i++)
                        if (&l->rungs[i] != r && l->rungs[i].worked)
                                r->until_us = now;
        }
        return r->until_us;
}

/* Under the lock. NULL: this rung does not work now; *@ret_retry_us is when to look again at the latest. */
static PackSource *try_window(Ladder *l, struct rung *r, gint64 now, gint64 *ret_retry_us)
{
        g_autoptr(GError) error = NULL;
        PackSource *source;

        if (now < r->not_before_us)
                return NULL;
        source = open_window(l, r->kind, &error);
        if (source) {
                r->worked = TRUE;
                return source;
        }
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) && now < window_deadline(l, r, now)) {
                if (r->kind == MOULT__SOURCE_KIND__SOURCE_PMEM)
                        l->wanted = r->kind;
                *ret_retry_us = MIN(*ret_retry_us, now + WINDOW_LOOK_US);
                return NULL;
        }
        r->not_before_us = G_MAXINT64;
        r->hopeless = TRUE;
        event_log(EVENT_NOTICE, "agent-window-unusable", error->message, "source", kind_name(r->kind), NULL);
        g_clear_error(&r->why);
        r->why = g_steal_pointer(&error);
        return NULL;
}

/* Under the lock. */
static PackSource *try_session(Ladder *l, struct rung *r, gint64 now, gint64 *ret_retry_us)
{
        if (!(peers_stands(l->peers) & (1u << r->kind))) {
                if (!r->why)
                        r->why =
                                g_error_new_literal(MOULT_ERROR, MOULT_ERROR_IO, "the host is not connected");
                return NULL;
        }
        if (now < r->not_before_us) {
                *ret_retry_us = MIN(*ret_retry_us, r->not_before_us);
                return NULL;
        }
        l->in_use = source_session_new(l->peers, r->kind, l->digest, l->size);
        return pack_source_ref(l->in_use);
}

/* Under the lock: the first rung that works now. */
static PackSource *try_rungs(Ladder *l, gint64 now, gint64 *ret_retry_us)
{
        l->wanted = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        for (unsigned i = 0; i < l->n_rungs; i++) {
                struct rung *r = &l->rungs[i];
                gboolean session = is_session(r->kind);
                PackSource *source =
                        session ? try_session(l, r, now, ret_retry_us) : try_window(l, r, now, ret_retry_us);

                if (source) {
                        l->at = (int)i;
                        l->opened_us = now;
                        if (l->kind != MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED && l->kind != r->kind)
                                l->changes++;
                        l->kind = r->kind;
                        return source;
                }
                if (!session && now < r->not_before_us)
                        continue;
                if (!session)
                        return NULL; /* it may appear any moment: do not start on a slower one */
        }
        return NULL;
}

static gboolean all_damaged(const Ladder *l)
{
        for (unsigned i = 0; i < l->n_rungs; i++)
                if (!l->rungs[i].damaged)
                        return FALSE;
        return l->n_rungs > 0;
}

/* Under the lock: nothing was ever read, and no rung promises anything. In the middle of staging it is worth
 * to be patient: a host that restarts may say no until it knows its pushes again. */
static gboolean is_hopeless(const Ladder *l)
{
        for (unsigned i = 0; i < l->n_rungs; i++)
                if (!l->rungs[i].hopeless)
                        return FALSE;
        return !l->ever_read || all_damaged(l);
}

static void set_no_way(Ladder *l, gint64 now, GError **error)
{
        g_autoptr(GString) text = g_string_new(NULL);

        for (unsigned i = 0; i < l->n_rungs; i++)
                g_string_append_printf(text, "%s%s: %s", i ? "; " : "", kind_name(l->rungs[i].kind),
                                       l->rungs[i].why ? l->rungs[i].why->message : "not available");
        if (all_damaged(l)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "no other way to the pack's bytes was offered (%s)", text->str);
                return;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                    "no way to the pack's bytes for %d s (%s); %s, push again once the host can be reached",
                    (int)((now - l->gave_bytes_us) / G_USEC_PER_SEC), text->str,
                    l->holds_on ? "what was not copied yet is taken back" : "nothing was changed");
}

/* Under the lock: whether the owner has to be told. */
static gboolean wanted_changed(Ladder *l)
{
        gboolean changed = l->wanted != l->told;

        l->told = l->wanted;
        return changed && l->tell_wanted;
}

static PackSource *next_rung(gpointer user, gboolean damaged, GError **error)
{
        Ladder *l = user;
        PackSource *source = NULL;
        gboolean tell;

        g_mutex_lock(&l->lock);
        gint64 now = g_get_monotonic_time();
        judge_present(l, damaged, now);
        l->at = -1;
        while (!source && !g_cancellable_set_error_if_cancelled(l->cancellable, error)) {
                unsigned seen = peers_change_count(l->peers);
                gint64 deadline = l->gave_bytes_us + l->patience_us;

                now = g_get_monotonic_time();
                source = try_rungs(l, now, &deadline);
                if (source)
                        break;
                if (now >= l->gave_bytes_us + l->patience_us || is_hopeless(l)) {
                        set_no_way(l, now, error);
                        break;
                }
                tell = wanted_changed(l);
                g_mutex_unlock(&l->lock);
                if (tell)
                        l->tell_wanted(l->user);
                peers_wait(l->peers, seen, deadline);
                g_mutex_lock(&l->lock);
        }
        if (source)
                event_log(EVENT_INFO, "agent-source", "reading the pack", "source", kind_name(l->kind), NULL);
        tell = wanted_changed(l);
        g_mutex_unlock(&l->lock);
        if (tell)
                l->tell_wanted(l->user);
        return source;
}

static void on_cancelled(GCancellable *c, gpointer user)
{
        peers_wake(((Ladder *)user)->peers);
}

Ladder *ladder_new(const struct ladder_config *config)
{
        Ladder *l = g_new0(Ladder, 1);
        gint64 now = g_get_monotonic_time();

        l->peers = config->peers;
        l->sysfs_pci = g_strdup(config->sysfs_pci);
        l->sysfs_block = g_strdup(config->sysfs_block);
        l->dev = g_strdup(config->dev);
        l->tell_wanted = config->wanted;
        l->user = config->user;
        memcpy(l->digest, config->manifest_digest, sizeof l->digest);
        l->size = config->pack_size;
        l->strict = config->strict_window;
        l->patience_us = (gint64)config->patience_s * G_USEC_PER_SEC;
        l->cancellable = g_object_ref(config->cancellable);
        l->n_rungs = (unsigned)MIN(config->n_rungs, MAX_RUNGS);
        for (unsigned i = 0; i < l->n_rungs; i++)
                l->rungs[i].kind = config->rungs[i];
        l->at = -1;
        l->gave_bytes_us = now;
        g_mutex_init(&l->lock);
        l->source = pack_source_ladder_new(l->size, next_rung, l);
        l->cancel_handler = g_cancellable_connect(l->cancellable, G_CALLBACK(on_cancelled), l, NULL);
        return l;
}

void ladder_free(Ladder *l)
{
        if (!l)
                return;
        if (l->cancel_handler)
                g_cancellable_disconnect(l->cancellable, l->cancel_handler);
        g_clear_pointer(&l->source, pack_source_unref);
        g_clear_pointer(&l->in_use, pack_source_unref);
        for (unsigned i = 0; i < l->n_rungs; i++)
                g_clear_error(&l->rungs[i].why);
        g_mutex_clear(&l->lock);
        g_object_unref(l->cancellable);
        g_free(l->sysfs_pci);
        g_free(l->sysfs_block);
        g_free(l->dev);
        g_free(l);
}

void ladder_hold_on(Ladder *l, guint64 patience_ms, guint64 passed_ms)
{
        g_mutex_lock(&l->lock);
        l->patience_us = (gint64)patience_ms * 1000;
        l->gave_bytes_us = g_get_monotonic_time() - (gint64)passed_ms * 1000;
        l->ever_read = l->holds_on = TRUE;
        g_mutex_unlock(&l->lock);
}

PackSource *ladder_source(Ladder *l)
{
        return l->source;
}

static gboolean is_among(Moult__SourceKind kind, const Moult__SourceKind *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (list[i] == kind)
                        return TRUE;
        return FALSE;
}

/* Under the lock. */
static void close_rung(struct rung *r)
{
        r->not_before_us = G_MAXINT64;
        r->hopeless = TRUE;
        if (!r->why)
                r->why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "the host cannot plug it");
}

void ladder_look_again(Ladder *l, const Moult__SourceKind *can, size_t n_can)
{
        gint64 now = g_get_monotonic_time();
        gboolean better = FALSE;

        g_mutex_lock(&l->lock);
        for (unsigned i = 0; i < l->n_rungs; i++) {
                struct rung *r = &l->rungs[i];

                if (is_session(r->kind) || r->damaged || (int)i == l->at) /* what is in use stays so */
                        continue;
                if (n_can > 0 && !is_among(r->kind, can, n_can)) {
                        close_rung(r);
                        continue;
                }
                r->not_before_us = 0;
                r->hopeless = FALSE;
                r->until_us = now + ((int)i < l->at ? COOL_DOWN_US : WINDOW_APPEARS_US);
                better |= (int)i < l->at;
        }
        if (better && l->in_use) {
                l->superseded = TRUE;
                source_session_supersede(l->in_use);
        }
        g_mutex_unlock(&l->lock);
        peers_wake(l->peers);
}

Moult__SourceKind ladder_wanted(Ladder *l)
{
        g_mutex_lock(&l->lock);
        Moult__SourceKind kind = l->told;
        g_mutex_unlock(&l->lock);
        return kind;
}

Moult__SourceKind ladder_kind(Ladder *l)
{
        g_mutex_lock(&l->lock);
        Moult__SourceKind kind = l->kind;
        g_mutex_unlock(&l->lock);
        return kind;
}

unsigned ladder_changes(Ladder *l)
{
        g_mutex_lock(&l->lock);
        unsigned changes = l->changes;
        g_mutex_unlock(&l->lock);
        return changes;
}
