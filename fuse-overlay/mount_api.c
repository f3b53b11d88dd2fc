/* fuse-overlay/mount_api.c - the kernel's mount calls that work on descriptors, with errors that say what and
 * where. */
#include "fuse-overlay/mount_api.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"

/* Not in glibc 2.36. */
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

#define LOG_BYTES_MAX    1024u
#define FDINFO_BYTES_MAX 65536u

/* "e overlay: No changes allowed in upper layer": what the kernel says about why, oldest first. */
static char *context_log(int context_fd)
{
        GString *text = g_string_new(NULL);
        char line[LOG_BYTES_MAX];
        for (;;) {
                ssize_t n = read(context_fd, line, sizeof line - 1);
                if (n <= 0)
                        break;
                line[n] = '\0';
                g_strchomp(line);
                /* A letter for how grave it is, and a blank. */
                const char *said = n > 2 && line[1] == ' ' ? line + 2 : line;
                g_string_append_printf(text, "%s%s", text->len > 0 ? "; " : " (", said);
        }
        if (text->len > 0)
                g_string_append_c(text, ')');
        return g_string_free(text, FALSE);
}

static gboolean context_fails(int context_fd, int saved, const char *type, const char *doing, GError **error)
{
        g_autofree char *log = context_log(context_fd);
        return moult_error_errno(error, saved, "making a mount of type %s: %s%s", type, doing, log);
}

int mount_api_make(const char *type, const char *source, const struct mount_option *options, guint n_options,
                   unsigned attr, GError **error)
{
        scoped_fd int context = fsopen(type, FSOPEN_CLOEXEC);
        if (context < 0) {
                moult_error_errno(error, errno, "this kernel offers no file system of type %s", type);
                return -1;
        }
        if (fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0) != 0) {
                context_fails(context, errno, type, "its source", error);
                return -1;
        }
        for (guint i = 0; i < n_options; i++) {
                const struct mount_option *o = &options[i];
                unsigned command = o->value == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
                if (fsconfig(context, command, o->key, o->value, 0) == 0)
                        continue;
                int saved = errno;
                g_autofree char *doing = g_strdup_printf("option %s%s%s", o->key, o->value != NULL ? "=" : "",
                                                         o->value != NULL ? o->value : "");
                context_fails(context, saved, type, doing, error);
                return -1;
        }
        if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0) {
                context_fails(context, errno, type, "the kernel refused it", error);
                return -1;
        }
        int fd = fsmount(context, FSMOUNT_CLOEXEC, attr);
        if (fd < 0)
                context_fails(context, errno, type, "fsmount", error);
        return fd;
}

static int clone_mount(int fd, unsigned more, const char *what, GError **error)
{
        int tree = open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | more);
        if (tree < 0)
                moult_error_errno(error, errno, "cloning the mount at %s", what);
        return tree;
}

int mount_api_clone(int fd, const char *what, GError **error)
{
        return clone_mount(fd, 0, what, error);
}

int mount_api_clone_tree(int fd, const char *what, GError **error)
{
        return clone_mount(fd, AT_RECURSIVE, what, error);
}

gboolean mount_api_move(int mount_fd, int place_fd, MountWhere where, const char *what, GError **error)
{
        unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
        if (where == MOUNT_BENEATH)
                flags |= MOVE_MOUNT_BENEATH;
        if (move_mount(mount_fd, "", place_fd, "", flags) != 0)
                return moult_error_errno(error, errno, "mounting %s %s",
                                         where == MOUNT_BENEATH ? "beneath" : "at", what);
        return TRUE;
}

gboolean mount_api_has_beneath(void)
{
        if (fault_skip("mount-beneath"))
                return FALSE; /* as on an older kernel */
        /* Flags are looked at first: EINVAL where this one is unknown, else EBADF for the descriptors. */
        unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_BENEATH;
        return move_mount(-1, "", -1, "", flags) != 0 && errno == EBADF;
}

static gboolean set_attr(int fd, struct mount_attr attr, gboolean tree, const char *what, GError **error)
{
        unsigned flags = AT_EMPTY_PATH | (tree ? AT_RECURSIVE : 0u);
        if (mount_setattr(fd, "", flags, &attr, sizeof attr) != 0)
                return moult_error_errno(error, errno, "setting the flags of the mount at %s", what);
        return TRUE;
}

gboolean mount_api_set_attr(int fd, guint64 set, guint64 clear, const char *what, GError **error)
{
        struct mount_attr attr = {.attr_set = set, .attr_clr = clear & ~set};
        return set_attr(fd, attr, FALSE, what, error);
}

gboolean mount_api_set_propagation(int fd, guint64 propagation, gboolean tree, const char *what,
                                   GError **error)
{
        struct mount_attr attr = {.propagation = propagation};
        return set_attr(fd, attr, tree, what, error);
}

gboolean mount_api_detach(int fd, const char *what, GError **error)
{
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        if (umount2(path, MNT_DETACH) != 0)
                return moult_error_errno(error, errno, "unmounting %s", what);
        return TRUE;
}

guint64 mount_api_id(int fd)
{
        g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
        g_autoptr(GBytes) info = fd_read_file_at(AT_FDCWD, path, FDINFO_BYTES_MAX, NULL);
        if (info == NULL)
                return 0;
        gsize len;
        const char *data = g_bytes_get_data(info, &len);
        g_autofree char *text = g_strndup(data != NULL ? data : "", len);
        const char *line = strstr(text, "mnt_id:");
        return line != NULL ? g_ascii_strtoull(line + strlen("mnt_id:"), NULL, 10) : 0;
}

char *mount_api_path(int fd)
{
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        return g_file_read_link(link, NULL);
}
