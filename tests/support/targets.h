/* tests/support/targets.h - targets, and the files that their items want, for tests of the target file
 * system. */
#pragma once

#include "fuse-overlay/object_store.h"

/* Changes that are collected; everything that they point to is owned by the list. */
typedef struct {
        GArray *changes; /* struct target_change */
        GPtrArray *blocks;
} Changes;
Changes *changes_new(void);
void changes_free(Changes *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Changes, changes_free)

/* A change of this type: mode 0644 or 0755, root's, time 1700000000; files have @text's content, links lead
 * to it. On the mount "usr", reach tree. The pointer is good until the next one is added. */
struct target_change *changes_add(Changes *c, Moult__EntryType type, const char *path, const char *text);
struct target_change *changes_file(Changes *c, const char *path, const char *text);
struct target_change *changes_directory(Changes *c, const char *path);
struct target_change *changes_delete(Changes *c, const char *path);
/* The entry of the change, to be altered. */
Moult__Entry *changes_entry(const struct target_change *change);
void changes_xattr(Changes *c, struct target_change *change, const char *name, const void *value, gsize len);

/* Release "app N", generation N. */
Target *targets_compose(const Target *before, guint64 generation, const Changes *c);
/* One line for each item: "file usr/a", "opaque usr/d", "delete usr/b", "directory ...". The caller frees. */
char *targets_text(const Target *t);

/* Puts the object of a FILE entry with this content into the store, by way of a file in the directory
 * @dirfd. */
void targets_put_object(ObjectStore *s, const Moult__Entry *e, const char *text, int dirfd);
