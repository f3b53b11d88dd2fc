/* host-service/release/import.h - the work of an import, for a worker thread: copy, judge the copy, seal. */
#pragma once

#include "host-service/catalogue/releases.h"
#include "host-service/env.h"

struct release_import {
        const struct host_env *env;
        char *path;      /* what to import */
        char *operation; /* names the temporary and the sealed file */
        char *trust_dir;
        /* A pull: the temporary file is there, and this is it, of this size; @path names it for people. Its
         * release must have this name and version. */
        gboolean in_place;
        int fd; /* owned */
        char *expect_name, *expect_version;
        gint64 done, total; /* bytes copied and verified; atomic: the loop looks at them */
        /* results: */
        ReleaseRecord *release;
        GStrv paths; /* what the release changes, but for directories */
};
void release_import_free(struct release_import *i);

/* TRUE: the pack is sealed in the store under i->release->file, and nobody knows it yet. FALSE: nothing is
 * left. */
gboolean release_import_run(struct release_import *i, GCancellable *cancellable, GError **error);

/* The name of an unsealed file of @operation. */
char *release_import_temp_name(const char *operation);
