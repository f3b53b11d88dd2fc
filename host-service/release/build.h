/* host-service/release/build.h - from a directory tree (and the one before it) to a signed release pack.
 *
 * Theory of operation: scan both trees (names and metadata), hash in parallel what has to be compared, make a
 * plan (build_plan.h, pure), then hand entry by entry to the pack writer. Nothing appears at the output path
 * before all of it is on disk; any error or cancellation leaves nothing behind. The same input gives the same
 * bytes. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "host-service/release/build_filter.h"
#include "host-service/release/build_delta.h"
#include "host-service/release/build_plan.h"
#include "proto/manifest.pb-c.h"
#include "shm/keys.h"

struct release_hook {
        Moult__HookStage stage;
        char *name;
        char *path; /* the script, on this machine */
        uint32_t timeout_ms;
};

struct release_requirement {
        char *key, *value;
};

struct release_build_options {
        const char
                *new_dir; /* what it is called in errors, where release_build_trees() has the tree itself */
        const char *old_dir; /* NULL: everything is put in */
        const char *output;
        const char *name, *version, *description;
        uint64_t created_unix_s;
        uint64_t security_floor;
        int zstd_level; /* 0: store raw */
        bool no_deltas; /* else: deltas against old_dir, and against delta_dirs */
        const char *const *delta_dirs;
        int delta_level; /* 0: BUILD_DELTA_LEVEL */
        bool no_trees;   /* files cannot be read block by block: no instant push */
        Moult__Delivery delivery;
        bool owner_root;            /* every owner and group becomes root */
        bool mtime_counts;          /* another mtime alone is a difference */
        bool replace;               /* an existing file at output may be replaced */
        const PerVmList *per_vm;    /* NULL: the list that is compiled in */
        bool capture;               /* leave out what belongs to one machine instead of refusing */
        bool packages;              /* the trees are sets of packages (build_filter.h) */
        const char *const *include; /* NULL: everything */
        const char *const *allow_per_vm, *const *exclude, *const *exclude_xattr;
        const char *const *restart_units;
        const struct release_hook *hooks;
        unsigned n_hooks;
        const struct release_requirement *requirements;
        unsigned n_requirements;
        SigningKey *const *keys;
        unsigned n_keys;
        unsigned threads; /* 0: one per CPU */
};

enum release_build_phase { RELEASE_BUILD_SCAN, RELEASE_BUILD_HASH, RELEASE_BUILD_WRITE, RELEASE_BUILD_DELTA };

struct release_build_progress {
        enum release_build_phase phase;
        uint64_t bytes_done, bytes_total;
        uint32_t items_done, items_total;
};

/* Called from any thread, one call at a time, often: the callee decides how often it shows something. */
typedef void (*release_build_observer)(const struct release_build_progress *p, gpointer user);

struct release_build_report {
        uint32_t changes[BUILD_CHANGES]; /* entries by kind of change */
        uint32_t entries, unchanged;     /* in the pack; in the new tree and not in the pack */
        uint64_t bytes_before;           /* old sizes of the files that are replaced or deleted */
        uint64_t bytes_after; /* sizes of the files in the pack, each content of a hard-link group once */
        uint64_t pack_bytes;
        struct build_delta_report deltas;
        uint8_t manifest_digest[DIGEST_SIZE];
        GPtrArray *listing;  /* struct release_build_change, in path order */
        GPtrArray *left_out; /* struct build_left_out: differs, and belongs to one machine (capture) */
        GPtrArray *warnings; /* char *: what the user should know although the pack is good */
};

struct release_build_change {
        enum build_change change;
        char *path;
};

void release_build_report_clear(struct release_build_report *r);

/* Blocks. @observer may be NULL. On success @ret is filled; the caller clears it.
 * Errors: REFUSED (sockets, per-VM files, limits, an empty difference), NOT_FOUND, BUSY (changed meanwhile or
 * output exists), CANCELLED, NO_SPACE, IO. */
gboolean release_build(const struct release_build_options *options, release_build_observer observer,
                       gpointer user, GCancellable *cancellable, struct release_build_report *ret,
                       GError **error);
/* The same from trees that were read already. Takes them over; @old_tree may be NULL. */
gboolean release_build_trees(const struct release_build_options *options, BuildTree *new_tree,
                             BuildTree *old_tree, release_build_observer observer, gpointer user,
                             GCancellable *cancellable, struct release_build_report *ret, GError **error);
