/* guest-agent/upgrade/guard.h - kills a child and all that it started if we die before it ends.
 *
 * Nobody else would: the parent-death signal reaches the child alone, and recovery must not run beside
 * scripts of the upgrade that it takes back. A guard is a fork of ours that waits for the end of a pipe. */
#pragma once

#include <glib.h>

#include "guest-agent/upgrade/fence.h"

typedef struct Guard Guard;

/* Before the child is started: it may kill us with its first breath. @fence may be NULL; it is used during
 * the call only. NULL if there is no guard to be had. */
Guard *guard_new(const Fence *fence);
/* In the child, before it is another program: its process group is the one to be killed. Async-signal-safe.
 * @g may be NULL. */
void guard_enter(const Guard *g);
/* The child is over: the guard goes, without killing anybody. */
void guard_free(Guard *g);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Guard, guard_free)
