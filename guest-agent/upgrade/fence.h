/* guest-agent/upgrade/fence.h - a cgroup around one child and all that it starts, so that all of it can be
 * killed.
 *
 * A process group is left by setsid(), a cgroup is not. It needs a writable cgroup2 with cgroup.kill
 * (Linux 5.14); without, there is no fence, and the process group has to do. */
#pragma once

#include <glib.h>

typedef struct Fence Fence;

/* Below our own cgroup. NULL: there is none to be had. */
Fence *fence_new(void);
/* Waits a moment for what was killed, and removes the cgroup. */
void fence_free(Fence *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fence, fence_free)

/* Moves the calling process in; async-signal-safe. @f may be NULL. */
void fence_enter(const Fence *f);
/* Kills everybody inside; async-signal-safe. @f may be NULL. */
void fence_kill(const Fence *f);
/* The descriptor that fence_kill() writes to, for who closes all others; -1 without a fence. */
int fence_kill_fd(const Fence *f);
