/* fuse-overlay/targetfs/read_deadline.c - until when the read that this thread works on must be answered. */
#include "fuse-overlay/targetfs/read_deadline.h"

static GPrivate deadline = G_PRIVATE_INIT(g_free);

void read_deadline_begin(void)
{
        gint64 *until = g_private_get(&deadline);
        if (until == NULL) {
                until = g_new(gint64, 1);
                g_private_set(&deadline, until);
        }
        *until = g_get_monotonic_time() + READ_WITHIN_S * G_USEC_PER_SEC;
}

int read_deadline_left_ms(void)
{
        const gint64 *until = g_private_get(&deadline);
        if (until == NULL)
                return READ_WITHIN_S * 1000;
        return (int)MAX((*until - g_get_monotonic_time()) / 1000, 0);
}
