/* common/fault.h - named points at which tests make the program die or a call fail.
 *
 * Compiled in only with MOULT_FAULT_POINTS (presets dev, faults, tsan). Then the environment decides:
 *   MOULT_FAULT=NAME[:N]=ACTION[,NAME...]   at the N-th passing (default 1st) of point NAME
 *     ACTION: kill (SIGKILL to ourselves) | stop (SIGSTOP) | hold | eio | enospc | skip
 *     hold: the thread makes the file that MOULT_FAULT_HOLD names, and waits until somebody removes it
 *   MOULT_FAULT_TRACE=FILE   appends "NAME\n" for each passing, so that a campaign can list the points.
 * In a release build both calls are constants. */
#pragma once

#include <stdbool.h>

#ifdef MOULT_FAULT_POINTS
/* Passes the point @name. Returns 0 to go on, or the errno value (EIO, ENOSPC) that the caller must pretend.
 */
int fault_point(const char *name);
/* For the sync calls: true if the test wants this one left out. */
bool fault_skip(const char *name);
#else
static inline int fault_point(const char *name)
{
        (void)name;
        return 0;
}
static inline bool fault_skip(const char *name)
{
        (void)name;
        return false;
}
#endif
