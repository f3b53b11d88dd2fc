/* guest-agent/upgrade/floor.c - the highest security floor that was committed: no older release after it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/upgrade/engine.h"

gboolean floor_read(Upgrade *u, guint64 *ret, GError **error)
{
        g_autoptr(GError) why = NULL;
        if (u->state_fd < 0) {
                *ret = 0;
                return TRUE;
        }
        g_autoptr(GBytes) b = fd_read_file_at(u->state_fd, "floor", 64, &why);
        if (b == NULL) {
                if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                        *ret = 0;
                        return TRUE;
                }
                g_propagate_prefixed_error(error, g_steal_pointer(&why), "reading the security floor: ");
                return FALSE;
        }
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        g_autofree char *text = g_strchomp(g_strndup(data != NULL ? data : "", len));
        if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, ret, NULL))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "the security floor in %s/floor is not a number: restore it from a sibling machine",
                    u->state_dir);
        return FALSE;
}

gboolean floor_prepare(Upgrade *u, int dirfd, guint64 floor, GError **error)
{
        guint64 now;
        if (!floor_read(u, &now, error))
                return FALSE;
        if (floor <= now)
                return TRUE;
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", floor);
        return atomic_file_write_at(dirfd, "floor", text, strlen(text), 0600, error);
}

gboolean floor_raise(Upgrade *u, int dirfd, guint64 floor, GError **error)
{
        guint64 now;
        if (!floor_read(u, &now, error))
                return FALSE;
        if (floor <= now)
                return TRUE;
        int fake = fault_point("floor");
        if (fake != 0 || renameat(dirfd, "floor", u->state_fd, "floor") < 0)
                return moult_error_errno(error, fake != 0 ? fake : errno, "raising the security floor");
        return fsync(u->state_fd) == 0 ? TRUE
                                       : moult_error_errno(error, errno, "syncing the raised security floor");
}
