/* host-service/snapshot/merge_private.h - what the files of a merge share; for them only.
 *
 * merge.c: the ways, and what is written down. merge_plan.c: which is next. merge_nodes.c: what is said to
 * QEMU. Files: merge_files.h. */
#pragma once

#include "host-service/snapshot/merge.h"
#include "host-service/snapshot/merge_settle.h"

/* One step: ends in merge_next(), merge_fail() or another way, now or later. */
typedef void (*merge_step)(SnapshotMerge *m);

struct SnapshotMerge {
        const struct host_env *env;
        Catalogue *catalogue;
        const struct guest_view *guests;
        LayerRefs *refs;
        FilesSweep *sweep;
        char *vm;
        MergeWhich which;
        snapshot_merged_func done;
        gpointer user;
        struct merge_result result;

        const merge_step *steps; /* the present one, and those after it */
        HypervisorStatus status;
        GPtrArray *found; /* of struct vm_disk; NULL: there is no QEMU */
        GPtrArray *known; /* of struct vm_disk: what there would be, by the catalogue, if there is none */
        MergeRecord *r;   /* the present one; NULL: none is under way */
        GPtrArray *chain; /* of struct disk_image: what it is made of, and what is below */
        struct merge_look look;
        char *top, *top_file, *below; /* QEMU's nodes */
        JsonObject *top_options;      /* what QEMU says of the first one */
        GPtrArray *old;               /* names of nodes that go */
        guint k;                      /* of them */
        GError *error;                /* why it goes back */
        GError *off_error;            /* why a header was not changed: because the VM was started, maybe */
        GCancellable *cancellable;
        gboolean put;           /* QEMU was told to put the top on the new file, or its header was changed */
        gboolean reading;       /* references are held */
        gboolean working, gone; /* a worker has us; freed meanwhile */
};

void merge_next(SnapshotMerge *m);
/* Before anybody may have the new file: it goes. */
void merge_fail(SnapshotMerge *m, const GError *error);
/* Afterwards: what is there decides. @error: a step that was not done, or may not have been. */
void merge_settle_again(SnapshotMerge *m, const GError *error);
/* It cannot even be looked at. @m may be gone afterwards. */
void merge_unsettled(SnapshotMerge *m, const GError *error);
/* @done may run from inside. Takes over @arguments. */
void merge_command(SnapshotMerge *m, const char *name, JsonObject *arguments, hypervisor_reply_func done);

/* m->r: one that an earlier moultd has begun, or NULL. FALSE: nothing is to be done; @error unset: a create
 * finds out why itself. */
gboolean merge_plan_begin(SnapshotMerge *m, GError **error);
/* m->r and m->chain: the next one. FALSE with @error unset: there is none. */
gboolean merge_plan_choose(SnapshotMerge *m, GError **error);

void merge_step_find_nodes(SnapshotMerge *m);
void merge_step_drop_new(SnapshotMerge *m);
void merge_step_add_file(SnapshotMerge *m);
void merge_step_add_image(SnapshotMerge *m);
void merge_step_reopen(SnapshotMerge *m);
void merge_step_change_header(SnapshotMerge *m);
void merge_step_find_old(SnapshotMerge *m);
void merge_step_drop_old(SnapshotMerge *m);
