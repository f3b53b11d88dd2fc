/* guest-agent/upgrade/classify.h - what is at a path, and whether it can be overwritten there (U6).
 *
 * Facts are gathered by looking (statx, mount table), never guessed; the judgement over them is pure. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "common/mounts.h"
#include "proto/manifest.pb-c.h"

/* The object that a name stands for now. */
struct object_facts {
        gboolean exists;
        mode_t mode; /* type and permission bits */
        uid_t uid;
        gid_t gid;
        guint64 inode;
        dev_t dev;
        dev_t rdev;
        guint64 size;
        guint32 links;
        struct timespec mtime, ctime;
        gint64 birth_ns; /* time of birth; 0: the file system keeps none */
        guint64 mount_id;
        gboolean immutable, append_only, verity, encrypted;
        gboolean swap; /* in /proc/swaps */
};

/* The place where it would be switched. */
struct place_facts {
        const char *mount_point, *fs_type;
        FsKind kind;
        gboolean read_only_mount, read_only_super;
        gboolean directory_immutable, directory_append_only;
        gboolean area_closed;   /* the top of the area is immutable: no staging area can be made there */
        gboolean other_key;     /* encrypted, and the staging area is not */
        gboolean other_project; /* another project quota than the staging area */
        gboolean is_overlay;
};

/* What is to be done with the object. */
typedef enum {
        CHANGE_CREATE,
        CHANGE_EXCHANGE, /* another object under the same name */
        CHANGE_REMOVE,
        CHANGE_IN_PLACE, /* a directory's metadata */
} Change;

/* NULL if the change can be made, else why not, for people. Pure; the caller frees. */
char *classify_refusal(Change change, const struct object_facts *object, gboolean is_mount_point,
                       const struct place_facts *place);

/* NULL, or why the object cannot be deleted, whatever directory it is carried away in. Pure. */
const char *classify_stays(const struct object_facts *object);

/* How a change comes to be seen. */
typedef enum {
        REACH_WRITE, /* in place, by one rename (or in the directory itself) */
        REACH_TREE,  /* through the target file system: a directory above it is merged */
        REACH_FILE,  /* through the target file system: the file is merged by itself */
        REACH_NONE,  /* not at all */
} PlanReach;

/* @becomes_file: what is to be there is a regular file. @merged: the object is one that we have merged by
 * itself. *ret_reason: why it is not simply written, for people (NULL for REACH_WRITE); the caller frees.
 * Pure; the table is in docs/target-file-system.md. */
PlanReach classify_reach(Change change, const struct object_facts *object, gboolean is_mount_point,
                         gboolean merged, gboolean becomes_file, const struct place_facts *place,
                         Moult__Delivery delivery, char **ret_reason);
/* The place is on a file system or mount that is read-only, and of a kind that can be merged. Pure. */
gboolean classify_is_tree(const struct place_facts *place);

/* statx of @name in @dirfd, not followed; "" with AT_EMPTY_PATH semantics for @dirfd itself. A name that is
 * not there is a fact, not an error. */
gboolean classify_look(int dirfd, const char *name, struct object_facts *ret, GError **error);

/* Inodes that are in use as swap files: set of "DEV:INODE" strings. */
GHashTable *classify_swap_files(void);
gboolean classify_is_swap(GHashTable *swaps, const struct object_facts *f);
