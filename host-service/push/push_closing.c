/* host-service/push/push_closing.c - the end of a push: the window goes, and the guest says who runs old
 * code. */
#include "host-service/push/push_closing.h"

#include <string.h>

#include "host-service/push/stale_json.h"
#include "proto/limits.h"

/* The guest gives up looking after half of this. */
#define LOOK_TIMEOUT_MS 60000u
/* Two looks, and restarts that take up to two minutes each. */
#define RESTART_TIMEOUT_MS 900000u

struct PushClosing {
        const struct host_env *env;
        Guests *guests;
        PushWindow *window;
        PushRecord *record;
        Session *session; /* a reference, or NULL */
        void (*done)(gpointer user);
        gpointer user;
        guint64 request;
        GSource *patience; /* while the guest is asked */
        guint waits;       /* for so many of the two */
};

PushClosing *push_closing_new(const struct host_env *env, Guests *g, PushWindow *w, PushRecord *r,
                              Session *session, void (*done)(gpointer user), gpointer user)
{
        PushClosing *c = g_new0(PushClosing, 1);

        c->env = env;
        c->guests = g;
        c->window = w;
        c->record = r;
        c->session = session ? session_ref(session) : NULL;
        c->done = done;
        c->user = user;
        return c;
}

static void stop_asking(PushClosing *c)
{
        host_timer_clear(&c->patience);
        if (c->request)
                session_forget(c->session, c->request);
        c->request = 0;
}

void push_closing_free(PushClosing *c)
{
        if (!c)
                return;
        stop_asking(c);
        if (c->session)
                session_unref(c->session);
        g_free(c);
}

static void one_less(PushClosing *c)
{
        if (--c->waits == 0)
                c->done(c->user); /* may free us */
}

static void on_unplugged(const GError *error, gpointer user)
{
        one_less(user); /* stuck or not: the outcome is the same */
}

static char *why_unknown(const GError *error)
{
        if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED))
                return g_strdup("the agent in the guest is too old to say");
        return g_strdup(error->message);
}

/* Takes over @stale. */
static void answered(PushClosing *c, char *stale)
{
        stop_asking(c);
        g_free(c->record->stale);
        c->record->stale = stale;
        one_less(c);
}

static void on_report(Session *s, const Message *reply, const GError *error, gpointer user)
{
        PushClosing *c = user;
        g_autofree char *why = error ? why_unknown(error) : NULL;
        const Moult__StaleReport *r = error ? NULL : reply->stale_report;

        c->request = 0;
        if (r && (r->push_id.len != sizeof c->record->push_id ||
                  memcmp(r->push_id.data, c->record->push_id, r->push_id.len) != 0))
                why = g_strdup("the guest spoke of another push");
        answered(c, why ? stale_json_unknown(why) : stale_json_text(r));
}

static gboolean on_patience_over(gpointer user)
{
        answered(user, stale_json_unknown("the guest did not answer in time"));
        return G_SOURCE_REMOVE;
}

void push_closing_session_changed(PushClosing *c)
{
        if (c->request && !session_is_established(c->session))
                answered(c, stale_json_unknown("the guest went away when it was asked"));
}

/* What is in place now is not what was before; else there is nothing to ask. */
static gboolean has_switched(const PushRecord *r)
{
        return r->outcome == PUSH_STATE_ROLLED_BACK || (r->outcome == PUSH_STATE_DONE && !r->options.dry_run);
}

static void ask(PushClosing *c)
{
        Moult__StaleQuery query = MOULT__STALE_QUERY__INIT;
        Message m = MOULT__MESSAGE__INIT;

        if (!has_switched(c->record))
                return;
        if (!c->session || !session_is_established(c->session)) {
                g_free(c->record->stale);
                c->record->stale = stale_json_unknown("the guest was not connected when it was to be asked");
                return;
        }
        query.push_id = message_blob(c->record->push_id, sizeof c->record->push_id);
        m.body_case = MOULT__MESSAGE__BODY_STALE_QUERY;
        m.stale_query = &query;
        guests_expect(c->guests, c->record->vm, c->session, LIMIT_STALE_BYTES);
        c->waits++;
        c->patience = host_timer_add(c->env,
                                     c->record->options.restart_stale ? RESTART_TIMEOUT_MS : LOOK_TIMEOUT_MS,
                                     on_patience_over, c);
        c->request = session_request(c->session, &m, /* timeout_ms= */ 0, on_report, c);
}

void push_closing_begin(PushClosing *c)
{
        c->waits = 1;
        ask(c);
        push_window_drop(c->window, on_unplugged, c);
}
