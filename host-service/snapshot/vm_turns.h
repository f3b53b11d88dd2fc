/* host-service/snapshot/vm_turns.h - one at a time changes the chains of a VM's disks: a snapshot, a merge, a
 * rollback.
 *
 * Whoever comes while somebody else has the turn waits, in the order of the asking: nobody has to ask again
 * because moultd merges in the background. All calls from the loop. */
#pragma once

#include "host-service/env.h"

typedef struct VmTurns VmTurns;

VmTurns *vm_turns_new(const struct host_env *env);
/* Nobody waits any more. */
void vm_turns_free(VmTurns *t);

/* It is @user's turn, until vm_turns_leave(). */
typedef void (*vm_turn_func)(gpointer user);
/* @granted runs once, later from the loop. @what ("a snapshot is being taken") and the answer are static:
 * what is done meanwhile that @user waits for; NULL: nothing. */
const char *vm_turns_ask(VmTurns *t, const char *vm, const char *what, vm_turn_func granted, gpointer user);
/* Of the turn that @user has, or waits for; or of none. */
void vm_turns_leave(VmTurns *t, gconstpointer user);
