/* host-service/push/push.c - drives one push to one VM. */
#include "host-service/push/push.h"

#include <string.h>

#include "common/events.h"
#include "common/fault.h"
#include "host-service/push/plan_fetch.h"
#include "host-service/push/push_closing.h"
#include "host-service/push/push_held.h"
#include "host-service/push/push_report.h"
#include "host-service/push/push_snapshot.h"
#include "host-service/push/push_sources.h"
#include "host-service/push/push_state.h"
#include "host-service/push/push_talk.h"
#include "host-service/push/push_window.h"
#include "host-service/push/vm_releases.h"

#define BEAT_MS           10000u /* after this long a silent guest is asked again */
#define AWAY_PATIENCE_MS  5000   /* for one whose VM has left its hypervisor */
#define PROGRESS_EVERY_US (G_USEC_PER_SEC / 2)
#define BUSY_RETRY_MS     1000u
#define STORE_RETRY_MS    1000u

struct Push {
        const struct push_context *x;
        PushRecord *r;
        ReleaseRecord *release; /* NULL: a rollback */
        push_ended_func ended;
        gpointer user;
        struct push_facts facts;
        PushTalk *talk;
        PlanFetch *plan;
        gboolean plan_counts; /* the state machine waits for it */
        gboolean plan_tried;
        PushWindow *window;
        PushClosing *closing;
        PushSnapshot *snapshot; /* from before it begins, or NULL */
        GSource *beat, *busy, *store;
        struct push_progress best; /* of this offer */
        gint64 progress_us;        /* when it became so, or the state changed */
        gboolean wants_place;      /* the guest is there, but the host's places are taken */
        gint64 heard_us;           /* last sign of this push's life, or change of state */
        gint64 spoke_us;           /* last word either way */
        gint64 stored_us;
        PushDo waiting_action; /* while the catalogue cannot be written */
        gboolean started, cancel_waiting;
        gboolean begun;      /* on record */
        PushState on_record; /* lags behind r->state while the catalogue cannot be written */
        struct push_held earlier;
        MoultError guest_error; /* what the guest said last of why */
        char *guest_text;
};

static void feed(Push *p, const struct push_input *in);

static void feed_kind(Push *p, PushInputKind kind)
{
        feed(p, &(struct push_input){.kind = kind});
}

static gint64 now_us(const Push *p)
{
        return host_monotonic_us(p->x->env);
}

/* --- sessions --- */

static Session *session_of(const Push *p, GuestSessionKind kind)
{
        return guests_session(p->x->guests, p->r->vm, kind);
}

/* A forced network transport forces its session too; else any will do, the port first. */
static Session *pick_session(const Push *p)
{
        PushTransport t = p->r->options.transport;
        Session *serial = t != PUSH_TRANSPORT_TLS ? session_of(p, GUEST_SESSION_SERIAL) : NULL;

        return serial || t == PUSH_TRANSPORT_SERIAL ? serial : session_of(p, GUEST_SESSION_TLS);
}

static void drop_session(Push *p)
{
        g_clear_pointer(&p->plan, plan_fetch_free);
        push_talk_set_session(p->talk, NULL);
}

/* --- the window --- */

static void note_guest_error(Push *p, const GError *error)
{
        g_free(p->guest_text);
        p->guest_text = g_strdup(error->message);
        p->guest_error = moult_error_code(error);
}

static void on_plugged(const GError *error, gpointer user)
{
        Push *p = user;

        if (error)
                note_guest_error(p, error);
        feed(p, &(struct push_input){.kind = error ? PUSH_INPUT_PLUG_FAILED : PUSH_INPUT_PLUGGED,
                                     .error = moult_error_code(error)});
}

/* The guest waits for the other kind of window: it hears when it is there, or that it will not be. */
static void on_climbed(const GError *error, gpointer user)
{
        Push *p = user;
        Moult__SourceKind sources[PUSH_SOURCES_MAX];

        push_talk_sources(p->talk, p->r, sources, push_sources_now(p->x->guests, p->r, p->window, sources));
}

static void on_closed(gpointer user)
{
        feed_kind(user, PUSH_INPUT_UNPLUGGED);
}

static void unplug(Push *p)
{
        drop_session(p);
        if (p->release)
                guests_withdraw_pack(p->x->guests, p->r->vm, p->r->digest);
        push_closing_free(p->closing);
        p->closing =
                push_closing_new(p->x->env, p->x->guests, p->window, p->r, pick_session(p), on_closed, p);
        push_closing_begin(p->closing);
}

/* --- the guest's word --- */

static void take_report(Push *p, const Moult__TransactionState *s)
{
        push_report_take(p->r, s);
        g_free(p->guest_text);
        p->guest_text = s->text.len ? message_text(s->text) : NULL;
        p->guest_error = (MoultError)s->error;
        p->facts.switched = s->switch_us > 0;
        p->facts.has_plan = s->entries_blocked > 0;
        if (push_progress_note(&p->best, s))
                p->progress_us = now_us(p);
}

static void store_progress(Push *p)
{
        g_autoptr(GError) error = NULL;

        if (p->store || now_us(p) - p->stored_us < PROGRESS_EVERY_US)
                return;
        p->stored_us = now_us(p);
        if (!catalogue_push_update(p->x->catalogue, p->r, &error))
                event_log(EVENT_WARNING, "push-progress-lost", error->message, "vm", p->r->vm, NULL);
}

void push_state_received(Push *p, const Moult__TransactionState *s)
{
        push_held_received(&p->earlier, p->x->catalogue, s);
        if (s->push_id.len != sizeof(p->r->push_id) ||
            memcmp(s->push_id.data, p->r->push_id, s->push_id.len) != 0)
                return;
        p->heard_us = p->spoke_us = now_us(p);
        p->r->held = !push_phase_is_over(s->phase);
        if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_NONE && p->r->state != PUSH_STATE_ABORT)
                p->facts.forgotten++;
        if (p->r->state == PUSH_STATE_CONFIRM && push_phase_is_before_active(s->phase))
                p->facts.complaints++;
        if (s->phase != MOULT__TRANSACTION_PHASE__PHASE_NONE && p->r->state < PUSH_STATE_UNPLUG) {
                take_report(p, s);
                store_progress(p);
        }
        if (s->source_wanted == MOULT__SOURCE_KIND__SOURCE_PMEM && p->r->state >= PUSH_STATE_OFFER &&
            p->r->state <= PUSH_STATE_STAGE)
                push_window_wanted(p->window, on_climbed, p);
        feed(p, &(struct push_input){.kind = PUSH_INPUT_PHASE,
                                     .phase = s->phase,
                                     .error = (MoultError)s->error,
                                     .was_committed = s->was_committed});
}

static void on_answer(const Moult__TransactionState *state, const GError *error, gpointer user)
{
        Push *p = user;

        if (state) {
                push_state_received(p, state);
                return;
        }
        p->heard_us = p->spoke_us = now_us(p);
        if (p->earlier.asked)
                return; /* about another push: ours is asked for again soon */
        p->facts.complaints++;
        if (p->r->options.rollback && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY))
                p->facts.forgotten = 0; /* it was not begun, so it could not be known */
        note_guest_error(p, error);
        feed(p, &(struct push_input){.kind = PUSH_INPUT_ERROR, .error = moult_error_code(error)});
}

static void on_plan(const GError *error, gpointer user)
{
        Push *p = user;

        g_clear_pointer(&p->plan, plan_fetch_free);
        if (error)
                event_log(EVENT_NOTICE, "push-plan-incomplete", "the guest's plan could not be kept", "vm",
                          p->r->vm, "why", error->message, NULL);
        if (p->plan_counts)
                feed_kind(p, PUSH_INPUT_PLAN_STORED);
}

static void fetch_plan(Push *p, gboolean counts)
{
        Session *s = push_talk_session(p->talk);

        p->plan_counts = counts;
        p->plan_tried = TRUE;
        if (!p->plan && s && session_is_established(s))
                p->plan = plan_fetch_new(p->x->catalogue, p->x->guests, s, p->r, on_plan, p);
}

/* --- the clock --- */

static const char *away(const Push *p)
{
        return push_talk_session(p->talk) ? NULL : guests_away(p->x->guests, p->r->vm);
}

/* After the commit was sent the guest is given the time in which its own dead-man timer decides. */
static gint64 patience_us(const Push *p)
{
        gint64 ms = p->x->patience_ms;

        /* Its VM is not here any more: its agent may still come over the network, which does not take long.
         */
        if (p->r->state <= PUSH_STATE_STAGE && away(p))
                ms = MIN(ms, AWAY_PATIENCE_MS);
        if (p->r->state == PUSH_STATE_COMMIT || p->r->state == PUSH_STATE_CONFIRM)
                ms += p->r->options.confirm_timeout_ms;
        return ms * 1000;
}

static gboolean is_stalled(const Push *p, gint64 now)
{
        return p->r->state >= PUSH_STATE_OFFER && p->r->state <= PUSH_STATE_ABORT &&
               now - p->progress_us >= push_stall_us(p->r, p->x->stall_ms);
}

static gboolean on_beat(gpointer user)
{
        Push *p = user;
        gint64 now = now_us(p);

        if (p->r->state < PUSH_STATE_CONNECT || p->r->state > PUSH_STATE_ABORT)
                return G_SOURCE_CONTINUE;
        if (p->snapshot && !push_snapshot_is_taken(p->snapshot))
                p->heard_us = now; /* a guest that is frozen is silent */
        if (now - p->heard_us >= patience_us(p)) {
                p->heard_us = now;
                feed_kind(p, PUSH_INPUT_PATIENCE_OVER);
        } else if (is_stalled(p, now)) {
                p->progress_us = now;
                feed_kind(p, PUSH_INPUT_STALLED);
        } else if (push_talk_session(p->talk) && now - p->spoke_us >= (gint64)BEAT_MS * 1000) {
                feed_kind(p, PUSH_INPUT_BEAT);
        }
        return G_SOURCE_CONTINUE; /* of no effect if the push is gone: its sources are destroyed */
}

static gboolean on_busy_over(gpointer user)
{
        Push *p = user;

        host_timer_clear(&p->busy);
        feed_kind(p, PUSH_INPUT_BEAT);
        return G_SOURCE_REMOVE;
}

static void start_beat(Push *p)
{
        guint ms = CLAMP(MIN(p->x->patience_ms, p->x->stall_ms) / 4, 10, BEAT_MS);

        if (!p->beat)
                p->beat = host_timer_add(p->x->env, ms, on_beat, p);
}

/* It is we who keep such a guest waiting, so its silence is not counted. Hundreds may wait, and each turn of
 * the loop looks at each timer: they have none. */
static void want_place(Push *p, gboolean wants)
{
        if (p->wants_place == wants)
                return;
        p->wants_place = wants;
        p->heard_us = now_us(p);
        if (wants)
                host_timer_clear(&p->beat);
        else
                start_beat(p);
}

/* --- doing what the machine says --- */

static void await_session(Push *p);

static void on_snapshot(const GError *error, gpointer user)
{
        Push *p = user;

        if (!error) {
                await_session(p);
                return;
        }
        note_guest_error(p, error);
        feed(p, &(struct push_input){.kind = PUSH_INPUT_NO_SNAPSHOT, .error = moult_error_code(error)});
}

static gboolean has_snapshot(Push *p)
{
        if (!push_snapshot_is_due(p->r))
                return TRUE;
        if (!p->snapshot)
                p->snapshot = push_snapshot_new(p->x->env, p->x->catalogue, p->x->jobs, p->r, on_snapshot, p);
        return push_snapshot_is_taken(p->snapshot);
}

/* One that has had its snapshot taken has its place already. */
static gboolean may_go_on(Push *p)
{
        return p->snapshot ? p->x->may_begin(p, p->x->user) : p->x->has_place(p, p->x->user);
}

/* A push that only waits for its guest takes no place; one that begins to talk does. */
static void greet(Push *p)
{
        want_place(p, p->r->state == PUSH_STATE_CONNECT && !may_go_on(p));
        if (!p->wants_place && has_snapshot(p))
                feed_kind(p, PUSH_INPUT_SESSION);
}

static void await_session(Push *p)
{
        Session *s = pick_session(p);

        push_talk_set_session(p->talk, s);
        if (s)
                greet(p);
        else
                want_place(p, FALSE);
}

/* A command may be due before any session event came (after a restart). */
static void find_session(Push *p)
{
        if (!push_talk_session(p->talk))
                push_talk_set_session(p->talk, pick_session(p));
}

static void offer(Push *p)
{
        Moult__SourceKind sources[PUSH_SOURCES_MAX];
        gsize n = push_sources_now(p->x->guests, p->r, p->window, sources);

        if (!push_talk_session(p->talk))
                return;
        p->r->held = TRUE;
        push_talk_offer(p->talk, p->r, p->release, sources, n);
}

static void act(Push *p, PushDo action)
{
        if (action != PUSH_DO_NOTHING)
                p->spoke_us = now_us(p);
        if (action >= PUSH_DO_OFFER && action <= PUSH_DO_ROLLBACK) {
                p->earlier.asked = FALSE;
                find_session(p);
        }
        switch (action) {
        case PUSH_DO_AWAIT_SESSION:
                await_session(p);
                break;
        case PUSH_DO_PLUG:
                push_window_plug(p->window, p->release, push_sources_pmem_is_known(pick_session(p)),
                                 on_plugged, p);
                break;
        case PUSH_DO_OFFER:
                offer(p);
                break;
        case PUSH_DO_OFFER_LATER:
                push_held_ask(&p->earlier, p->x->catalogue, p->talk, p->r->vm);
                G_GNUC_FALLTHROUGH;
        case PUSH_DO_QUERY_LATER:
                if (!p->busy)
                        p->busy = host_timer_add(p->x->env, BUSY_RETRY_MS, on_busy_over, p);
                break;
        case PUSH_DO_QUERY:
                push_talk_command(p->talk, p->r, MOULT__PUSH_ACTION__PUSH_QUERY);
                break;
        case PUSH_DO_FETCH_PLAN:
                fetch_plan(p, TRUE);
                break;
        case PUSH_DO_STAGE:
                push_talk_command(p->talk, p->r, MOULT__PUSH_ACTION__PUSH_STAGE);
                if (!p->plan_tried)
                        fetch_plan(p, FALSE);
                break;
        case PUSH_DO_COMMIT:
                push_talk_command(p->talk, p->r, MOULT__PUSH_ACTION__PUSH_COMMIT);
                /* An instant one is what the guest is served out of from now on, until all is copied. */
                if (!p->r->options.instant)
                        push_window_drop_early(p->window);
                break;
        case PUSH_DO_CONFIRM:
                push_talk_command(p->talk, p->r, MOULT__PUSH_ACTION__PUSH_CONFIRM);
                if (p->r->options.instant)
                        push_window_drop_early(p->window);
                break;
        case PUSH_DO_ABORT:
                push_talk_command(p->talk, p->r, MOULT__PUSH_ACTION__PUSH_ABORT);
                break;
        case PUSH_DO_ROLLBACK:
                push_talk_rollback(p->talk, p->r);
                break;
        case PUSH_DO_UNPLUG:
                unplug(p);
                break;
        case PUSH_DO_END:
                p->ended(p, p->user); /* frees us */
                break;
        case PUSH_DO_NOTHING:
        case PUSH_DO_MAX:
                break;
        }
}

/* In the other states a cancel changes nothing: they have to go on. */
static gboolean may_cancel(const Push *p)
{
        return p->r->state <= (p->r->options.rollback ? PUSH_STATE_STAGE : PUSH_STATE_COMMIT);
}

static gboolean is_begun(const PushRecord *r)
{
        return r->begun || r->state > PUSH_STATE_CONNECT;
}

/* Only what is on record gives a place to somebody else. */
static gboolean store(Push *p, GError **error)
{
        gboolean took_place = push_takes_place(p);

        if (!push_report_store(p->x->catalogue, p->r, error))
                return FALSE;
        p->begun = is_begun(p->r);
        p->on_record = p->r->state;
        p->stored_us = now_us(p);
        if (took_place && !push_takes_place(p))
                p->x->place_left(p->x->user);
        return TRUE;
}

/* It was about to begin, and that could not be recorded: as if it had still been waiting. */
static void cancel_unbegun(Push *p)
{
        host_timer_clear(&p->store);
        p->cancel_waiting = FALSE;
        p->r->state = p->on_record;
        p->r->begun = FALSE;
        feed_kind(p, PUSH_INPUT_CANCEL);
}

static gboolean on_store_again(gpointer user)
{
        Push *p = user;
        gboolean cancel;

        if (p->cancel_waiting && !p->begun) {
                cancel_unbegun(p);
                return G_SOURCE_REMOVE;
        }
        if (!p->begun && !p->x->may_begin(p, p->x->user))
                return G_SOURCE_CONTINUE;
        if (!store(p, NULL))
                return G_SOURCE_CONTINUE;
        host_timer_clear(&p->store);
        cancel = p->cancel_waiting && may_cancel(p);
        p->cancel_waiting = FALSE;
        if (cancel)
                feed_kind(p, PUSH_INPUT_CANCEL);
        else
                act(p, p->waiting_action);
        return G_SOURCE_REMOVE;
}

static void decide_outcome(Push *p, const struct push_step *s)
{
        PushRecord *r = p->r;

        r->outcome = s->outcome;
        g_clear_pointer(&r->text, g_free);
        r->error = MOULT_ERROR_UNSPECIFIED;
        if (s->outcome == PUSH_STATE_DONE) {
                r->text = g_strdup(s->text); /* a note, without an error */
                return;
        }
        r->error = s->error != MOULT_ERROR_UNSPECIFIED ? s->error : p->guest_error;
        r->text = g_strdup(s->text ? s->text : p->guest_text);
        if (s->error == MOULT_ERROR_TIMEOUT && r->text && away(p)) {
                g_autofree char *text = g_steal_pointer(&r->text);

                r->text = g_strdup_printf("%s. Its %s", text, away(p));
        }
}

static void feed(Push *p, const struct push_input *in)
{
        g_autoptr(GError) error = NULL;
        struct push_step s;

        if (p->store) { /* the row cannot be written: nothing is done before it is; the guest is asked again
                           then */
                p->cancel_waiting |= in->kind == PUSH_INPUT_CANCEL;
                return;
        }
        p->facts.outcome = p->r->outcome;
        p->facts.held = p->r->held;
        p->facts.connected = pick_session(p) != NULL;
        p->facts.asked |= push_input_asks(in->kind);
        s = push_transition(p->r->state, &p->facts, in);
        if (push_do_is_command(s.action))
                p->facts.asked = FALSE;
        if (s.next == p->r->state && s.outcome == p->r->outcome) {
                act(p, s.action);
                return;
        }
        if (s.outcome != p->r->outcome)
                decide_outcome(p, &s);
        if (s.next != p->r->state)
                p->progress_us = now_us(p);
        if (s.next == PUSH_STATE_OFFER || s.next == PUSH_STATE_PLUG)
                p->best = (struct push_progress){0};
        p->r->state = s.next;
        p->r->held |= s.next == PUSH_STATE_OFFER;
        p->r->begun |= push_takes_place(p);
        p->facts.steps++;
        p->heard_us = now_us(p);
        if (s.next == PUSH_STATE_PLUG)
                push_window_mark(p->window);
        fault_point("push-store");
        if (!store(p, &error)) {
                event_log(EVENT_ERROR, "push-store-failed",
                          "the catalogue cannot be written; the push waits, the guest is unaffected. Look at "
                          "the disk "
                          "of the state directory",
                          "vm", p->r->vm, "why", error->message, NULL);
                p->waiting_action = s.action;
                p->store = host_timer_add(p->x->env, STORE_RETRY_MS, on_store_again, p);
                return;
        }
        fault_point("push-stored");
        act(p, s.action);
}

/* --- from outside --- */

Push *push_new(const struct push_context *context, PushRecord *record, push_ended_func ended, gpointer user)
{
        Push *p = g_new0(Push, 1);

        p->x = context;
        p->r = record;
        p->begun = is_begun(record);
        p->on_record = record->state;
        p->ended = ended;
        p->user = user;
        p->talk = push_talk_new(on_answer, p);
        p->window = push_window_new(context->env, context->guests, record);
        return p;
}

void push_free(Push *p)
{
        if (!p)
                return;
        host_timer_clear(&p->beat);
        host_timer_clear(&p->busy);
        host_timer_clear(&p->store);
        plan_fetch_free(p->plan);
        push_talk_free(p->talk);
        push_closing_free(p->closing);
        push_snapshot_free(p->snapshot);
        push_window_free(p->window);
        push_record_free(p->r);
        release_record_free(p->release);
        g_free(p->guest_text);
        g_free(p);
}

const PushRecord *push_record(const Push *p)
{
        return p->r;
}

static void set_facts(Push *p)
{
        const struct push_options *o = &p->r->options;
        gboolean has_qmp = guests_hypervisor(p->x->guests, p->r->vm) != NULL;

        p->facts.dry_run = o->dry_run;
        p->facts.rollback = o->rollback;
        p->facts.switched = p->r->switch_us > 0;
        p->facts.need_window = !o->rollback && push_transport_is_window(o->transport);
        /* A dry run reads the list only: not worth a hot-plug. */
        p->facts.want_window = p->facts.need_window || (!o->rollback && !o->dry_run && has_qmp &&
                                                        o->transport == PUSH_TRANSPORT_AUTO);
}

/* Fails the push before anything was said to the guest. */
static gboolean find_release(Push *p, GError **error)
{
        if (p->r->options.rollback || p->r->state >= PUSH_STATE_UNPLUG)
                return TRUE;
        p->release = catalogue_release_by_digest(p->x->catalogue, p->r->digest, error);
        if (!p->release)
                return FALSE;
        if (!push_transport_is_window(p->r->options.transport))
                guests_offer_pack(p->x->guests, p->r->vm, p->r->digest, p->release->file, p->release->size);
        return TRUE;
}

void push_start(Push *p)
{
        gboolean cancel = p->cancel_waiting && may_cancel(p);
        g_autoptr(GError) error = NULL;

        p->started = TRUE;
        p->cancel_waiting = FALSE;
        set_facts(p);
        p->heard_us = p->spoke_us = p->progress_us = now_us(p);
        start_beat(p);
        if (!find_release(p, &error)) {
                /* The release cannot go while a push uses it, so this is a damaged catalogue. */
                g_prefix_error(&error, "the release of this push cannot be read: ");
                p->facts.need_window = p->facts.want_window = TRUE;
                p->r->state = PUSH_STATE_PLUG;
                on_plugged(error, p);
                return;
        }
        feed_kind(p, cancel ? PUSH_INPUT_CANCEL : PUSH_INPUT_START);
}

void push_cancel(Push *p)
{
        if (p->started || p->r->state == PUSH_STATE_QUEUED)
                feed_kind(p, PUSH_INPUT_CANCEL);
        else
                p->cancel_waiting = TRUE; /* taken up again after a restart, but not yet its turn */
}

void push_session_changed(Push *p, GuestSessionKind kind)
{
        Session *now = pick_session(p);
        Session *before = push_talk_session(p->talk);

        if (p->closing) {
                push_closing_session_changed(p->closing);
                return;
        }
        if (!p->started || p->r->state < PUSH_STATE_CONNECT || p->r->state > PUSH_STATE_ABORT)
                return;
        if (before && session_is_established(before) && session_of(p, kind) != before)
                return; /* the other one */
        drop_session(p);
        push_talk_set_session(p->talk, now);
        if (now) {
                greet(p); /* what was asked before, here or elsewhere, is asked again */
                return;
        }
        want_place(p, FALSE);
        if (before)
                feed_kind(p, PUSH_INPUT_SESSION_LOST);
}

static gboolean is_in_place(PushState s)
{
        return s >= PUSH_STATE_PLUG && s <= PUSH_STATE_CONFIRM;
}

gboolean push_takes_place(const Push *p)
{
        return p->started && (is_in_place(p->r->state) || is_in_place(p->on_record) ||
                              (p->snapshot && p->r->state == PUSH_STATE_CONNECT));
}

guint64 push_bytes(const Push *p)
{
        return p->release && !p->r->options.dry_run ? p->release->size : 0;
}

gboolean push_has_begun(const Push *p)
{
        return p->begun;
}

gboolean push_is_under_way(const Push *p)
{
        return p->begun || p->snapshot;
}

gboolean push_wants_place(const Push *p)
{
        return p->wants_place;
}

void push_take_place(Push *p)
{
        await_session(p);
}

gboolean push_may_map(const Push *p)
{
        return p->r->plug != NULL;
}

gboolean push_saw_unplugged(const Push *p)
{
        return push_window_is_gone(p->window);
}
