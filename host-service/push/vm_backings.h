/* host-service/push/vm_backings.h - on which backing files the VMs stand that are pushed to, and how many
 * that share one may be at once.
 *
 * Clones read what they have not changed from one file: pushes to all of them at once plan and compare by
 * reading the same parts of it, and write beside it on one disk. The hypervisor is asked once for each push,
 * when the guest is there and a place is free. Whose disks cannot be known shares with nobody: a limit that
 * is not met must never keep a push from its guest. */
#pragma once

#include "host-service/push/push.h"

typedef struct VmBackings VmBackings;

/* @limit: pushes at once for one backing file; 0: any, and nobody is asked. @answered runs from the loop when
 * vm_backings_fit() may say something else. */
VmBackings *vm_backings_new(Guests *g, guint limit, void (*answered)(gpointer user), gpointer user);
/* After the guests are gone, as vm_notes_free(). */
void vm_backings_free(VmBackings *b);

/* Whether @p may talk beside those of @running (of Push) that do. FALSE also while it is not known: then the
 * hypervisor is asked, or will be, and @answered runs. */
gboolean vm_backings_fit(VmBackings *b, const GPtrArray *running, const Push *p);
/* For a push that talks already (an earlier moultd began it): so that others can be compared with it. */
void vm_backings_ask(VmBackings *b, const char *vm);
/* Its push has ended; the disks of the next one are asked for anew. */
void vm_backings_forget(VmBackings *b, const char *vm);
/* Its hypervisor is another one now: the old one does not answer any more. */
void vm_backings_vm_changed(VmBackings *b, const char *vm);
