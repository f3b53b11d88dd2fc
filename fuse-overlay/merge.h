/* fuse-overlay/merge.h - a target is made visible: what serves each merge is made detached, then switched in
 * one mount operation.
 *
 * docs/target-file-system.md has the theory. Nothing durable is kept here: what is merged is read from the
 * mount table, what should be is the caller's. So "make it so" can be said any number of times, also after a
 * kill at any point. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/object_store.h"

/* What the source of every mount of ours begins with: "moult-METHOD-ID". */
#define MERGE_TAG_PREFIX "moult-"

/* Of the root of a merge by union in instant mode: what its server has read of the pack so far, for people.
 */
#define MERGE_SOURCES_ATTRIBUTE "trusted.moult.sources"

typedef enum { MERGE_AUTO, MERGE_OVERLAY, MERGE_BIND, MERGE_UNION } MergeMethod;
/* "auto", "overlay", "bind", "union"; NULL / FALSE for others. */
const char *merge_method_name(MergeMethod m);
gboolean merge_method_parse(const char *name, MergeMethod *ret);

struct merge_config {
        const char *root;      /* "/" in a guest */
        const char *state_dir; /* the store is in STATE_DIR/target */
        const char *run_dir;   /* NULL: /run/moult/target for the root "/", else STATE_DIR/target/run */
        const char *targetfs;  /* program; NULL: beside our own executable, else MOULT_TARGETFS_PATH of the
                                  build */
};

typedef struct Merger Merger;
typedef struct Prepared Prepared; /* detached mounts */

/* Where moult-targetfs is: beside this program, if it is there. At the start of a process: later its program
 * may have been put aside by an upgrade. The caller frees. */
char *merge_find_targetfs(void);

/* Opens the store, and makes it where there is none; mounts nothing. */
Merger *merger_new(const struct merge_config *config, GError **error);
void merger_free(Merger *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Merger, merger_free)
/* Owned by the merger. */
ObjectStore *merger_store(Merger *m);

struct merge_status {
        char *path; /* relative to the root */
        MergeMethod method;
        char *id;         /* target_id() of what serves it */
        gboolean stacked; /* more than one mount of ours lies there: a switch was interrupted */
        gboolean alive;   /* union: its server answers */
};
/* What of ours is mounted now, from the mount table; GPtrArray of struct merge_status, sorted by path. */
GPtrArray *merger_status(Merger *m, GError **error);

/* The method that would serve this merge: @forced if it can (REFUSED with the reason if not), else the first
 * that works, by trying. Looks only. */
gboolean merger_choose(Merger *m, const Target *t, const struct target_merge *merge, MergeMethod forced,
                       MergeMethod *ret, GError **error);
/* Directory (or file) of the original at the merge's place, O_PATH: from the kept clone, or live if nothing
 * of ours covers it. */
int merger_original(Merger *m, const char *path, GError **error);

/* Everything that the switch needs, for every merge of @want (NULL: nothing is to be merged) that is not
 * served as it should be: trees, servers, detached mounts.
 * @source (may be NULL): instant mode: files without object are served from it by union; else a missing
 * object is NOT_FOUND. */
struct merge_source {
        const char *pack_record_dir; /* directory with the pack's header, manifest and signature, as
                                        generations/N keeps them */
        const char *sysfs_pci;
        const char *sysfs_block, *dev; /* for virtio-pmem; NULL: not looked for */
        const char *socket;            /* of the agent, which reads over the other transports; NULL: none */
};
Prepared *merger_prepare(Merger *m, const Target *want, MergeMethod method, const struct merge_source *source,
                         GCancellable *cancellable, GError **error);
void prepared_free(Prepared *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Prepared, prepared_free)
/* One mount operation for each merge that changes. Calls fault_point("merge") before each and "merged" after.
 * On an error some may be switched: call it again, or go back. */
gboolean merger_switch(Merger *m, Prepared *p, GString *notes, GError **error);
/* Both, where the mounts are there that the merges belong to: a machine may start without one. Idempotent.
 * What was left alone or could not be tidied is in @notes. */
gboolean merger_apply(Merger *m, const Target *want, MergeMethod method, const struct merge_source *source,
                      GString *notes, GError **error);

/* @mount_fd (detached) takes the place of the merge @path, if that has this tag (the mount's source) and its
 * server does not answer. NOT_FOUND: that is not what is there. For the supervisor of a union's server. */
gboolean merger_revive(Merger *m, const char *path, const char *tag, int mount_fd, GError **error);
