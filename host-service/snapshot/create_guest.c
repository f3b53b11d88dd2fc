/* host-service/snapshot/create_guest.c - the guest is frozen for the switch, if it can be. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/fault.h"

static void on_frozen(const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error && s->options.require_quiesce) {
                create_fail(s, error);
                return;
        }
        s->frozen = error == NULL;
        create_note_why(s, error ? error->message : NULL);
        create_next(s);
}

void step_freeze(SnapshotCreate *s)
{
        g_autoptr(GError) paused = NULL;

        fault_point("snapshot-freeze");
        if (!s->options.quiesce) {
                create_note_why(s, "it was not asked for");
                create_next(s);
        } else if (!s->r->running) {
                paused = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                             "the VM's processors stand, so its agent cannot freeze it");
                on_frozen(paused, s);
        } else {
                s->quiesce = quiesce_new(s->env, s->guests, s->r->vm);
                quiesce_begin(s->quiesce, on_frozen, s);
        }
}

static void on_thawed(const struct quiesce_result *q, gpointer user)
{
        SnapshotCreate *s = user;

        s->frozen = FALSE;
        s->r->frozen_us = q->frozen_us;
        s->r->hooks = q->hooks;
        if (q->held)
                s->r->grade = q->hooks > 0 ? GRADE_APPLICATION : GRADE_FILESYSTEM;
        if (!q->held)
                create_note_why(s, q->why ? q->why : "the freeze ended before the snapshot was taken");
        create_next(s);
}

void step_thaw(SnapshotCreate *s)
{
        if (s->frozen)
                quiesce_end(s->quiesce, on_thawed, s);
        else
                create_next(s);
}
