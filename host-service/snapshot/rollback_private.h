/* host-service/snapshot/rollback_private.h - what the files of a rollback share; for them only.
 *
 * rollback.c: the job and its turn. rollback_end.c: how it ends. rollback_plan.c: what is on record.
 * rollback_below.c: what the new tops stand on, and these. rollback_place.c: what is there, and whose the
 * paths become. rollback_ask.c: what QEMU says. rollback_live.c: the steps for a VM that runs, and which are
 * left. rollback_nodes.c: what they tell QEMU. rollback_return.c: and takes back. rollback_domain.c: from
 * what a domain of libvirt's is started.
 */
#pragma once

#include "host-service/catalogue/layers.h"
#include "host-service/hypervisor/vm_disks.h"
#include "host-service/jobs/job_task.h"
#include "host-service/snapshot/layer_files.h"
#include "host-service/snapshot/layer_line.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/restore.h"
#include "host-service/snapshot/rollback.h"
#include "host-service/snapshot/settle.h"

/* A file that is restored has a name of its own, since a sweep may still be about to remove the layer's first
 * one; it is found again by the next moultd. */
#define RESTORED (LAYER_DISKS_MAX / 2)

struct SnapshotRollbacks {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        struct guest_view guests;
        VmTurns *turns;
        LayerRefs *refs;
        GPtrArray *tasks;                 /* of struct rollback */
        snapshot_rollback_over_func over; /* or NULL */
        gpointer over_user;
        gboolean closing;
};

/* One disk on its way back. What its new top stands on is the restore point's own file, if all of its chain
 * is here and short enough; else one file that is made of it: which gets the layer's row if that has no file,
 * and else a row of its own, a layer that changes nothing (before->next_on names it). */
struct way {
        const struct snapshot_disk *to;     /* of the restore point */
        const struct snapshot_disk *before; /* of the snapshot that is made of the present state */
        GPtrArray *line;                    /* of the restore point's layer */
        char *below;                        /* the file that the new top stands on */
        const char *format;                 /* of it */
        char *part;                         /* while that is fetched */
        gboolean standalone;                /* what is fetched stands on nothing */
        LayerFiles *files;
        struct layer_look look;
        gboolean is_defined; /* a domain is started from the new top */
        gboolean is_fetched; /* `below` was made by this job */
        gboolean copy;       /* a row of its own */
        gboolean has_copy;   /* and it is there */
        Settle live;         /* of a VM that runs: SETTLE_TAKEN: QEMU has the new top */
        char *old;           /* SETTLE_BACK: QEMU's node of the present top */
};

/* A command to QEMU that waits for its turn. */
struct rollback_command {
        const char *name;
        JsonObject *arguments; /* or NULL */
        gboolean may_fail;
};

struct rollback;
/* Ends in rollback_next(), rollback_place_failed() or the end of it all, now or later. */
typedef void (*rollback_step)(struct rollback *t);

struct rollback {
        SnapshotRollbacks *owner;
        struct job_task job;
        char *vm, *target; /* target: id of the restore point */
        SnapshotRecord *to, *before;
        guint64 *sizes;   /* of the disks now, for planning */
        struct way *ways; /* one for each disk of `to`; NULL: not yet */
        GPtrArray *held;  /* ids of layers to which we have references */
        guint k;
        gboolean restart; /* a VM that runs is stopped, and reset */
        char *status;     /* QEMU's word for it ("running", "paused", ...); NULL: there is no QEMU */
        GPtrArray *found; /* of struct vm_disk: what it has open; NULL: the same */
        void (*asked)(struct rollback *t);
        const rollback_step *step; /* the present one, and those after it */
        GQueue commands;           /* of struct rollback_command */
        GPtrArray *old;            /* nodes that may go */
        gboolean dropped;          /* one of them has, in this round */
        guint waits;               /* for the reset, or jobs of QEMU's */
        guint failures;            /* on the way there, while the guest stands */
        /* asking: the hypervisor; working: a thread has us; is_known: `before` is in the catalogue; unsure:
         * an earlier moultd has begun it, and how far it came is not known; made: the new tops are; placing:
         * a path may be one's */
        gboolean waiting, has_turn, asking, working, is_known, unsure, made, placing;
        gboolean is_domain, saved; /* of libvirt's; its next start goes on from a managed save */
        Restore *restore;
        GSource *again;
        GError *error,
                *place_error; /* why it goes back; why a path could not be given away, or QEMU switched */
        GError *back;         /* why QEMU is brought back to where it was */
        gboolean (*work)(struct rollback *t, struct way *w, GError **error);
        void (*then)(struct rollback *t);
};

/* Each ends in another of them, now or later. */

/* The operation ends: with success, or @why not. */
void rollback_end(struct rollback *t, const GError *why);
/* Back to what it was, if nothing has happened; else on, after another look. */
void rollback_fail(struct rollback *t, const GError *error);
/* From what is there, once more. */
void rollback_resume(struct rollback *t);
/* All paths are given away. */
void rollback_record(struct rollback *t);
/* What is there decides how it goes on. */
void rollback_look(struct rollback *t);
void rollback_place_failed(struct rollback *t, const GError *error);
/* Of a domain: from what it is started; then @then. */
void rollback_ask_domain(struct rollback *t, void (*then)(struct rollback *));
/* It is started from the new tops, all of them at once; then @then. */
void rollback_define(struct rollback *t, void (*then)(struct rollback *));
/* What the new tops stand on is here, or is fetched; then they are made. */
void rollback_fetch(struct rollback *t);
/* @work for each disk in a worker thread, then @then; an error leads to rollback_fail(). */
void rollback_run(struct rollback *t, gboolean (*work)(struct rollback *, struct way *, GError **),
                  void (*then)(struct rollback *), GCancellable *cancellable);
gboolean rollback_place_one(struct rollback *t, struct way *w, GError **error);

/* ---- QEMU ---- */

/* It is looked at: t->status, t->found; then @then. An error leads to rollback_fail(), and so does a VM that
 * is there and may not be restarted. */
void rollback_ask(struct rollback *t, void (*then)(struct rollback *t));
/* To QEMU; @done may run from inside, and begins with rollback_came_back(). Takes over @arguments. */
void rollback_command(struct rollback *t, const char *name, JsonObject *arguments,
                      hypervisor_reply_func done);
/* FALSE: this moultd ends, nothing goes on. */
gboolean rollback_came_back(struct rollback *t);
/* What was queued, one after the other, then the next step. */
void rollback_queue(struct rollback *t, const char *name, JsonObject *arguments, gboolean may_fail);
void rollback_send_all(struct rollback *t);
void rollback_command_free(gpointer command);
/* The next step of its way. */
void rollback_next(struct rollback *t);
gboolean rollback_is_running(const struct rollback *t);
/* The VM comes from, or goes to, another host, which has its disks, too. */
gboolean rollback_is_migrating(const struct rollback *t);
/* Afterwards the guest is to run: one that an operator has stopped stays so, one that has come to an end by
 * itself starts again. */
gboolean rollback_goes_on(const struct rollback *t);
/* The first step of a way. */
void rollback_take(struct rollback *t, const rollback_step *way);
/* QEMU has new tops, but they stand on what was there before, no path is theirs, and the guest stands: it can
 * get back what it had. */
gboolean rollback_may_return(const struct rollback *t);
/* Ends in rollback_look(). */
extern const rollback_step rollback_way_return[];
/* Of a VM that has a QEMU: which way it goes on. @foreign: why nothing may be touched; or NULL. */
void rollback_live(struct rollback *t, const GError *foreign);

/* Of the disks whose new top QEMU has not got: */
void rollback_step_drop_nodes(struct rollback *t);
void rollback_step_add_nodes(struct rollback *t);
void rollback_step_switch(struct rollback *t);
/* Of those whose new top it has from us, over what was the top. */
void rollback_step_reopen(struct rollback *t);
/* Nodes that nothing stands on any more. */
void rollback_step_tidy(struct rollback *t);
/* The disk of @w, in t->found; NULL: it is not there. */
const struct vm_disk *rollback_disk_of(const struct rollback *t, const struct way *w);
/* QEMU has the new top, and it stands on the restore point. */
gboolean rollback_is_on(const struct rollback *t, const struct way *w);

/* ---- the record ---- */

/* The row of "before", and of the present tops as layers. */
gboolean rollback_plan(struct rollback *t, GError **error);
/* t->ways and t->held, from the rows. */
gboolean rollback_open_ways(struct rollback *t, GError **error);
/* In a worker thread: t->sizes. */
gpointer rollback_measure(gpointer data, GCancellable *cancellable, GError **error);
