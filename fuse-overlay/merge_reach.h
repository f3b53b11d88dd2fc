/* fuse-overlay/merge_reach.h - would the machine see what is merged? Not from a mount namespace of our own,
 * unless its mounts are shared with the machine's. */
#pragma once

#include "common/mounts.h"
#include "fuse-overlay/target.h"

/* The first place of @t at which something mounted in the namespace of @own is not seen in that of @machine;
 * NULL: there is none. Owned by @t. Pure. */
const char *merge_reach_hidden(const Target *t, const MountTable *own, const MountTable *machine);

/* Whether this process has another mount namespace than process 1, and whether what it mounts in its own root
 * is seen there all the same. */
enum merge_reach { REACH_UNKNOWN, REACH_SAME, REACH_SHARED, REACH_HIDDEN };
enum merge_reach merge_reach_of_root(void);

/* REFUSED with what to change if the machine (the namespace of process 1) would not see the merges of @t
 * below its root.
 */
gboolean merge_reach_check(const Target *t, GError **error);
