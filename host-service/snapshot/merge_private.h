/* host-service/snapshot/merge_private.h - what the files of a merge share; for them only.
 *
 * merge.c: the beginning and the end, and what is written down. merge_plan.c: which is next. merge_decide.c:
 * how far it is. merge_nodes.c: how QEMU's top gets onto the new file; merge_domain.c: how a domain's does,
 * through libvirt. Files: merge_files.h. */
#pragma once

#include "host-service/snapshot/merge.h"
#include "host-service/snapshot/merge_settle.h"

#define QEMU_IMG "qemu-img"

/* One step: ends in merge_next(), merge_fail() or another way, now or later. */
typedef void (*merge_step)(SnapshotMerge *m);

/* How the top gets onto the new file, by whom it is that has it. Ways end in one of the common steps below.
 */
struct merge_kind {
        MergeSettle (*settle)(const SnapshotMerge *m); /* from what was found and looked at */
        const merge_step *put;                         /* QEMU runs, and its top stands on the layer */
        const merge_step *put_off;                     /* there is no QEMU */
        const merge_step *half;                        /* MERGE_HALF */
        const merge_step *tidy;                        /* MERGE_TOGETHER */
        const merge_step *back;                        /* MERGE_APART, or nobody has the new file: it goes */
        const merge_step *go_on;                       /* it was stopped for it; NULL: that is never done */
};
extern const struct merge_kind merge_by_qemu, merge_by_libvirt;

struct SnapshotMerge {
        const struct merge_kind *kind;
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
        char *next;       /* of a domain: the new top that its disk gets; NULL: it keeps its own */
        JsonNode *domain; /* what libvirt says of its disks; NULL: it is none, or is not known any more */
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

void merge_take(SnapshotMerge *m, const merge_step *way);
void merge_next(SnapshotMerge *m);
void merge_end_with(SnapshotMerge *m, const GError *error);
/* Before anybody may have the new file: it goes. */
void merge_fail(SnapshotMerge *m, const GError *error);
/* Afterwards: what is there decides. @error: a step that was not done, or may not have been. */
void merge_settle_again(SnapshotMerge *m, const GError *error);
/* It cannot even be looked at. @m may be gone afterwards. */
void merge_unsettled(SnapshotMerge *m, const GError *error);
/* QEMU, or libvirt, cannot be asked. @m may be gone afterwards. */
void merge_not_asked(SnapshotMerge *m, const GError *error);
/* @done may run from inside. Takes over @arguments. */
void merge_command(SnapshotMerge *m, const char *name, JsonObject *arguments, hypervisor_reply_func done);
/* The same for libvirt. */
void merge_ask_domain(SnapshotMerge *m, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done);
/* A row that is planned: whether it can be done, by what libvirt has told; and the name of its own that the
 * top has, if QEMU has it by another. */
gboolean merge_domain_plan(const SnapshotMerge *m, MergeRecord *r, GError **error);

/* m->r: one that an earlier moultd has begun, or NULL. FALSE: nothing is to be done; @error unset: a create
 * finds out why itself. */
gboolean merge_plan_begin(SnapshotMerge *m, GError **error);
/* m->r and m->chain: the next one. FALSE with @error unset: there is none. */
gboolean merge_plan_choose(SnapshotMerge *m, GError **error);

/* In a worker thread. @done asks merge_came_back() first. FALSE: @m is gone. */
void merge_run(SnapshotMerge *m, host_work_func work, gboolean may_cancel, host_work_done done);
gboolean merge_came_back(SnapshotMerge *m);

void merge_step_ask_status(SnapshotMerge *m);
/* Of a domain: what libvirt says. */
void merge_step_ask_domain(SnapshotMerge *m);
/* Looks at all again, and decides. */
void merge_step_settle(SnapshotMerge *m);
/* At the files only. */
void merge_step_look(SnapshotMerge *m);
void merge_step_set_header(SnapshotMerge *m);
/* The end: it has happened. */
void merge_step_record(SnapshotMerge *m);
/* The other end: the new file goes. */
void merge_step_remove(SnapshotMerge *m);
