/* host-service/push/vm_releases.c - what each VM runs now, by its guest's own word. */
#include "host-service/push/vm_releases.h"

#include <string.h>

#include "common/events.h"
#include "host-service/catalogue/pushes.h"

#define GAP_US     (2 * G_USEC_PER_SEC)
#define TIMEOUT_MS 30000u
#define RETRY_MS   10000u /* no answer, or the catalogue could not take it */
#define ITEMS      64u    /* among the newest so many one is committed, or none is known */
#define PUSHES     64u    /* so many of ours are looked through for the one that made it */

typedef struct {
        VmReleases *owner;
        const char *vm;
        GSource *timer;
        gint64 asked_us; /* 0: never */
        gboolean asking, again;
} Note;

struct VmReleases {
        const struct host_env *env;
        Catalogue *catalogue;
        Guests *guests;
        GuestAsks *asks;
        GHashTable *notes; /* VM name -> Note; kept as long as we run: an answer may still come */
};

static void note_free(gpointer p)
{
        Note *n = p;

        host_timer_clear(&n->timer);
        g_free(n);
}

VmReleases *vm_releases_new(const struct host_env *env, Catalogue *c, Guests *g, GuestAsks *asks)
{
        VmReleases *v = g_new0(VmReleases, 1);

        v->env = env;
        v->catalogue = c;
        v->guests = g;
        v->asks = asks;
        v->notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, note_free);
        return v;
}

void vm_releases_free(VmReleases *v)
{
        if (!v)
                return;
        g_hash_table_unref(v->notes);
        g_free(v);
}

char *vm_release_text(const char *release, gboolean selected)
{
        return g_strdup_printf("%s%s", release, selected ? " (selected files)" : "");
}

/* The guest's history does not tell a selection from the whole; our own row of that generation does. */
static gboolean was_selection(Catalogue *c, const char *vm, const Moult__HistoryItem *item)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list_vm(c, vm, PUSHES, NULL);

        for (guint i = 0; pushes && i < pushes->len; i++) {
                const PushRecord *r = pushes->pdata[i];

                if (r->generation == item->generation && !r->options.rollback && !r->options.dry_run &&
                    item->manifest_digest.len == sizeof r->digest &&
                    memcmp(item->manifest_digest.data, r->digest, sizeof r->digest) == 0)
                        return r->options.selection != NULL;
        }
        return FALSE;
}

/* FALSE: the catalogue could not take it. */
static gboolean take(VmReleases *v, const char *vm, const Moult__History *h)
{
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        gsize i = 0;

        while (i < h->n_items && h->items[i]->phase != MOULT__TRANSACTION_PHASE__PHASE_COMMITTED)
                i++;
        if (i == h->n_items && i >= ITEMS)
                return TRUE; /* it may be further back */
        if (i < h->n_items) {
                g_autofree char *release = message_string(h->items[i]->release);

                text = vm_release_text(release, was_selection(v->catalogue, vm, h->items[i]));
        }
        if (catalogue_vm_set_release(v->catalogue, vm, text, &error) ||
            g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) /* removed meanwhile */
                return TRUE;
        event_log(EVENT_WARNING, "guest-seen-failed", error->message, "vm", vm, NULL);
        return FALSE;
}

static gboolean on_time(gpointer user);

static void on_history(const Moult__History *history, const GError *error, gpointer user)
{
        Note *n = user;
        gboolean unanswered = g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT);

        n->asking = FALSE;
        if (history)
                unanswered = !take(n->owner, n->vm, history);
        if (n->again && !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CANCELLED))
                vm_releases_ask(n->owner, n->vm);
        else if (unanswered)
                n->timer = host_timer_add(n->owner->env, RETRY_MS, on_time, n);
}

static gboolean on_time(gpointer user)
{
        Note *n = user;
        VmReleases *v = n->owner;
        Session *s = guests_session(v->guests, n->vm, GUEST_SESSION_SERIAL);

        host_timer_clear(&n->timer);
        if (!s)
                s = guests_session(v->guests, n->vm, GUEST_SESSION_TLS);
        if (!s)
                return G_SOURCE_REMOVE; /* asked when there is one */
        n->asking = TRUE;
        n->again = FALSE;
        n->asked_us = host_monotonic_us(v->env);
        guest_asks_add_history(v->asks, s, ITEMS, TIMEOUT_MS, on_history, n);
        return G_SOURCE_REMOVE;
}

void vm_releases_ask(VmReleases *v, const char *vm)
{
        Note *n = g_hash_table_lookup(v->notes, vm);
        gint64 wait_us;

        if (!n) {
                char *name = g_strdup(vm);

                n = g_new0(Note, 1);
                n->owner = v;
                n->vm = name;
                g_hash_table_insert(v->notes, name, n);
        }
        n->again = n->asking;
        if (n->asking || n->timer)
                return;
        wait_us = n->asked_us ? n->asked_us + GAP_US - host_monotonic_us(v->env) : 0;
        n->timer = host_timer_add(v->env, (guint)(MAX(wait_us, 0) / 1000), on_time, n);
}
