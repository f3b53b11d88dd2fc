/* host-service/push/leftovers.h - windows that may still be plugged although their push has ended.
 *
 * A guest that does not let go, or a daemon that died between the last row and the unplugging. Their packs
 * must not be removed. The pushes' rows remember them; they are taken off at the start of the daemon, by and
 * after every later push to the VM, when the hypervisor says that a window has gone, and every minute. */
#pragma once

#include "host-service/guests/guests.h"

typedef struct Leftovers Leftovers;

/* @is_busy: a push to the VM has a window, which a taking off would take too. */
Leftovers *leftovers_new(const struct host_env *env, Catalogue *c, Guests *g,
                         gboolean (*is_busy)(const char *vm, gpointer user), gpointer user);
void leftovers_free(Leftovers *l);
/* Takes off what the ended pushes of the known VMs may have left. */
void leftovers_begin(Leftovers *l);
void leftovers_add(Leftovers *l, const char *vm, const guint8 digest[static DIGEST_SIZE]);
/* Takes off now what is known to be left in the VM, unless it is busy. */
void leftovers_try(Leftovers *l, const char *vm);
/* Nothing is plugged into the VM any more. */
void leftovers_gone(Leftovers *l, const char *vm);
/* The VM was removed, or is another one now. */
void leftovers_forget(Leftovers *l, const char *vm);
/* A VM that may still map the pack; borrowed; NULL: none. */
const char *leftovers_find_digest(const Leftovers *l, const guint8 digest[static DIGEST_SIZE]);
