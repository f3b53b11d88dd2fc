/* guest-agent/upgrade/plan.h - what an upgrade will do, entry by entry, and why.
 *
 * The decision for one entry is a pure function over facts; plan_survey.c gathers the facts and puts the plan
 * together. A plan is also what stage.c and commit.c work from, so it says how each entry comes to its place:
 *
 *   own switch   one rename in the entry's directory: create, exchange or remove
 *   in place     an existing directory's metadata
 *   within       it comes (or goes) inside of a directory that is created (or removed) as a whole: its
 *                carrier
 *   merge        it cannot be written: an item of the target file system (plan_merge.h)
 */
#pragma once

#include <gio/gio.h>

#include "guest-agent/upgrade/classify.h"
#include "common/metadata.h"
#include "fuse-overlay/target.h"
#include "guest-agent/upgrade/record.pb-c.h"
#include "proto/channel.pb-c.h"
#include "shm/manifest.h"

/* --- one entry, pure --- */

struct content_facts {
        gboolean is_new; /* the live content is the release's */
        gboolean is_old; /* it is one of the entry's old digests */
};

struct decision {
        Moult__PlanAction action; /* never BLOCKED: that is classify_refusal()'s */
        char *reason;             /* may be NULL */
};

/* S_IFMT bits; 0 for deletions. */
mode_t plan_type_of_entry(Moult__EntryType type);
/* True if the content of the live file must be known to decide. */
gboolean plan_needs_content(const Moult__Entry *e, const struct object_facts *o);
/* @live_target: text of the live symbolic link (only for symlinks, else NULL). @metadata: what differs, or
 * NULL. Hard links are decided by plan_decide_link(). */
struct decision plan_decide(const Moult__Entry *e, const struct object_facts *o,
                            const struct content_facts *content, const char *live_target,
                            const char *metadata);
/* @target: the decision for the file that it links to. @same_object: both names are one inode now. */
struct decision plan_decide_link(const Moult__Entry *e, const struct object_facts *o,
                                 const struct content_facts *content, Moult__PlanAction target,
                                 gboolean same_object);

/* --- the whole --- */

typedef enum { HOW_NONE, HOW_CREATE, HOW_EXCHANGE, HOW_REMOVE, HOW_IN_PLACE, HOW_WITHIN, HOW_MERGE } PlanHow;

struct plan_entry {
        char *path;
        char *reason;
        Moult__PlanAction action;
        PlanHow how;
        PlanReach reach;
        char *physical;           /* HOW_MERGE: where it is, relative to the root */
        gboolean object;          /* HOW_MERGE: a regular file, staged to become an object of the store */
        gboolean deferred;        /* instant mode: its object is staged after the switch */
        const Moult__Entry *seen; /* whose metadata the object gets (fill.h); NULL: the entry's own */
        gboolean served; /* what is there now is an object of ours: links of it come and go, and change its
                            ctime */
        gboolean selected;
        gboolean copy_live; /* HOW_EXCHANGE of a file for its metadata only: the content is here already */
        gboolean seeded;    /* staged from a delta: a guess that its digest must confirm */
        guint64 told_bytes; /* of it, that were told as progress already */
        gboolean link_live; /* a hard link to a live file that stays */
        gint32 directory;   /* where it is switched, or what is changed in place; -1: none */
        gint32 carrier;     /* HOW_WITHIN: the entry that is switched; else -1 */
        gint32 area;        /* -1: unknown */
        gint32 link_of;     /* hard links: index of the file entry; else -1 */
        guint64 old_inode, old_size;
        guint32 old_links;
        dev_t old_dev;
        struct timespec old_ctime;
        guint64 new_inode; /* after staging */
        gint64 new_birth_ns, old_birth_ns;
};

struct plan_directory {
        char *path; /* physical, relative to the root; "" is the root */
        gint32 area;
        guint64 inode;
        gboolean immutable, append_only, encrypted;
        guint64 project;  /* of its project quota, plus 1; 0: none */
        gint32 entry;     /* whose metadata it gets; -1 */
        gboolean changes; /* something is switched in it, or its own metadata change */
        Metadata *old;    /* set if it changes */
};

struct plan_area {
        char *path; /* physical, relative to the root */
        char *mount_point, *fs_type;
        char *original_mount; /* mount point of the original, below what we have merged; relative to the root
                               */
        FsKind kind;
        gboolean read_only_mount, read_only_super, closed, encrypted;
        guint64 project; /* as a directory's */
        guint64 mount_id;
        dev_t dev;
        guint64 inode; /* of its topmost directory */
        gint64 birth_ns, mtime_ns;
        guint32 fs_magic; /* statfs */
        guint64 need_bytes, need_inodes;
};

typedef struct {
        const Manifest *manifest;   /* not owned */
        struct plan_entry *entries; /* one for each of the manifest's */
        guint n_entries;
        GPtrArray *directories; /* struct plan_directory */
        GPtrArray *areas;       /* struct plan_area */
        GArray *steps;          /* guint32: entries with an own switch, in its order */
        guint n_change, n_equal, n_blocked, n_drift, n_merged;
        guint64 bytes_total;               /* to be staged */
        guint64 store_bytes, store_inodes; /* of that, what the store of the target file system needs */
} Plan;

struct plan_request {
        const char *root, *state_dir;
        int root_fd;
        gboolean allow_drift;
        const char *const *selection; /* NULL: everything */
        unsigned workers;             /* that hash live files */
        const Target *before;         /* what is merged now; NULL: nothing */
};

/* Looks at everything and decides. Errors are those of looking; entries that cannot be applied are in the
 * plan. MOULT_ERROR_NOT_FOUND: a selected path is not in the release. */
Plan *plan_survey(const Manifest *m, const struct plan_request *request, GCancellable *cancellable,
                  GError **error);
void plan_free(Plan *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

/* An error that lists what is blocked or drifted (the first dozen, and how many more), or TRUE. */
gboolean plan_is_applicable(const Plan *p, GError **error);

static inline struct plan_directory *plan_directory(const Plan *p, gint32 i)
{
        return g_ptr_array_index(p->directories, (guint)i);
}
static inline struct plan_area *plan_area(const Plan *p, gint32 i)
{
        return g_ptr_array_index(p->areas, (guint)i);
}
/* Where the entry is staged, below its area's staging directory (HOW_MERGE: below the store's incoming
 * directory): "17" or, within a carrier, "12/bin/x". */
char *plan_staged_path(const Plan *p, guint entry);
/* Entries that are staged (all that changes but removals and in-place changes; of what is merged only regular
 * files: for the rest the target's record is enough). */
gboolean plan_is_staged(const struct plan_entry *pe);

/* The durable form. Inodes of staged objects are in it once they are known. */
Moult__Record__Plan *plan_to_record(const Plan *p);
