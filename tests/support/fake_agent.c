/* tests/support/fake_agent.c - an agent with a script instead of an engine. */
#include "tests/support/fake_agent.h"

#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

#include "common/error.h"
#include "proto/limits.h"
#include "proto/transport_fd.h"

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

struct FakeAgent {
        char *name, *path;
        GPtrArray *log;
        GSocketService *service;
        Session *session;
        struct fake_agent_script script;
        guint step; /* idle source that goes on by itself */
        gboolean died;

        guint8 push_id[16];
        gboolean known, dry_run, is_rollback;
        gboolean committed; /* by its history, "demo 1.0" */
        guint8 digest[32];
        guint64 pack_size, fetched;
        GByteArray *bytes;
        Moult__TransactionPhase phase;
        Moult__ErrorCode error;
        Moult__SourceKind sources[4];
        guint n_sources, commits;
        Moult__SourceKind wanted;
};

static void enter(FakeAgent *a, Moult__TransactionPhase phase);

static void note(FakeAgent *a, const char *what)
{
        g_ptr_array_add(a->log, g_strdup_printf("%s %s", a->name, what));
}

static const char *phase_name(Moult__TransactionPhase phase)
{
        static const char *const names[FAKE_PHASES] = {"none",         "planning",    "planned", "staging",
                                                       "staged",       "committing",  "active",  "committed",
                                                       "rolling-back", "rolled-back", "refused", "failed"};
        return names[phase];
}

static void fill_state(FakeAgent *a, Moult__TransactionState *s)
{
        moult__transaction_state__init(s);
        s->push_id = message_blob(a->push_id, sizeof a->push_id);
        s->phase = a->known ? a->phase : P(NONE);
        if (!a->known)
                return;
        s->error = a->error;
        s->text = message_bytes(a->error ? "the script says so" : "");
        s->generation = 7;
        s->bytes_total = a->pack_size;
        s->bytes_done = MIN(a->fetched, a->pack_size);
        s->entries_total = 3;
        s->entries_change = 2;
        s->entries_equal = 1;
        s->entries_blocked = a->phase == P(REFUSED) ? 1 : 0;
        s->source = a->n_sources ? a->sources[0] : MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        s->source_wanted = a->wanted;
        s->staging_us = 1234;
        if (a->script.switches_early || a->phase == P(ACTIVE) || a->phase == P(COMMITTED))
                s->switch_us = 56;
}

static void send_state(FakeAgent *a, const Message *request)
{
        Moult__TransactionState s;
        Message m = MOULT__MESSAGE__INIT;

        if (!a->session)
                return;
        fill_state(a, &s);
        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = &s;
        if (request)
                session_reply(a->session, request, &m);
        else
                session_send(a->session, &m);
}

static void drop_session(FakeAgent *a)
{
        if (!a->session)
                return;
        session_close(a->session);
        g_clear_pointer(&a->session, session_unref);
}

void fake_agent_roll_back(FakeAgent *a)
{
        memset(a->push_id, 0xee, sizeof a->push_id);
        a->known = a->is_rollback = TRUE;
        enter(a, P(ROLLING_BACK));
}

void fake_agent_cut(FakeAgent *a)
{
        drop_session(a);
}

static void fetch_more(FakeAgent *a);

static void on_data(Session *s, const Message *reply, const GError *error, gpointer user)
{
        FakeAgent *a = user;

        if (error) {
                note(a, "fetch failed");
                return; /* the session is gone; the next offer or stage begins again */
        }
        if (reply->data->offset != a->fetched)
                g_error("%s: data at %" G_GUINT64_FORMAT " instead of %" G_GUINT64_FORMAT, a->name,
                        (guint64)reply->data->offset, a->fetched);
        g_byte_array_append(a->bytes, reply->data->bytes.data, (guint)reply->data->bytes.len);
        a->fetched += reply->data->bytes.len;
        if (reply->data->last)
                fetch_more(a);
}

static void fetch_more(FakeAgent *a)
{
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;

        if (a->fetched == a->pack_size) {
                if (a->script.expected &&
                    (g_bytes_get_size(a->script.expected) != a->bytes->len ||
                     memcmp(g_bytes_get_data(a->script.expected, NULL), a->bytes->data, a->bytes->len) != 0))
                        g_error("%s: fetched another pack", a->name);
                note(a, "fetched");
                enter(a, P(STAGED));
                return;
        }
        fetch.manifest_digest = message_blob(a->digest, sizeof a->digest);
        fetch.offset = a->fetched;
        fetch.length = (guint32)MIN(LIMIT_FETCH_BYTES, a->pack_size - a->fetched);
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        session_request(a->session, &m, 0, on_data, a);
}

/* The phase that follows without a command; NONE: waits for one. */
static Moult__TransactionPhase next_phase(const FakeAgent *a)
{
        switch (a->phase) {
        case P(PLANNING):
                return a->script.end == P(REFUSED) ? P(REFUSED) : P(PLANNED);
        case P(STAGING):
                return a->script.end == P(FAILED) ? P(FAILED) : P(STAGED);
        case P(COMMITTING):
                return a->script.end == P(ROLLED_BACK) ? P(ROLLING_BACK) : P(ACTIVE);
        case P(ROLLING_BACK):
                return P(ROLLED_BACK);
        default:
                return P(NONE);
        }
}

static gboolean on_step(gpointer user)
{
        FakeAgent *a = user;

        a->step = 0;
        if (a->script.hold_at == a->phase || a->wanted)
                return G_SOURCE_REMOVE;
        if (a->phase == P(STAGING) && a->script.fetches && a->script.end != P(FAILED)) {
                a->fetched = 0;
                g_byte_array_set_size(a->bytes, 0);
                if (a->session && session_is_established(a->session))
                        fetch_more(a);
                return G_SOURCE_REMOVE;
        }
        if (next_phase(a) != P(NONE))
                enter(a, next_phase(a));
        return G_SOURCE_REMOVE;
}

static void step_later(FakeAgent *a)
{
        if (!a->step)
                a->step = g_idle_add_full(G_PRIORITY_DEFAULT, on_step, a, NULL);
}

void fake_agent_go_on(FakeAgent *a)
{
        a->script.hold_at = P(NONE);
        if (a->known)
                step_later(a);
}

static gboolean dies_now(FakeAgent *a)
{
        if (a->died || a->script.die_at == P(NONE) || a->script.die_at != a->phase)
                return FALSE;
        a->died = TRUE;
        note(a, "dies");
        if (a->script.restarts && (a->phase < P(COMMITTING) || a->phase == P(REFUSED)))
                a->known = FALSE;
        drop_session(a);
        return TRUE;
}

static void enter(FakeAgent *a, Moult__TransactionPhase phase)
{
        a->phase = phase;
        a->error = phase == P(REFUSED) && a->script.end == P(REFUSED) ? MOULT__ERROR_CODE__ERROR_REFUSED
                   : phase == P(ROLLED_BACK) && !a->is_rollback       ? MOULT__ERROR_CODE__ERROR_HEALTH
                   : phase == P(FAILED) && a->script.end == P(FAILED) ? MOULT__ERROR_CODE__ERROR_NO_SPACE
                   : phase == P(FAILED)                               ? MOULT__ERROR_CODE__ERROR_CANCELLED
                                                                      : MOULT__ERROR_CODE__ERROR_UNSPECIFIED;
        a->commits += phase == P(ACTIVE);
        if (phase == P(COMMITTED))
                a->committed = TRUE;
        if (phase == P(ROLLED_BACK) && a->is_rollback)
                a->committed = FALSE;
        note(a, phase_name(phase));
        if (dies_now(a)) {
                if (a->known && a->phase != P(STAGING)) /* what runs in the guest needs no connection */
                        step_later(a);
                return;
        }
        send_state(a, NULL);
        step_later(a);
}

/* One at a time, as the agent does it. */
static gboolean holds_another(const FakeAgent *a, const guint8 *push_id)
{
        return a->known && memcmp(a->push_id, push_id, 16) != 0 &&
               (a->phase <= P(ACTIVE) || a->phase == P(ROLLING_BACK));
}

static void on_offer(FakeAgent *a, const Message *m)
{
        const Moult__Offer *o = m->offer;

        a->n_sources = (guint)MIN(o->n_sources, 4);
        memcpy(a->sources, o->sources, a->n_sources * sizeof a->sources[0]);
        if (a->script.busy > 0 || holds_another(a, o->push_id.data)) {
                g_autoptr(GError) error = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "busy");

                a->script.busy -= a->script.busy > 0;
                session_reply_error(a->session, m, error);
                return;
        }
        if (a->known && memcmp(a->push_id, o->push_id.data, 16) == 0) {
                send_state(a, m);
                if (a->phase == P(STAGING)) /* goes on where it was cut off */
                        step_later(a);
                return;
        }
        memcpy(a->push_id, o->push_id.data, 16);
        memcpy(a->digest, o->manifest_digest.data, 32);
        a->pack_size = o->pack_size;
        a->fetched = 0;
        a->dry_run = o->dry_run;
        a->is_rollback = FALSE;
        a->known = TRUE;
        note(a, "offered");
        if (a->script.locked_down && a->n_sources > 1 &&
            a->sources[0] == MOULT__SOURCE_KIND__SOURCE_IVSHMEM &&
            a->sources[1] == MOULT__SOURCE_KIND__SOURCE_PMEM)
                a->wanted = MOULT__SOURCE_KIND__SOURCE_PMEM;
        enter(a, P(PLANNING));
        send_state(a, m);
}

static void on_command(FakeAgent *a, const Message *m)
{
        Moult__PushAction action = m->command->action;

        if (!a->known || memcmp(a->push_id, m->command->push_id.data, 16) != 0) {
                Moult__TransactionState s = MOULT__TRANSACTION_STATE__INIT;
                Message reply = MOULT__MESSAGE__INIT;

                s.push_id = m->command->push_id;
                reply.body_case = MOULT__MESSAGE__BODY_STATE;
                reply.state = &s;
                session_reply(a->session, m, &reply);
                return;
        }
        if (action == MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED) {
                a->n_sources = (guint)MIN(m->command->n_sources, 4);
                memcpy(a->sources, m->command->sources, a->n_sources * sizeof a->sources[0]);
                a->wanted = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
                note(a, "sources changed");
                step_later(a);
        }
        if (action == MOULT__PUSH_ACTION__PUSH_STAGE && a->phase == P(PLANNED) && !a->dry_run)
                enter(a, P(STAGING));
        else if (action == MOULT__PUSH_ACTION__PUSH_COMMIT && a->phase == P(STAGED))
                enter(a, P(COMMITTING));
        else if (action == MOULT__PUSH_ACTION__PUSH_CONFIRM && a->phase == P(ACTIVE))
                enter(a, P(COMMITTED));
        else if (action == MOULT__PUSH_ACTION__PUSH_ABORT && a->phase < P(COMMITTING))
                enter(a, P(FAILED));
        else if (action == MOULT__PUSH_ACTION__PUSH_ABORT && a->phase <= P(ACTIVE))
                enter(a, P(ROLLING_BACK));
        if (a->session)
                send_state(a, m);
}

static void on_plan_query(FakeAgent *a, const Message *m)
{
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        Moult__PlanItem item = MOULT__PLAN_ITEM__INIT;
        Moult__PlanItem *items[LIMIT_PLAN_PAGE];
        Message reply = MOULT__MESSAGE__INIT;

        item.path = message_bytes("usr/bin/x");
        item.action = MOULT__PLAN_ACTION__PLAN_REPLACE;
        page.push_id = m->plan_query->push_id;
        page.first = m->plan_query->first;
        page.total = a->script.plan_items;
        page.items = items;
        while (page.n_items < m->plan_query->count && page.first + page.n_items < page.total)
                items[page.n_items++] = &item;
        reply.body_case = MOULT__MESSAGE__BODY_PLAN_PAGE;
        reply.plan_page = &page;
        session_reply(a->session, m, &reply);
}

static void on_history(FakeAgent *a, const Message *m)
{
        Moult__HistoryItem item = MOULT__HISTORY_ITEM__INIT, *items[] = {&item};
        Moult__History history = MOULT__HISTORY__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        item.generation = 7;
        item.release = message_bytes("demo 1.0");
        item.manifest_digest = message_blob(a->digest, sizeof a->digest);
        item.phase = a->committed ? P(COMMITTED) : P(ROLLED_BACK);
        history.n_items = 1;
        history.items = items;
        reply.body_case = MOULT__MESSAGE__BODY_HISTORY;
        reply.history = &history;
        session_reply(a->session, m, &reply);
}

static void on_stale_query(FakeAgent *a, const Message *m)
{
        ProtobufCBinaryData file = message_bytes("/usr/lib/libx.so");
        Moult__StaleProcess process = MOULT__STALE_PROCESS__INIT, *processes[] = {&process};
        Moult__StaleReport report = MOULT__STALE_REPORT__INIT;
        Message reply = MOULT__MESSAGE__INIT;

        note(a, "looks who is stale");
        if (a->script.cut_when_asked) {
                drop_session(a);
                return;
        }
        if (a->script.old) {
                g_autoptr(GError) error = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED, "what?");

                session_reply_error(a->session, m, error);
                return;
        }
        process.pid = 42;
        process.command = message_bytes("/usr/sbin/xd -f");
        process.unit = message_bytes("xd.service");
        process.n_files = process.files_total = 1;
        process.files = &file;
        report.push_id = m->stale_query->push_id;
        report.processes = processes;
        report.n_processes = report.processes_total = a->script.stale ? 1 : 0;
        report.looked_at = 12;
        reply.body_case = MOULT__MESSAGE__BODY_STALE_REPORT;
        reply.stale_report = &report;
        session_reply(a->session, m, &reply);
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        FakeAgent *a = user;

        if (a->script.deaf)
                return;
        switch (m->body_case) {
        case MOULT__MESSAGE__BODY_OFFER:
                on_offer(a, m);
                break;
        case MOULT__MESSAGE__BODY_COMMAND:
                on_command(a, m);
                break;
        case MOULT__MESSAGE__BODY_PLAN_QUERY:
                on_plan_query(a, m);
                break;
        case MOULT__MESSAGE__BODY_HISTORY_QUERY:
                on_history(a, m);
                break;
        case MOULT__MESSAGE__BODY_STALE_QUERY:
                on_stale_query(a, m);
                break;
        case MOULT__MESSAGE__BODY_ROLLBACK:
                if (holds_another(a, m->rollback->push_id.data)) {
                        g_autoptr(GError) error = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY, "busy");

                        session_reply_error(a->session, m, error);
                        break;
                }
                if (!a->known || memcmp(a->push_id, m->rollback->push_id.data, 16) != 0) {
                        memcpy(a->push_id, m->rollback->push_id.data, 16);
                        a->known = a->is_rollback = TRUE;
                        enter(a, P(ROLLING_BACK));
                }
                if (a->session)
                        send_state(a, m);
                break;
        default:
                break;
        }
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
        note(user, "connected");
}

static void on_lost(Session *s, const GError *why, gpointer user)
{
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        FakeAgent *a = user;

        note(a, "closed by host");
        g_clear_pointer(&a->session, session_unref);
}

static const struct session_events events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_closed,
        .message = on_message,
};

void fake_agent_attach(FakeAgent *a, Transport *t)
{
        static const char *const capabilities[] = {CAPABILITY_PMEM, NULL};
        struct session_hello hello = {
                .role = MOULT__ROLE__ROLE_AGENT,
                .software = "fake-agent 1",
                .boot_id = "11111111-2222-3333-4444-555555555555",
                .hostname = a->name,
                .join_token = a->script.join_token,
                .capabilities = a->script.knows_pmem ? capabilities : NULL,
        };

        drop_session(a);
        a->session = session_new(t, &hello, &events, a);
        session_start(a->session);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *conn, GObject *source, gpointer user)
{
        FakeAgent *a = user;
        int fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn)), F_DUPFD_CLOEXEC, 3);

        fake_agent_attach(a, transport_fd_new(fd, "virtio-serial", a->path, FALSE));
        return TRUE;
}

FakeAgent *fake_agent_new(const char *name, const char *path, GPtrArray *log)
{
        FakeAgent *a = g_new0(FakeAgent, 1);
        g_autoptr(GSocketAddress) address = path ? g_unix_socket_address_new(path) : NULL;
        g_autoptr(GError) error = NULL;

        a->name = g_strdup(name);
        a->path = g_strdup(path);
        a->log = log;
        a->bytes = g_byte_array_new();
        a->script.plan_items = 3;
        if (!path)
                return a;
        a->service = g_socket_service_new();
        if (!g_socket_listener_add_address(G_SOCKET_LISTENER(a->service), address, G_SOCKET_TYPE_STREAM,
                                           G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &error))
                g_error("fake agent: %s", error->message);
        g_signal_connect(a->service, "incoming", G_CALLBACK(on_incoming), a);
        return a;
}

void fake_agent_free(FakeAgent *a)
{
        if (!a)
                return;
        g_clear_handle_id(&a->step, g_source_remove);
        drop_session(a);
        if (a->service) {
                g_socket_service_stop(a->service);
                g_socket_listener_close(G_SOCKET_LISTENER(a->service));
                g_object_unref(a->service);
                g_unlink(a->path);
        }
        g_byte_array_unref(a->bytes);
        g_free(a->name);
        g_free(a->path);
        g_free(a);
}

struct fake_agent_script *fake_agent_script(FakeAgent *a)
{
        return &a->script;
}

Moult__TransactionPhase fake_agent_phase(const FakeAgent *a)
{
        return a->known ? a->phase : P(NONE);
}

Session *fake_agent_session(FakeAgent *a)
{
        return a->session && session_is_established(a->session) ? a->session : NULL;
}

guint fake_agent_offered(const FakeAgent *a, Moult__SourceKind ret[static 4])
{
        memcpy(ret, a->sources, sizeof a->sources);
        return a->n_sources;
}

guint fake_agent_commits(const FakeAgent *a)
{
        return a->commits;
}
