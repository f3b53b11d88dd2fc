/* host-service/release/build_filter.h - what of a plan does not go into the release. Pure: no I/O.
 *
 * A build refuses files that belong to one machine; a capture leaves them out and tells. */
#pragma once

#include "host-service/release/build_plan.h"
#include "host-service/release/per_vm_list.h"

struct build_filter {
        const PerVmList *per_vm;         /* NULL: nothing belongs to one machine */
        const char *const *allow_per_vm; /* paths that go in all the same; a leading '/' is ignored */
        const char *const *include;      /* NULL: everything; else globs as in build_tree_excludes() */
        gboolean leave_out;              /* a capture */
        gboolean keep_directories; /* packages: a directory that the new ones do not have is not theirs to
                                      take away */
};

struct build_left_out {
        char *path;
        const char *reason; /* lives as long as the list */
};

/* Takes items out of @plan (struct build_item). @left_out gets a struct build_left_out for each that belongs
 * to one machine. Names of one file stay together; a directory that is created stays for what is below it,
 * and one that would be deleted stays for what was left out below it. */
void build_filter_apply(const struct build_filter *f, const BuildTree *new_tree, const BuildTree *old_tree,
                        GArray *plan, GPtrArray *left_out);
GPtrArray *build_left_out_new(void);
