/* host-service/snapshot/merge_settle.h - how far a merge has come, from what is there: pure. The table is in
 * docs/snapshots.md, *Merge into history*. */
#pragma once

#include "host-service/catalogue/merges.h"
#include "host-service/hypervisor/vm_disks.h"
#include "host-service/image/image_lock.h"

struct merge_look {
        gboolean is_top;          /* the well-known path is the top's */
        gboolean is_next;         /* or that of the new top, which a domain gets */
        gboolean has_result;      /* the new file is there */
        enum image_lock path_use; /* what QEMUs do with the well-known path's file */
        enum image_lock next_use; /* the same with the new top; IMAGE_FREE: it is not there */
        char *backing;            /* by the header of the well-known path's file; "": none */
};

typedef enum {
        MERGE_APART,    /* the top stands on the layer: it can be put on the new file, or that one can go */
        MERGE_HALF,     /* QEMU has it on the new file, and its header does not say so yet */
        MERGE_TOGETHER, /* QEMU, if there is one, and the header both name the new file */
        MERGE_STRANGE,  /* somebody else changed the chain: nothing is touched */
} MergeSettle;

/* @disks: of struct vm_disk, as QEMU has them now; NULL: there is no QEMU. */
MergeSettle merge_settle(const MergeRecord *r, const GPtrArray *disks, const struct merge_look *look);
/* The disk of it, or NULL. */
const struct vm_disk *merge_settle_disk(const MergeRecord *r, const GPtrArray *disks);

/* The same of a domain of libvirt's, whose disk gets the new top @next: MERGE_APART: it has the old one;
 * MERGE_HALF: it has the new one, and the definition or the path does not, or it stands; MERGE_TOGETHER: all
 * have the same, whichever it is (look->is_next). @defined: from which file it is started; NULL: there is no
 * definition. */
MergeSettle merge_settle_domain(const MergeRecord *r, const char *next, const GPtrArray *disks,
                                const char *defined, const struct merge_look *look);
