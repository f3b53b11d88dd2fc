/* host-service/socket_group.c - gives a file to a group, where that is not so already. */
#include "host-service/socket_group.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

gboolean socket_group_give(const char *path, const char *group, GError **error)
{
        struct group *g = group ? getgrnam(group) : NULL;

        if (!group)
                return TRUE;
        if (!g) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "socket-group: there is no group \"%s\"", group);
                return FALSE;
        }
        struct stat st;
        if (lstat(path, &st) == 0 && st.st_gid == g->gr_gid)
                return TRUE; /* moultd runs as this group: a user without privileges may not even ask */
        if (lchown(path, (uid_t)-1, g->gr_gid) < 0)
                return moult_error_errno(error, errno, "giving %s to the group %s", path, group);
        return TRUE;
}
