/* guest-agent/freeze.c - the one freeze at a time: what is asked, what is told, and what an agent that starts
 * finds. */
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/freeze_private.h"

/* ---- telling ---- */

static void send_to(Peer *p, gpointer user)
{
        Message m = MOULT__MESSAGE__INIT;

        if (!peer_follows_freeze(p))
                return;
        m.body_case = MOULT__MESSAGE__BODY_FREEZE_STATE;
        m.freeze_state = user;
        session_send(peer_session(p), &m);
}

static void send_all(Moult__FreezeState *message, gpointer user)
{
        peers_foreach(((Freezes *)user)->peers, send_to, message);
}

void freeze_notify(Freezes *f)
{
        freeze_state_tell(f->now, (ProtobufCBinaryData){0}, send_all, f);
}

static void reply_with(Moult__FreezeState *message, gpointer user)
{
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = MOULT__MESSAGE__BODY_FREEZE_STATE;
        m.freeze_state = message;
        ticket_reply(user, &m);
}

void freeze_answer_renewals(Freezes *f)
{
        struct ticket *ticket;

        while ((ticket = g_queue_pop_head(&f->renewals)))
                freeze_state_tell(f->now, (ProtobufCBinaryData){0}, reply_with, ticket);
}

/* Not while something is frozen: for who comes after us. */
void freeze_save(Freezes *f)
{
        g_autoptr(GError) error = NULL;

        if (!freeze_state_save(f->now, f->directory, &error))
                event_log(EVENT_WARNING, "agent-freeze-state", error->message, NULL);
}

void freeze_enter(Freezes *f, Moult__FreezePhase phase)
{
        f->now->phase = phase;
        freeze_notify(f);
}

void freeze_set_frozen(Freezes *f, gboolean frozen)
{
        f->frozen = frozen;
        event_hold(frozen);
}

static void log_end(const Freezes *f)
{
        const struct freeze_state *s = f->now;
        g_autofree char *us = g_strdup_printf("%" G_GUINT64_FORMAT, s->frozen_us),
                        *mounts = g_strdup_printf("%u", s->mounts);

        if (s->error != MOULT_ERROR_UNSPECIFIED)
                event_log(EVENT_WARNING, "agent-freeze-failed", s->text ? s->text : "", "error",
                          moult_error_name(s->error), "held", s->held ? "yes" : "no", "hook",
                          s->hook ? s->hook : "", "frozen-us", us, NULL);
        else
                event_log(EVENT_INFO, "agent-thawed", "file systems were frozen, and are thawed", "mounts",
                          mounts, "frozen-us", us, NULL);
}

void freeze_finish(Freezes *f)
{
        f->running = FALSE;
        f->now->lease_ends_us = 0;
        freeze_enter(f, P(THAWED));
        freeze_save(f);
        log_end(f);
}

/* ---- requests ---- */

static void begin(Freezes *f, const Moult__Freeze *request)
{
        freeze_state_free(f->now);
        f->now = freeze_state_new(request->freeze_id.data);
        f->now->no_hooks = request->no_hooks;
        f->now->phase = P(HOOKS);
        f->lease_ms = request->lease_ms;
        f->running = TRUE;
        g_atomic_int_set(&f->thaw_asked, FALSE);
        event_log(EVENT_INFO, "agent-freeze", "the host asks to bring file systems to rest", NULL);
        freeze_save(f);
        freeze_go(f);
}

static void refuse(struct ticket *ticket, MoultError code, const char *text)
{
        g_autoptr(GError) error = g_error_new_literal(MOULT_ERROR, (int)code, text);

        ticket_reply_error(ticket, error);
}

static gboolean is_now(const Freezes *f, ProtobufCBinaryData id)
{
        return f->now &&
               (id.len == 0 || (id.len == FREEZE_ID_SIZE && memcmp(id.data, f->now->id, id.len) == 0));
}

static void ask_thaw(Freezes *f)
{
        g_atomic_int_set(&f->thaw_asked, TRUE);
        if (freeze_order(f, FREEZE_ORDER_THAW, 0))
                f->now->phase = P(THAWING);
}

static const char *begin_refusal(const Freezes *f)
{
        if (f->running)
                return "another freeze is not over yet: thaw it, or ask again";
        return f->events.busy(f->user);
}

void freezes_request(Freezes *f, struct ticket *ticket, const Moult__Freeze *q)
{
        gboolean known = is_now(f, q->freeze_id);
        const char *why = NULL;

        peer_set_follows_freeze(ticket->peer, TRUE);
        switch (q->action) {
        case MOULT__FREEZE_ACTION__FREEZE_BEGIN:
                why = known ? NULL : begin_refusal(f);
                if (!known && !why)
                        begin(f, q);
                break;
        case MOULT__FREEZE_ACTION__FREEZE_RENEW:
                if (known && f->now->phase == P(FROZEN) && freeze_order(f, FREEZE_ORDER_RENEW, q->lease_ms)) {
                        g_queue_push_tail(&f->renewals, ticket);
                        return;
                }
                break;
        case MOULT__FREEZE_ACTION__FREEZE_THAW:
                if (known && f->running)
                        ask_thaw(f);
                break;
        default:
                break;
        }
        if (why)
                refuse(ticket, MOULT_ERROR_BUSY, why);
        else
                freeze_state_tell(is_now(f, q->freeze_id) ? f->now : NULL, q->freeze_id, reply_with, ticket);
}

const char *freezes_hold_back(const Freezes *f)
{
        return f->running ? "a snapshot is being taken: file systems are frozen, or about to be; ask again"
                          : NULL;
}

gboolean freezes_is_frozen(const Freezes *f)
{
        return f->frozen;
}

/* ---- life ---- */

/* A holder that an earlier agent has started. */
static gboolean find_holder(Freezes *f)
{
        struct freeze_report r;
        int fd = freezer_connect(f->directory, NULL);

        if (fd < 0 || !freezer_ask(fd, FREEZE_ORDER_TELL, FREEZE_SYNCING, &r, NULL)) {
                if (fd >= 0)
                        close(fd);
                return FALSE;
        }
        if (!f->now || memcmp(f->now->id, r.id, FREEZE_ID_SIZE) != 0) {
                freeze_state_free(f->now);
                f->now = freeze_state_new(r.id);
        }
        f->running = TRUE;
        freeze_set_frozen(f, TRUE);
        freeze_take_link(f, fd);
        freeze_take_report(f, &r);
        return TRUE;
}

/* No holder, but what it has left: its end, or what it was killed in. */
static void find_record(Freezes *f)
{
        g_autoptr(FreezeRecord) record = freeze_record_load(f->directory, NULL);
        gboolean frozen = record && freeze_record_is_left(record);

        if (record && frozen && (!f->now || memcmp(f->now->id, record->report.id, FREEZE_ID_SIZE) != 0)) {
                freeze_state_free(f->now);
                f->now = freeze_state_new(record->report.id);
        }
        if (!f->now || (f->now->phase == P(THAWED) && !frozen))
                return;
        f->running = TRUE;
        if (frozen) {
                freeze_set_frozen(f, TRUE);
                f->now->phase = P(THAWING);
                freeze_rescue(f);
                return;
        }
        if (record && record->report.phase == FREEZE_THAWED &&
            memcmp(f->now->id, record->report.id, FREEZE_ID_SIZE) == 0)
                freeze_state_take(f->now, &record->report, record);
        else if (f->now->error == MOULT_ERROR_UNSPECIFIED)
                freeze_state_fail(f->now,
                                  g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED,
                                                      "the agent was ended before everything was frozen"),
                                  NULL, NULL);
        freeze_go_back(f);
}

Freezes *freezes_new(const struct agent_config *config, Peers *peers, const struct freezes_events *events,
                     gpointer user)
{
        Freezes *f = g_new0(Freezes, 1);

        f->config = config;
        f->peers = peers;
        f->events = *events;
        f->user = user;
        f->fd = -1;
        f->directory = g_path_get_dirname(config->socket);
        f->context = g_main_context_ref_thread_default();
        f->worker = worker_new(1);
        g_queue_init(&f->renewals);
        f->now = freeze_state_load(f->directory);
        if (!find_holder(f))
                find_record(f);
        return f;
}

gboolean freezes_is_working(const Freezes *f)
{
        return worker_pending(f->worker) > 0;
}

void freezes_free(Freezes *f)
{
        if (!f)
                return;
        g_atomic_int_set(&f->thaw_asked, TRUE);
        worker_free(f->worker);
        g_clear_handle_id(&f->again, g_source_remove);
        freeze_drop_link(f);
        g_queue_clear_full(&f->renewals, (GDestroyNotify)ticket_free);
        if (!f->frozen) /* else the log cannot be written, and is lost with us */
                event_hold(FALSE);
        freeze_state_free(f->now);
        g_main_context_unref(f->context);
        g_free(f->failed_before);
        g_free(f->directory);
        g_free(f);
}
