/* guest-agent/freeze_hooks.h - the machine's own hooks around a freeze: HOOKS/pre-freeze.d before it, by
 * name, and HOOKS/post-thaw.d after it, in the opposite order.
 *
 * A hook is an executable file of root's that nobody else can write, in a directory of the same kind; a link
 * to one will do. What is not executable, or is named like a left-over (".x", "x~", "x.dpkg-old"), is none.
 * An executable that others can change is an error and not left out: its application would be taken for
 * quiesced. The hook gets "freeze" or "thaw". A pre-freeze hook may leave a process behind that holds
 * something until its post-thaw hook ends it. */
#pragma once

#include <gio/gio.h>

struct freeze_hooks {
        const char *directory; /* with pre-freeze.d and post-thaw.d */
        guint timeout_ms;      /* of each */
        const guint8 *id;      /* of the freeze */
        /* Before each pre-freeze hook is run. FALSE: no more of them; it is not run. */
        gboolean (*begins)(const char *name, gpointer user);
        gpointer user;
};

/* Names of the hooks in DIRECTORY/@stage ("pre-freeze.d" or "post-thaw.d"), in order of name; no such
 * directory: none. NULL with @error (HOOK). */
GStrv freeze_hooks_list(const char *directory, const char *stage, GError **error);
/* Which post-thaw hooks run after these pre-freeze hooks were begun, in the order in which they run: one that
 * has a namesake among the pre-freeze hooks (@pre) runs if that was begun, any other in any case. Pure. */
GStrv freeze_hooks_due(const char *const *post, const char *const *pre, const char *const *begun);

/* Runs the pre-freeze hooks. *ret_run: how many succeeded, also on failure. FALSE with @error (HOOK, or
 * CANCELLED if `begins` said so), *ret_hook and *ret_output of the failed one (the caller frees). */
gboolean freeze_hooks_pre(const struct freeze_hooks *h, guint *ret_run, char **ret_hook, char **ret_output,
                          GError **error);
/* Runs the post-thaw hooks that are due, every one of them; the first failure is the one that is told. */
gboolean freeze_hooks_post(const struct freeze_hooks *h, const char *const *begun, char **ret_hook,
                           char **ret_output, GError **error);
