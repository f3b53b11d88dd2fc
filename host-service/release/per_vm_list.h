/* host-service/release/per_vm_list.h - which files are one machine's own, by a list that the operator can
 * read and change.
 *
 * The format is described at the top of per-vm.list, which is compiled in and installed as
 * /usr/share/moult/per-vm.list. */
#pragma once

#include <glib.h>

#define PER_VM_LIST_FILE "/etc/moult/per-vm.list" /* replaces the one that is compiled in */

typedef struct PerVmList PerVmList;

enum per_vm_class {
        PER_VM_IDENTITY, /* refused by a build, left out by a capture */
        PER_VM_NOISE,    /* left out by a capture */
};

/* The list that is compiled in. */
PerVmList *per_vm_list_builtin(void);
/* @path NULL: PER_VM_LIST_FILE if there is one, else the one that is compiled in. A line that cannot be
 * understood is an error (REFUSED) that names it. */
PerVmList *per_vm_list_load(const char *path, GError **error);
/* @name is for errors. */
PerVmList *per_vm_list_parse(const char *text, gsize len, const char *name, GError **error);
void per_vm_list_free(PerVmList *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PerVmList, per_vm_list_free)

/* Pure: NULL, or why @path (below the root, no leading '/') belongs to one machine alone. For what is no
 * directory. @ret_class may be NULL. */
const char *per_vm_list_reason(const PerVmList *l, const char *path, enum per_vm_class *ret_class);
/* Pure: the same for a directory, which goes with all that is below it. */
const char *per_vm_list_directory_reason(const PerVmList *l, const char *path);

/* The patterns (char *): those of directories, or those of the rest. @l NULL: none. */
GPtrArray *per_vm_list_globs(const PerVmList *l, gboolean directories);

/* Pure: what the two use: fnmatch(3) without flags. */
gboolean per_vm_glob_matches(const char *glob, const char *path);
