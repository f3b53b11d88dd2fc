/* guest-agent/upgrade/hooks.h - the release's own scripts, and the restart of services. */
#pragma once

#include <gio/gio.h>

#include "shm/manifest.h"

struct hook_context {
        const Manifest *manifest;
        const char *root; /* not "/": offline; hooks see MOULT_ROOT, units are not restarted */
        /* The tree is a machine that does not run: hooks see it as "/" (chroot), with MOULT_OFFLINE=1, and
         * those of the stage health are left out. */
        gboolean inside;
        guint64 generation;
        const guint8 *push_id;    /* 16 bytes */
        const char *init_command; /* NULL: found by looking */
        /* Before each: its name, NULL output; after: its output. May be NULL. */
        void (*observe)(const char *hook, const char *output, gpointer user);
        gpointer user;
};

const char *hook_stage_name(Moult__HookStage stage);
/* Runs the stage's hooks in their order; the first failure ends it. MOULT_ERROR_HOOK (HEALTH for health
 * hooks; TIMEOUT is told in the text). */
gboolean hooks_run(const struct hook_context *c, Moult__HookStage stage, GError **error);
/* Restarts the units that run. MOULT_ERROR_HEALTH names the one that did not come up. */
gboolean units_restart(const struct hook_context *c, GError **error);
/* One of them, whatever the list says. REFUSED: it is the agent itself, or the root is not this machine's. */
gboolean unit_restart_one(const struct hook_context *c, const char *unit, GError **error);
/* The same on the way back: every one is tried, since each that is left out goes on with the code that was
 * taken back. Those that did not come up are told in @notes, a line each. */
void units_restart_all(const struct hook_context *c, GString *notes);
