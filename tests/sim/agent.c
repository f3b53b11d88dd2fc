/* tests/sim/agent.c - a simulated moult-agent: the push, its steps and timers. */
#include "tests/sim/agent_private.h"

#include <string.h>

#define MS                 G_GINT64_CONSTANT(1000)
#define IDLE_US            (600 * G_USEC_PER_SEC)
#define CONFIRM_DEFAULT_MS 60000u

static gboolean is_final(Moult__TransactionPhase phase)
{
        return phase == P(COMMITTED) || phase >= P(ROLLED_BACK);
}

gboolean agent_is_idle(const Agent *a)
{
        return !a->talk.known || is_final(a->talk.phase) || (a->talk.dry_run && a->talk.phase == P(PLANNED));
}

static void next_step(gpointer user);
static void on_deadman(gpointer user);

/* What the phase asks for. The timers of an agent and its steps have different users, so that one can be
 * forgotten without the other. */
static void arm(Agent *a)
{
        world_forget(a->guest->w, &a->timer);
        if (a->talk.phase == P(ACTIVE))
                world_at(a->guest->w, (gint64)a->guest->disk->journal.confirm_ms * MS, on_deadman, &a->timer);
        else if (a->talk.phase == P(PLANNED) || a->talk.phase == P(STAGED))
                world_at(a->guest->w, IDLE_US, on_deadman, &a->timer);
}

static void step_in(Agent *a, guint low_ms, guint high_ms)
{
        gint64 us = (gint64)world_between(a->guest->w, low_ms * 1000, high_ms * 1000) * a->guest->slowness;

        world_forget(a->guest->w, a);
        a->working = TRUE;
        world_at(a->guest->w, us, next_step, a);
}

void agent_enter(Agent *a, Moult__TransactionPhase phase, Moult__ErrorCode error)
{
        a->talk.phase = phase;
        a->talk.error = error;
        world_trace(a->guest->w, "%s agent %02x%02x %s", a->guest->vm, a->talk.push_id[0], a->talk.push_id[1],
                    agent_phase_name(phase));
        arm(a);
        agent_talk_tell(&a->talk);
}

/* --- the way back --- */

static void go_back(Agent *a, Moult__ErrorCode error)
{
        GuestDisk *d = a->guest->disk;

        d->journal.phase = P(ROLLING_BACK);
        d->journal.error = error;
        a->aborting = FALSE;
        agent_enter(a, P(ROLLING_BACK), error);
        step_in(a, 1, 10);
}

static void step_back(Agent *a)
{
        GuestDisk *d = a->guest->disk;
        struct journal *j = &d->journal;
        Moult__ErrorCode error = j->error;

        if (j->done > 0) {
                j->done--;
                d->files[j->done] = j->old[j->done];
                step_in(a, 1, 10);
                return;
        }
        a->switched = TRUE;
        guest_disk_end(d, P(ROLLED_BACK), error);
        agent_enter(a, P(ROLLED_BACK), error);
}

static void on_deadman(gpointer user)
{
        Agent *a = G_STRUCT_MEMBER_P(user, -(glong)G_STRUCT_OFFSET(Agent, timer));

        if (a->talk.phase == P(ACTIVE)) {
                world_trace(a->guest->w, "%s dead man", a->guest->vm);
                go_back(a, MOULT__ERROR_CODE__ERROR_TIMEOUT);
        } else {
                agent_enter(a, P(FAILED), MOULT__ERROR_CODE__ERROR_TIMEOUT);
        }
}

/* --- the way forward --- */

static void step_commit(Agent *a)
{
        GuestDisk *d = a->guest->disk;
        struct journal *j = &d->journal;

        if (j->done < GUEST_FILES) {
                d->files[j->done++] = j->release;
                step_in(a, 1, 20);
                return;
        }
        a->switched = TRUE;
        if (a->aborting) {
                go_back(a, MOULT__ERROR_CODE__ERROR_CANCELLED);
        } else if (!a->judged) { /* hooks, restarts, health */
                a->judged = TRUE;
                a->healthy = !world_chance(a->guest->w, a->guest->unhealthy);
                step_in(a, 10, 1500);
        } else if (!a->healthy) {
                go_back(a, MOULT__ERROR_CODE__ERROR_HEALTH);
        } else {
                j->phase = P(ACTIVE);
                guest_disk_activated(d);
                guest_disk_check(d);
                agent_enter(a, P(ACTIVE), 0);
        }
}

static void step_confirm(Agent *a)
{
        a->confirming = FALSE;
        guest_disk_end(a->guest->disk, P(COMMITTED), 0);
        agent_enter(a, P(COMMITTED), 0);
}

static void step_plan(Agent *a)
{
        if (a->wanted)
                return; /* goes on when it hears of the other window */
        if (world_chance(a->guest->w, a->guest->refuses))
                agent_enter(a, P(REFUSED), MOULT__ERROR_CODE__ERROR_REFUSED);
        else
                agent_enter(a, P(PLANNED), 0);
}

static void next_step(gpointer user)
{
        Agent *a = user;

        a->working = FALSE;
        switch (a->talk.phase) {
        case P(PLANNING):
                step_plan(a);
                break;
        case P(STAGING):
                agent_stage_more(a);
                break;
        case P(COMMITTING):
                step_commit(a);
                break;
        case P(ACTIVE):
                if (a->confirming)
                        step_confirm(a);
                break;
        case P(ROLLING_BACK):
                step_back(a);
                break;
        default:
                break;
        }
}

void agent_stage_later(Agent *a)
{
        step_in(a, 1, 300);
}

void agent_staged(Agent *a, Moult__ErrorCode error)
{
        agent_enter(a, error ? P(FAILED) : P(STAGED), error);
}

/* --- what the host wants --- */

static void begin(Agent *a, const guint8 *push_id, gboolean rollback)
{
        world_forget(a->guest->w, a);
        world_forget(a->guest->w, &a->timer);
        agent_talk_begin(&a->talk, push_id, rollback, FALSE);
        a->working = a->aborting = a->confirming = a->judged = a->switched = FALSE;
        a->fetched = 0;
        a->bytes_done = 0;
        a->wanted = 0;
}

void agent_offer(Agent *a, const Moult__Offer *o)
{
        begin(a, o->push_id.data, FALSE);
        a->release = vault_find_digest(o->manifest_digest.data, o->manifest_digest.len);
        a->talk.dry_run = o->dry_run;
        a->confirm_ms = o->confirm_timeout_ms ? o->confirm_timeout_ms : CONFIRM_DEFAULT_MS;
        agent_set_sources(a, o->sources, o->n_sources);
        agent_enter(a, P(PLANNING), 0);
        step_in(a, 1, 300);
}

void agent_begin_rollback(Agent *a, const guint8 *push_id, guint64 generation, const guint8 *of_push)
{
        GuestDisk *d = a->guest->disk;
        const struct generation *g = guest_disk_newest_committed(d);

        begin(a, push_id, TRUE);
        if (!g) {
                agent_enter(a, P(FAILED), MOULT__ERROR_CODE__ERROR_NOT_FOUND);
                return;
        }
        if ((generation && generation != g->number) ||
            (of_push && memcmp(of_push, g->push_id, sizeof g->push_id) != 0)) {
                agent_enter(a, P(FAILED), MOULT__ERROR_CODE__ERROR_REFUSED);
                return;
        }
        d->journal = (struct journal){.phase = P(ROLLING_BACK),
                                      .release = g->release,
                                      .done = GUEST_FILES,
                                      .is_back = TRUE,
                                      .target = g->number};
        memcpy(d->journal.push_id, push_id, sizeof d->journal.push_id);
        memcpy(d->journal.old, g->old, sizeof g->old);
        agent_enter(a, P(ROLLING_BACK), 0);
        step_in(a, 1, 50);
}

static void begin_commit(Agent *a)
{
        GuestDisk *d = a->guest->disk;

        d->journal =
                (struct journal){.phase = P(COMMITTING), .release = a->release, .confirm_ms = a->confirm_ms};
        memcpy(d->journal.push_id, a->talk.push_id, sizeof a->talk.push_id);
        memcpy(d->journal.old, d->files, sizeof d->files);
        agent_enter(a, P(COMMITTING), 0);
        step_in(a, 1, 50);
}

static void abort_push(Agent *a)
{
        if (a->talk.phase < P(COMMITTING)) {
                world_forget(a->guest->w, a);
                a->working = FALSE;
                agent_enter(a, P(FAILED), MOULT__ERROR_CODE__ERROR_CANCELLED);
        } else if (a->talk.phase == P(ACTIVE)) {
                if (!a->confirming)
                        go_back(a, MOULT__ERROR_CODE__ERROR_CANCELLED);
        } else {
                a->aborting = TRUE;
        }
}

void agent_act(Agent *a, const Moult__PushCommand *c)
{
        if (a->aborting)
                return;
        switch (c->action) {
        case MOULT__PUSH_ACTION__PUSH_STAGE:
                agent_enter(a, P(STAGING), 0);
                agent_stage_later(a);
                break;
        case MOULT__PUSH_ACTION__PUSH_COMMIT:
                begin_commit(a);
                break;
        case MOULT__PUSH_ACTION__PUSH_CONFIRM:
                if (a->confirming)
                        break;
                a->confirming = TRUE;
                world_forget(a->guest->w, &a->timer);
                step_in(a, 1, 5);
                break;
        case MOULT__PUSH_ACTION__PUSH_ABORT:
                abort_push(a);
                break;
        case MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED:
                agent_set_sources(a, c->sources, c->n_sources);
                a->wanted = 0;
                if ((a->talk.phase == P(PLANNING) || a->talk.phase == P(STAGING)) && !a->working)
                        step_in(a, 1, 20);
                break;
        default:
                break;
        }
}

/* --- life --- */

/* Goes on with what the journal says. */
void agent_recover(Agent *a)
{
        struct journal *j = &a->guest->disk->journal;

        if (j->phase == P(NONE))
                return;
        begin(a, j->push_id, j->is_back);
        a->release = j->release;
        a->confirm_ms = j->confirm_ms;
        world_trace(a->guest->w, "%s agent recovers", a->guest->vm);
        if (j->phase == P(ACTIVE) && j->boots >= 2) {
                go_back(a, MOULT__ERROR_CODE__ERROR_TIMEOUT);
                return;
        }
        a->switched = j->phase == P(ACTIVE);
        agent_enter(a, j->phase, j->error);
        if (j->phase != P(ACTIVE))
                step_in(a, 1, 100);
}

void agent_request_upgrade(Agent *a)
{
        Moult__UpgradeRequest request = MOULT__UPGRADE_REQUEST__INIT;
        ProtobufCBinaryData path = message_bytes("etc/a");
        Message m = MOULT__MESSAGE__INIT;

        if (!a->talk.session || !session_is_established(a->talk.session))
                return;
        request.n_paths = 1;
        request.paths = &path;
        m.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        m.upgrade_request = &request;
        session_send(a->talk.session, &m);
}

void agent_roll_back(Agent *a)
{
        guint8 id[16];

        if (!agent_is_idle(a) || !guest_disk_newest_committed(a->guest->disk))
                return;
        world_random_fill(a->guest->w, id, sizeof id);
        agent_begin_rollback(a, id, 0, NULL);
}
