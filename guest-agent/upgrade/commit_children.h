/* guest-agent/upgrade/commit_children.h - is what lies in a directory that comes or goes as a whole what the
 * release lists there? */
#pragma once

#include <glib.h>

#include "guest-agent/upgrade/classify.h"
#include "shm/manifest.h"

typedef enum {
        CHILDREN_DELETED, /* an old directory: a name that the release does not delete is unexpected */
        CHILDREN_CHANGED, /* a new one: a listed name whose object is not as listed any more */
        CHILDREN_FOREIGN, /* a new one: that, and names that are not listed */
} ChildrenQuestion;

/* The live object is not as the entry lists it: type, size, time, owner. */
gboolean commit_differs_from_entry(const Manifest *m, const struct object_facts *live, const Moult__Entry *e);
/* The first unexpected path at any depth in the directory @name of @dirfd, which the manifest calls @path;
 * NULL if there is none (or no directory). What cannot be read counts as unexpected. */
char *commit_children_unexpected(const Manifest *m, int dirfd, const char *name, const char *path,
                                 ChildrenQuestion question);
