/* host-service/release/build_plan.h - which entries turn the old tree into the new one. Pure: no I/O, no
 * writing.
 *
 * Without an old tree: all of the new one. With one: what differs in type, content, metadata or in which
 * names are links of one file; names that are gone; nothing else. A different modification time alone is a
 * difference only when asked for, since a rebuilt package touches every file. */
#pragma once

#include <stdbool.h>

#include "host-service/release/build_tree.h"

enum build_change {
        BUILD_CREATE,   /* the old tree has nothing there */
        BUILD_CONTENT,  /* other bytes, link text or device number */
        BUILD_METADATA, /* same content; other mode, owner, attributes (or mtime) */
        BUILD_TYPE,     /* something of another type is there */
        BUILD_LINKS,    /* unchanged itself, but a name of a file that is changed or linked otherwise */
        BUILD_DELETE,   /* the new tree has nothing there */
        BUILD_CHANGES
};

/* Stable word, as in JSON: "create", "content", ... */
const char *build_change_name(enum build_change c);

struct build_item {
        enum build_change change;
        gssize new_index; /* into the new tree; -1 for a deletion */
        gssize old_index; /* into the old tree; -1 for a creation */
};

/* Which files must have a digest before build_plan_make() is called: indices of group leaders, as guint. */
void build_plan_wanted(const BuildTree *new_tree, const BuildTree *old_tree, GArray *new_wanted,
                       GArray *old_wanted);

/* @old_tree may be NULL. Items are in path order. Digests that build_plan_wanted() named must be set. */
GArray *build_plan_make(const BuildTree *new_tree, const BuildTree *old_tree, bool mtime_counts);

const char *build_item_path(const BuildTree *new_tree, const BuildTree *old_tree,
                            const struct build_item *item);
