/* tests/support/fake_agent.c - an agent with a script instead of an engine. */
#include "tests/support/fake_agent.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/error.h"
#include "proto/limits.h"
#include "proto/loop_hub.h"
#include "proto/transport_fd.h"

#define P(x)             MOULT__TRANSACTION_PHASE__PHASE_##x
#define FIRST_GENERATION 7u

struct FakeAgent {
        AgentTalk talk;
        char *name, *path;
        GPtrArray *log;
        GSocket *listener;
        HubItem incoming;
        struct fake_agent_script script;
        guint step; /* source that goes on by itself */
        gboolean died;

        GArray *history; /* of struct past, oldest first */
        guint8 digest[DIGEST_SIZE];
        guint64 pack_size, fetched, fetched_ever, generation;
        Moult__SourceKind sources[4];
        guint n_sources, offers, commits;
        gboolean fetching;
        Moult__SourceKind wanted;
};

/* What a guest's disk keeps of a push. */
struct past {
        guint8 push_id[16], back_id[16]; /* of the operation that took it back */
        gboolean was_committed;
        struct agent_generation generation;
        Moult__ErrorCode error;
};

static void enter(FakeAgent *a, Moult__TransactionPhase phase);

static void note(FakeAgent *a, const char *what)
{
        g_ptr_array_add(a->log, g_strdup_printf("%s %s", a->name, what));
}

static void fill(gpointer user, Moult__TransactionState *s)
{
        const FakeAgent *a = user;

        s->text = message_bytes(a->talk.error ? "the script says so" : "");
        s->generation = a->generation;
        s->bytes_total = a->pack_size;
        s->bytes_done = MIN(a->fetched, a->pack_size);
        s->entries_total = 3;
        s->entries_change = 2;
        s->entries_equal = 1;
        s->entries_blocked = a->talk.phase == P(REFUSED) ? 1 : 0;
        s->source = a->n_sources ? a->sources[0] : MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        s->source_wanted = a->wanted;
        s->staging_us = 1234;
        if (a->script.switches_early || a->talk.phase == P(ACTIVE) || a->talk.phase == P(COMMITTED))
                s->switch_us = 56;
}

static struct past *past_at(const FakeAgent *a, guint i)
{
        return &g_array_index(a->history, struct past, i);
}

static struct past *newest_committed(const FakeAgent *a)
{
        for (guint i = a->history->len; i > 0; i--)
                if (past_at(a, i - 1)->generation.phase == P(COMMITTED))
                        return past_at(a, i - 1);
        return NULL;
}

static void begin(FakeAgent *a, const guint8 *push_id, gboolean rollback, gboolean dry_run)
{
        const struct past *target = rollback ? newest_committed(a) : NULL;

        agent_talk_begin(&a->talk, push_id, rollback, dry_run);
        a->generation = target ? target->generation.number : FIRST_GENERATION + a->history->len;
        a->fetched = 0;
}

static void begin_rollback(FakeAgent *a, const guint8 *push_id)
{
        begin(a, push_id, TRUE, FALSE);
        enter(a, P(ROLLING_BACK));
}

static void roll_back(gpointer user, const Moult__RollbackGeneration *r)
{
        begin_rollback(user, r->push_id.data);
}

void fake_agent_roll_back(FakeAgent *a)
{
        guint8 id[16];

        memset(id, 0xee, sizeof id);
        begin_rollback(a, id);
}

static void drop_session(FakeAgent *a)
{
        a->fetching = FALSE; /* nobody will answer that */
        agent_talk_close(&a->talk);
}

void fake_agent_cut(FakeAgent *a)
{
        drop_session(a);
}

static void fetch_more(FakeAgent *a);

static gboolean is_expected(const FakeAgent *a, const guint8 *bytes, gsize len)
{
        gsize size = 0;
        const guint8 *pack = a->script.expected ? g_bytes_get_data(a->script.expected, &size) : NULL;

        return !pack || (size == a->pack_size && a->fetched <= size && len <= size - a->fetched &&
                         memcmp(pack + a->fetched, bytes, len) == 0);
}

static void on_data(Session *s, const Message *reply, const GError *error, gpointer user)
{
        FakeAgent *a = user;

        a->fetching = FALSE;
        if (error) {
                note(a, "fetch failed");
                return; /* the session is gone; the next offer or stage begins again */
        }
        if (reply->data->offset != a->fetched)
                g_error("%s: data at %" G_GUINT64_FORMAT " instead of %" G_GUINT64_FORMAT, a->name,
                        (guint64)reply->data->offset, a->fetched);
        if (!is_expected(a, reply->data->bytes.data, reply->data->bytes.len))
                g_error("%s: fetched another pack", a->name);
        a->fetched += reply->data->bytes.len;
        a->fetched_ever += reply->data->bytes.len;
        a->fetching = !reply->data->last;
        if (!a->fetching)
                fetch_more(a);
}

static void fetch_more(FakeAgent *a)
{
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;

        if (a->fetched == a->pack_size) {
                note(a, "fetched");
                enter(a, P(STAGED));
                return;
        }
        fetch.manifest_digest = message_blob(a->digest, sizeof a->digest);
        fetch.offset = a->fetched;
        fetch.length = (guint32)MIN(LIMIT_FETCH_BYTES, a->pack_size - a->fetched);
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        a->fetching = TRUE;
        session_request(a->talk.session, &m, 0, on_data, a);
}

/* The phase that follows without a command; NONE: waits for one. */
static Moult__TransactionPhase next_phase(const FakeAgent *a)
{
        switch (a->talk.phase) {
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
        if (a->script.hold_at == a->talk.phase || a->wanted)
                return G_SOURCE_REMOVE;
        if (a->talk.phase == P(STAGING) && a->script.fetches && a->script.end != P(FAILED)) {
                if (!a->fetching && a->talk.session && session_is_established(a->talk.session))
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
                a->step = a->script.step_ms ? g_timeout_add(a->script.step_ms, on_step, a)
                                            : g_idle_add_full(G_PRIORITY_DEFAULT, on_step, a, NULL);
}

void fake_agent_go_on(FakeAgent *a)
{
        a->script.hold_at = P(NONE);
        if (a->talk.known)
                step_later(a);
}

static gboolean dies_now(FakeAgent *a)
{
        if (a->died || a->script.die_at == P(NONE) || a->script.die_at != a->talk.phase)
                return FALSE;
        a->died = TRUE;
        note(a, "dies");
        if (a->script.restarts && (a->talk.phase < P(COMMITTING) || a->talk.phase == P(REFUSED)))
                a->talk.known = FALSE;
        drop_session(a);
        return TRUE;
}

static Moult__ErrorCode error_of(const FakeAgent *a, Moult__TransactionPhase phase)
{
        if (phase == P(REFUSED) && a->script.end == P(REFUSED))
                return MOULT__ERROR_CODE__ERROR_REFUSED;
        if (phase == P(ROLLED_BACK) && !a->talk.rollback)
                return MOULT__ERROR_CODE__ERROR_HEALTH;
        if (phase == P(FAILED))
                return a->script.end == P(FAILED) ? MOULT__ERROR_CODE__ERROR_NO_SPACE
                                                  : MOULT__ERROR_CODE__ERROR_CANCELLED;
        return MOULT__ERROR_CODE__ERROR_UNSPECIFIED;
}

/* What ends in a phase that a history keeps. */
static void remember(FakeAgent *a)
{
        struct past *target = a->talk.rollback ? newest_committed(a) : NULL;
        struct past p = {.generation = {.number = a->generation, .phase = a->talk.phase},
                         .error = a->talk.error,
                         .was_committed = a->talk.phase == P(COMMITTED)};

        if (target) {
                target->generation.phase = P(ROLLED_BACK);
                memcpy(target->back_id, a->talk.push_id, sizeof target->back_id);
        }
        if (a->talk.rollback)
                return;
        memcpy(p.push_id, a->talk.push_id, sizeof p.push_id);
        memcpy(p.generation.digest, a->digest, sizeof a->digest);
        g_strlcpy(p.generation.release, a->script.release ? a->script.release : "demo 1.0",
                  sizeof p.generation.release);
        g_array_append_val(a->history, p);
}

static void enter(FakeAgent *a, Moult__TransactionPhase phase)
{
        a->talk.phase = phase;
        a->talk.error = error_of(a, phase);
        a->commits += phase == P(ACTIVE);
        if (phase == P(COMMITTED) || phase == P(ROLLED_BACK))
                remember(a);
        note(a, agent_phase_name(phase));
        if (dies_now(a)) {
                if (a->talk.known && phase != P(STAGING)) /* what runs in the guest needs no connection */
                        step_later(a);
                return;
        }
        agent_talk_tell(&a->talk);
        step_later(a);
}

/* One at a time, as the agent does it. */
static gboolean is_busy(gpointer user)
{
        FakeAgent *a = user;

        if (a->script.busy > 0) {
                a->script.busy--;
                return TRUE;
        }
        return a->talk.known && !(a->talk.dry_run && a->talk.phase == P(PLANNED)) &&
               (a->talk.phase <= P(ACTIVE) || a->talk.phase == P(ROLLING_BACK));
}

static void set_sources(FakeAgent *a, const Moult__SourceKind *sources, gsize n)
{
        a->n_sources = (guint)MIN(n, G_N_ELEMENTS(a->sources));
        memcpy(a->sources, sources, a->n_sources * sizeof a->sources[0]);
}

static void offer(gpointer user, const Moult__Offer *o)
{
        FakeAgent *a = user;

        begin(a, o->push_id.data, FALSE, o->dry_run);
        set_sources(a, o->sources, o->n_sources);
        memcpy(a->digest, o->manifest_digest.data, sizeof a->digest);
        a->pack_size = o->pack_size;
        a->offers++;
        note(a, "offered");
        if (a->script.locked_down && a->n_sources > 1 &&
            a->sources[0] == MOULT__SOURCE_KIND__SOURCE_IVSHMEM &&
            a->sources[1] == MOULT__SOURCE_KIND__SOURCE_PMEM)
                a->wanted = MOULT__SOURCE_KIND__SOURCE_PMEM;
        enter(a, P(PLANNING));
}

static void act(gpointer user, const Moult__PushCommand *c)
{
        FakeAgent *a = user;

        switch (c->action) {
        case MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED:
                set_sources(a, c->sources, c->n_sources);
                a->wanted = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
                note(a, "sources changed");
                step_later(a);
                break;
        case MOULT__PUSH_ACTION__PUSH_STAGE:
                enter(a, P(STAGING));
                break;
        case MOULT__PUSH_ACTION__PUSH_COMMIT:
                enter(a, P(COMMITTING));
                break;
        case MOULT__PUSH_ACTION__PUSH_CONFIRM:
                enter(a, P(COMMITTED));
                break;
        case MOULT__PUSH_ACTION__PUSH_ABORT:
                enter(a, a->talk.phase < P(COMMITTING) ? P(FAILED) : P(ROLLING_BACK));
                break;
        default:
                break;
        }
}

static gboolean past(gpointer user, const guint8 *push_id, Moult__TransactionState *s)
{
        const FakeAgent *a = user;

        for (guint i = 0; i < a->history->len; i++) {
                const struct past *p = past_at(a, i);

                if (memcmp(p->push_id, push_id, 16) != 0 && memcmp(p->back_id, push_id, 16) != 0)
                        continue;
                s->phase = p->generation.phase;
                s->was_committed = p->was_committed && s->phase == P(ROLLED_BACK) &&
                                   memcmp(p->push_id, push_id, sizeof p->push_id) == 0;
                s->error = p->error;
                s->generation = p->generation.number;
                return TRUE;
        }
        return FALSE;
}

static guint plan_items(gpointer user)
{
        return ((const FakeAgent *)user)->script.plan_items;
}

static gboolean generation(gpointer user, guint back, struct agent_generation *ret)
{
        FakeAgent *a = user;

        if (back >= a->history->len)
                return FALSE;
        if (back == 0)
                note(a, "tells its history");
        *ret = past_at(a, a->history->len - 1 - back)->generation;
        return TRUE;
}

static void stale(gpointer user, const Message *m)
{
        FakeAgent *a = user;
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
                agent_talk_refuse(&a->talk, m, MOULT_ERROR_UNSUPPORTED, "what?");
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
        session_reply(a->talk.session, m, &reply);
}

static const struct agent_talk_ops talk_ops = {
        .is_busy = is_busy,
        .offer = offer,
        .roll_back = roll_back,
        .act = act,
        .fill = fill,
        .past = past,
        .plan_items = plan_items,
        .generation = generation,
        .stale = stale,
};

static void on_message(Session *s, const Message *m, gpointer user)
{
        FakeAgent *a = user;

        if (a->script.deaf)
                return;
        agent_talk_message(&a->talk, m);
        /* Offered again after a cut: goes on where that was. */
        if (m->body_case == MOULT__MESSAGE__BODY_OFFER && a->talk.known && a->talk.phase == P(STAGING))
                step_later(a);
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
        g_clear_pointer(&a->talk.session, session_unref);
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
        a->talk.session = session_new(t, &hello, &events, a);
        session_start(a->talk.session);
}

static void on_incoming(gpointer user)
{
        FakeAgent *a = user;
        int fd = accept4(g_socket_get_fd(a->listener), NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) /* else it has gone again */
                fake_agent_attach(a, transport_fd_new(fd, "virtio-serial", a->path, FALSE));
}

/* In the loop's hub: a thousand GSocketServices would cost each turn more than all that the agents do. */
static void listen_at(FakeAgent *a, const char *path)
{
        g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
        g_autoptr(GError) error = NULL;

        a->listener =
                g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, &error);
        if (!a->listener || !g_socket_bind(a->listener, address, TRUE, &error) ||
            !g_socket_listen(a->listener, &error))
                g_error("fake agent: %s", error->message);
        g_socket_set_blocking(a->listener, FALSE);
        hub_item_add(&a->incoming, g_socket_get_fd(a->listener), on_incoming, a);
        hub_item_want(&a->incoming, G_IO_IN);
}

FakeAgent *fake_agent_new(const char *name, const char *path, GPtrArray *log)
{
        FakeAgent *a = g_new0(FakeAgent, 1);

        a->name = g_strdup(name);
        a->path = g_strdup(path);
        a->log = log;
        a->talk.ops = &talk_ops;
        a->talk.agent = a;
        a->history = g_array_new(FALSE, TRUE, sizeof(struct past));
        a->script.plan_items = 3;
        if (path)
                listen_at(a, path);
        return a;
}

void fake_agent_free(FakeAgent *a)
{
        if (!a)
                return;
        g_clear_handle_id(&a->step, g_source_remove);
        drop_session(a);
        hub_item_remove(&a->incoming);
        if (a->listener) {
                g_object_unref(a->listener); /* closes it */
                g_unlink(a->path);
        }
        g_array_unref(a->history);
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
        return a->talk.known ? a->talk.phase : P(NONE);
}

Session *fake_agent_session(FakeAgent *a)
{
        return a->talk.session && session_is_established(a->talk.session) ? a->talk.session : NULL;
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

guint fake_agent_offers(const FakeAgent *a)
{
        return a->offers;
}

guint64 fake_agent_fetched(const FakeAgent *a)
{
        return a->fetched_ever;
}

const char *fake_agent_release(const FakeAgent *a)
{
        const struct past *p = newest_committed(a);

        return p ? p->generation.release : NULL;
}
