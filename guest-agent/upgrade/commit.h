/* guest-agent/upgrade/commit.h - the switch, and the way back: idempotent, from the durable plan alone.
 *
 * Theory of operation: a staged object is in one of two places, its staging name or its live name, and its
 * inode number tells which (commit_walk.c); so "do it" can be said any number of times, also by a recovery
 * that is itself killed. Who works from the plan that was just made and who recovers runs the same code. What
 * somebody else has put under a live name meanwhile is left alone and reported. */
#pragma once

#include <glib.h>

#include "guest-agent/upgrade/record.pb-c.h"
#include "shm/manifest.h"

struct commit_context {
        int root_fd;
        guint64 generation;
        const Moult__Record__Plan *plan;
        const Manifest *manifest;
        gboolean recovering;  /* forward: report what is not as expected instead of failing */
        gboolean force;       /* back: also over what somebody changed since */
        gboolean leave_agent; /* forward: all but the agent's own program, which is to be tried first */
        gboolean gentle;      /* sync directories one by one instead of whole file systems */
        /* AREA/.moult/N, by area, opened before the first staged byte was written, so that its syncfs tells
         * of every error since; -1, or NULL as a whole: opened when the walk begins. */
        const int *area_fds;
};

/* All switches and in-place changes, then everything synced. *notes gets a line for each thing that was left
 * alone. On an error some may be done: go back, or call it again. */
gboolean commit_forward(const struct commit_context *c, GString *notes, GError **error);
/* The agent's own program, which the plan names and commit_forward() has left: opened to be tried. *ret_fd is
 * -1 if it is in its place already, or if it is not switched by a rename. */
gboolean commit_open_agent(const struct commit_context *c, int *ret_fd, GError **error);
/* That one switch, synced. Nothing to do if it was done. */
gboolean commit_forward_agent(const struct commit_context *c, GString *notes, GError **error);
/* The reverse, in reverse order, synced. What cannot be moved does not stop the rest: the first error is
 * returned at the end. */
gboolean commit_back(const struct commit_context *c, GString *notes, GError **error);
/* Syncs what staging wrote. */
gboolean commit_sync_staged(const struct commit_context *c, GError **error);
/* --- commit_since.c --- */

/* The live objects, or what is listed below directories that came as a whole, differ from what the switch
 * left: names them in *ret (NULL: none; at most a dozen). MOULT_ERROR_REFUSED: something cannot be moved at
 * all (flags, mounts), so that going back would stop half-way. */
gboolean commit_changed_since(const struct commit_context *c, char **ret, GError **error);
/* True if every object for a way back is where it must be. */
gboolean commit_can_go_back(const struct commit_context *c);
/* Removes the staging areas. With @notes (may be NULL), staged directories that hold something that the
 * release does not know, or that was changed, are kept and named there. MOULT_ERROR_NOT_FOUND: the file
 * system of one is not there. */
gboolean commit_clean(const struct commit_context *c, GString *notes, GError **error);
