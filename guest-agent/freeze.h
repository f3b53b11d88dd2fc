/* guest-agent/freeze.h - the one freeze at a time: what the host may do with it, and what is true of it now
 * (docs/snapshots.md, Quiesce).
 *
 * Theory of operation: hooks run in a worker thread; then a process of its own freezes and holds
 * (freezer.h), and tells each change over a socket. The main loop keeps what is true and answers every
 * command with it. While something may be frozen nothing in the main loop may write to a file that is not in
 * memory: the log is held back (event_hold()), and what writes in threads just waits.
 *
 * What an agent that comes up must know lies in memory beside the command socket: the freezer's record and
 * socket, and freeze.state, which this file keeps: the freeze's id, and which hooks were begun.
 *
 *   begin -> HOOKS [pre-freeze.d] -> FREEZING [freezer] -> FROZEN -> THAWING [freezer, post-thaw.d] -> THAWED
 */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/peers.h"

typedef struct Freezes Freezes;

struct freezes_events {
        /* NULL if a freeze may begin, as far as upgrades are concerned; else why not. */
        const char *(*busy)(gpointer user);
};

/* Looks for a freeze that an earlier agent has begun: nothing may be written before freezes_is_frozen() was
 * asked. @config and @peers must outlive it. */
Freezes *freezes_new(const struct agent_config *config, Peers *peers, const struct freezes_events *events,
                     gpointer user);
/* What is frozen stays so until its lease ends. */
void freezes_free(Freezes *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Freezes, freezes_free)

/* Takes over @ticket. */
void freezes_request(Freezes *f, struct ticket *ticket, const Moult__Freeze *request);

/* NULL, or why no upgrade may write now: something is frozen, or about to be. */
const char *freezes_hold_back(const Freezes *f);
/* Something may be frozen just now. */
gboolean freezes_is_frozen(const Freezes *f);
/* freezes_free() would have to wait, for a hook say. It is safe to just end the process. */
gboolean freezes_is_working(const Freezes *f);
