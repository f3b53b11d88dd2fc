/* guest-agent/upgrade/moment.c - a point in time that a later process can measure from. */
#include "guest-agent/upgrade/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

void moment_now(struct moment *ret)
{
        g_autofree char *boot = NULL;
        struct timespec now;
        if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
                boot = g_strdup("unknown");
        g_strlcpy(ret->boot, g_strchomp(boot), sizeof ret->boot);
        clock_gettime(CLOCK_BOOTTIME, &now);
        ret->ms = (guint64)now.tv_sec * 1000 + (guint64)now.tv_nsec / 1000000;
}

char *moment_text(const struct moment *m)
{
        return g_strdup_printf("boot %s at %" G_GUINT64_FORMAT " ms", m->boot, m->ms);
}

gboolean moment_parse(const char *text, struct moment *ret)
{
        return sscanf(text, "boot %63s at %" SCNu64 " ms", ret->boot, &ret->ms) == 2;
}

gboolean moment_is_same_boot(const struct moment *a, const struct moment *b)
{
        return g_str_equal(a->boot, b->boot);
}

guint64 moment_left_ms(const struct moment *since, const struct moment *now, guint64 timeout_ms)
{
        guint64 waited = now->ms > since->ms ? now->ms - since->ms : 0;
        return timeout_ms > waited ? timeout_ms - waited : 0;
}
