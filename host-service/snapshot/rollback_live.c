/* host-service/snapshot/rollback_live.c - a rollback of a VM that runs: the steps, and which of them are
 * left, from what QEMU has open and whose the paths are. docs/snapshots.md, *Roll back*. */
#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/rollback_private.h"

#define RESET_LOOK_MS 20u
#define RESET_LOOKS   250u /* 5 s: QEMU does it at once, or not at all */
#define FAILURES      3u   /* while the guest stands, 5 s apart */

void rollback_take(struct rollback *t, const rollback_step *way)
{
        t->step = way;
        (*t->step)(t);
}

void rollback_next(struct rollback *t)
{
        rollback_take(t, t->step + 1);
}

static gboolean is(const struct rollback *t, const char *state)
{
        return g_strcmp0(t->status, state) == 0;
}

gboolean rollback_goes_on(const struct rollback *t)
{
        return t->status && !is(t, "paused") && !is(t, "prelaunch");
}

/* ---- steps ---- */

/* What it does now: somebody else may have stopped or continued it. */
static void step_ask(struct rollback *t)
{
        rollback_ask(t, rollback_next);
}

/* It goes: what is there decides. */
static gboolean is_gone(struct rollback *t)
{
        if (!t->found)
                rollback_look(t);
        return !t->found;
}

/* Noted before it is done; one that stands by an operator's will is not continued by us. */
static void step_stop(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (is_gone(t))
                return;
        if (t->before->state == SNAPSHOT_MAKING)
                t->before->running = rollback_goes_on(t);
        if (t->before->running)
                t->before->state = SNAPSHOT_STOPPED;
        if (!catalogue_snapshot_update(t->owner->catalogue, t->before, &error)) {
                rollback_place_failed(t, error);
                return;
        }
        fault_point("rollback-stop");
        if (rollback_is_running(t))
                rollback_queue(t, "stop", NULL, FALSE);
        rollback_send_all(t);
}

static void step_place(struct rollback *t)
{
        t->before->taken_us = host_wall_us(t->owner->env);
        rollback_run(t, rollback_place_one, rollback_next, NULL);
}

static void look_for_reset(struct rollback *t);

static gboolean on_look_again(gpointer user)
{
        struct rollback *t = user;

        host_timer_clear(&t->again);
        rollback_ask(t, look_for_reset);
        return G_SOURCE_REMOVE;
}

/* A QEMU that is told to end at a reset (-no-reboot) is gone, or stays where it is, "shutdown". */
static void look_for_reset(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (is_gone(t))
                return;
        if (is(t, "prelaunch") || is(t, "shutdown") || is(t, "running")) {
                rollback_next(t);
        } else if (t->waits++ < RESET_LOOKS) {
                t->again = host_timer_add(t->owner->env, RESET_LOOK_MS, on_look_again, t);
        } else {
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "QEMU does not reset VM \"%s\"", t->vm);
                rollback_place_failed(t, error);
        }
}

static void on_reset(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;

        if (!rollback_came_back(t))
                return;
        t->waits = 0;
        if (error)
                rollback_place_failed(t, error);
        else
                rollback_ask(t, look_for_reset);
}

/* Its memory is of the other state: it is never continued with that. "prelaunch": it was reset already. */
static void step_reset(struct rollback *t)
{
        fault_point("rollback-reset");
        if (is_gone(t))
                return;
        if (is(t, "prelaunch"))
                rollback_next(t);
        else
                rollback_command(t, "system_reset", NULL, on_reset);
}

static void step_go_on(struct rollback *t)
{
        fault_point("rollback-go-on");
        if (is_gone(t))
                return;
        if (t->before->state == SNAPSHOT_STOPPED && !rollback_is_running(t) && !is(t, "shutdown"))
                rollback_queue(t, "cont", NULL, FALSE);
        rollback_send_all(t);
}

static void step_record(struct rollback *t)
{
        rollback_record(t);
}

/* The VM does not stand because of us. */
static void step_fetch(struct rollback *t)
{
        g_autoptr(GError) error = NULL;

        if (t->before->state == SNAPSHOT_STOPPED) {
                t->before->state = SNAPSHOT_MAKING;
                if (!catalogue_snapshot_update(t->owner->catalogue, t->before, &error)) {
                        rollback_place_failed(t, error);
                        return;
                }
        }
        t->unsure = FALSE;
        t->k = 0;
        rollback_fetch(t);
}

/* Nothing has happened, and QEMU is where it was. */
static void step_gone_back(struct rollback *t)
{
        g_autoptr(GError) why = g_steal_pointer(&t->back);

        t->unsure = FALSE;
        rollback_fail(t, why);
}

static const rollback_step way_there[] = {rollback_step_drop_nodes,
                                          rollback_step_add_nodes,
                                          step_ask,
                                          step_stop,
                                          rollback_step_switch,
                                          rollback_step_reopen,
                                          step_place,
                                          step_ask,
                                          step_reset,
                                          step_go_on,
                                          step_ask,
                                          rollback_step_tidy,
                                          step_record};
static const rollback_step way_tidy[] = {rollback_step_tidy, step_record};
/* An earlier moultd has ended before the switch; the VM runs on, and it is begun anew. */
static const rollback_step way_anew[] = {rollback_step_drop_nodes, step_ask, step_go_on, step_fetch};
static const rollback_step way_fetch[] = {step_fetch};
static const rollback_step way_back[] = {rollback_step_drop_nodes, step_ask, step_go_on, step_gone_back};

/* ---- which way ---- */

static gboolean has_happened(const struct rollback *t)
{
        for (guint i = 0; i < t->to->disks->len; i++)
                if (t->ways[i].live == SETTLE_TAKEN || t->ways[i].look.well_known == WELL_KNOWN_NEXT)
                        return TRUE;
        return FALSE;
}

/* QEMU and the paths agree, on all disks: what runs, runs on the restore point. */
static gboolean is_complete(const struct rollback *t)
{
        for (guint i = 0; i < t->to->disks->len; i++)
                if (!rollback_is_on(t, &t->ways[i]) || t->ways[i].look.well_known != WELL_KNOWN_NEXT)
                        return FALSE;
        return TRUE;
}

/* What the new tops stand on, for a moultd that has not made them. */
static void fill_below(struct rollback *t)
{
        for (guint i = 0; i < t->to->disks->len; i++) {
                struct way *w = &t->ways[i];
                const LayerRecord *layer = w->line->pdata[0];

                if (!w->below)
                        w->below = g_strdup(layer->file);
        }
}

static void go_back(struct rollback *t)
{
        g_autoptr(GError) again = g_steal_pointer(&t->place_error);

        if (t->back && again) { /* it could not be brought back just now */
                t->unsure = TRUE;
                rollback_fail(t, again);
                return;
        }
        if (!t->back)
                t->back = g_steal_pointer(&again);
        t->unsure = TRUE; /* until it is */
        rollback_take(t, way_back);
}

/* From the FAILURES-th on it is taken back; if QEMU refuses that as well, both are tried in turn. */
static gboolean is_to_return(const struct rollback *t)
{
        return t->failures >= FAILURES && (t->failures - FAILURES) % 2 == 0 && rollback_may_return(t);
}

static void go_on(struct rollback *t)
{
        gboolean returns = is_to_return(t);

        if (!returns)
                g_clear_error(&t->back);
        if (returns)
                rollback_take(t, rollback_way_return);
        else
                rollback_take(t, is_complete(t) && rollback_is_running(t) ? way_tidy : way_there);
}

/* Why it is taken back, should it be. */
static void note_failure(struct rollback *t, const GError *error)
{
        t->failures++;
        g_clear_error(&t->back);
        t->back = g_error_copy(error);
        g_prefix_error(&t->back, "QEMU went on refusing the disks of the restore point, so the guest, which "
                                 "stood meanwhile, goes "
                                 "on with those that it had: ");
}

void rollback_live(struct rollback *t, const GError *foreign)
{
        gboolean was_unsure = t->unsure;
        g_autoptr(GError) again = NULL;

        fill_below(t);
        t->unsure = t->placing = has_happened(t);
        if (t->placing && (t->place_error || foreign)) {
                again = t->place_error ? g_steal_pointer(&t->place_error) : g_error_copy(foreign);
                note_failure(t, again);
                rollback_fail(t, again);
                return;
        }
        if (t->placing) {
                go_on(t);
                return;
        }
        if (!t->place_error && foreign)
                t->place_error = g_error_copy(foreign);
        if (!t->place_error && !t->back)
                g_cancellable_set_error_if_cancelled(t->job.cancellable, &t->place_error);
        if (t->place_error || t->back) {
                go_back(t);
                return;
        }
        t->unsure = TRUE;
        if (t->made)
                rollback_take(t, way_there);
        else
                rollback_take(t, was_unsure ? way_anew : way_fetch);
}
