/* host-service/catalogue/merges.h - merges into history that are under way, or have left files to remove.
 * docs/snapshots.md, *Merge into history*.
 *
 * A merge is a row before a file is made. Its state says up to where it is known to have come; what is true
 * after a crash is read from the files and from QEMU. A row goes when nothing is left to do. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef enum {
        MERGE_PLANNED,  /* the new file, if it is there, is not whole, and nobody has it */
        MERGE_COMPARED, /* it is whole; the top may stand on it, in QEMU and by its header */
        MERGE_STOPPED,  /* the same, and the domain was stopped for it, or is about to be */
        MERGE_RECORDED, /* the top does, and the layers' rows say so: files that nobody needs are to go */
        MERGE_FOREIGN,  /* somebody else changed the chain in between: nothing is touched any more */
        MERGE_STATE_MAX
} MergeState;
const char *merge_state_name(MergeState s);

typedef struct {
        char *id;          /* ULID-DISK, as in the name of the new file */
        char *vm, *device; /* device: as QEMU and operators call it */
        char *path, *top;  /* the well-known path; the file that the guest writes to, as QEMU calls it */
        char *upper, *upper_file; /* the layer directly below the top, and the file where it is the newest */
        char *lower, *lower_file; /* what that one stands on */
        char *file;               /* the new one, which holds both */
        char *below, *below_format; /* the file that the lower one stands on; NULL: none */
        MergeState state;
        gint64 created_us;
} MergeRecord;
void merge_record_free(MergeRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MergeRecord, merge_record_free)

gboolean catalogue_merge_add(Catalogue *c, const MergeRecord *r, GError **error);
/* Of the VM, or of all (NULL), oldest first. */
GPtrArray *catalogue_merge_list(Catalogue *c, const char *vm, GError **error);
/* Not MERGE_RECORDED. NOT_FOUND. */
gboolean catalogue_merge_set_state(Catalogue *c, const char *id, MergeState state, GError **error);
/* MERGE_RECORDED, and that the new file is the upper layer's, all or nothing; and that the disk's top is the
 * file named @new_top now (NULL: it stays what it was). */
gboolean catalogue_merge_record(Catalogue *c, const MergeRecord *r, const char *new_top, GError **error);
/* The lower layer has no file of its own any more, unless it has got another one. */
gboolean catalogue_merge_drop_lower(Catalogue *c, const MergeRecord *r, GError **error);
gboolean catalogue_merge_remove(Catalogue *c, const char *id, GError **error);

/* Whether the lower file of a recorded merge is needed for what is in it: it has a
 * restore point, and that one, or the layer above it (which is read against this one when it is uploaded), is
 * not in the store; or another layer's file stands on it. TRUE also if it cannot be told. */
gboolean catalogue_merge_needs_lower(Catalogue *c, const MergeRecord *r);
/* The same for the upper file: a layer has it. */
gboolean catalogue_merge_needs_upper(Catalogue *c, const MergeRecord *r);
/* Whether files of these two layers would stay after a merge of both: a restore point of theirs is not in the
 * store, or another layer's file stands on one of them. TRUE also if it cannot be told. */
gboolean catalogue_merge_is_kept(Catalogue *c, const char *upper, const char *lower);
/* Whether a layer's file stands on that of @upper: a branch. Then both of its files stay, and the merged one
 * is a layer of its own that changes nothing. */
gboolean catalogue_merge_has_branch(Catalogue *c, const char *upper);
