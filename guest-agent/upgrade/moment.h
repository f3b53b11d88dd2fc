/* guest-agent/upgrade/moment.h - a point in time that a later process can measure from: the boot, and the
 * time since it. Another boot has another clock. */
#pragma once

#include <glib.h>

struct moment {
        char boot[64];
        guint64 ms; /* since that boot, with the time in suspend */
};

void moment_now(struct moment *ret);
/* "boot ID at N ms", as records hold it; the caller frees. */
char *moment_text(const struct moment *m);
/* What a record's text begins with; FALSE: it is something else. */
gboolean moment_parse(const char *text, struct moment *ret);
gboolean moment_is_same_boot(const struct moment *a, const struct moment *b);
/* Of one boot: how much of @timeout_ms is left at @now, when it began at @since. */
guint64 moment_left_ms(const struct moment *since, const struct moment *now, guint64 timeout_ms);
