/* host-service/disk-helper/disk_dirs.c - the directories in which moult-disks may work. */
#include "host-service/disk-helper/disk_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"

#define GROUP      "moult-disks"
#define KEY        "directories"
#define CONFIG_MAX 65536u

struct DiskDirs {
        char *config; /* for messages */
        GStrv list;
};

void disk_dirs_free(DiskDirs *d)
{
        if (!d)
                return;
        g_free(d->config);
        g_strfreev(d->list);
        g_free(d);
}

const char *const *disk_dirs_list(const DiskDirs *d)
{
        return (const char *const *)d->list;
}

static gboolean fails(const char *config, MoultError code, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, code, "configuration %s: %s", config, why);
        return FALSE;
}

static GBytes *read_trusted(const char *path, GError **error)
{
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        g_autofree char *text = NULL;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) != 0) {
                moult_error_errno(error, errno, "configuration %s", path);
                return NULL;
        }
        if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & 022) != 0) {
                fails(path, MOULT_ERROR_UNTRUSTED,
                      "others than root can change it ('chown root: ' and 'chmod 644' it)", error);
                return NULL;
        }
        if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX) {
                fails(path, MOULT_ERROR_MALFORMED, "it is no file, or too long", error);
                return NULL;
        }
        text = g_malloc((gsize)st.st_size + 1);
        if (!fd_pread_all(fd, text, (gsize)st.st_size, 0, path, error))
                return NULL;
        return g_bytes_new_take(g_steal_pointer(&text), (gsize)st.st_size);
}

/* What is in it, and nothing that is not known. */
static gboolean judge_keys(GKeyFile *file, const char *config, GError **error)
{
        g_auto(GStrv) groups = g_key_file_get_groups(file, NULL), keys = NULL;

        for (GStrv g = groups; *g; g++)
                if (!g_str_equal(*g, GROUP))
                        return fails(config, MOULT_ERROR_MALFORMED, "there is only the group [" GROUP "]",
                                     error);
        keys = g_key_file_get_keys(file, GROUP, NULL, NULL);
        for (GStrv k = keys; k && *k; k++)
                if (!g_str_equal(*k, KEY))
                        return fails(config, MOULT_ERROR_MALFORMED, "there is only the setting \"" KEY "\"",
                                     error);
        return TRUE;
}

/* As it is compared: "/a/b". */
static gboolean tidy(char *dir)
{
        gsize len = strlen(dir);

        while (len > 1 && dir[len - 1] == '/')
                dir[--len] = 0;
        return dir[0] == '/' && !fs_path_refusal((const guint8 *)dir + 1, len - 1);
}

DiskDirs *disk_dirs_read(const char *path, GError **error)
{
        g_autoptr(DiskDirs) d = g_new0(DiskDirs, 1);
        g_autoptr(GBytes) text = read_trusted(path, error);
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(GError) why = NULL;

        if (!text)
                return NULL;
        if (!g_key_file_load_from_bytes(file, text, G_KEY_FILE_NONE, &why)) {
                fails(path, MOULT_ERROR_MALFORMED, why->message, error);
                return NULL;
        }
        if (!judge_keys(file, path, error))
                return NULL;
        d->config = g_strdup(path);
        d->list = g_key_file_get_string_list(file, GROUP, KEY, NULL, NULL);
        if (!d->list)
                d->list = g_new0(char *, 1);
        for (GStrv each = d->list; *each; each++)
                if (!tidy(g_strstrip(*each))) {
                        fails(path, MOULT_ERROR_MALFORMED,
                              KEY ": each is an absolute path, without '..', and not / itself", error);
                        return NULL;
                }
        return g_steal_pointer(&d);
}

/* What of @dir comes after @listed: "." for nothing. NULL: it is not there or below. */
static const char *rest_of(const char *dir, const char *listed)
{
        gsize len = strlen(listed);

        if (strncmp(dir, listed, len) != 0 || (dir[len] != 0 && dir[len] != '/'))
                return NULL;
        return dir[len] == 0 ? "." : dir + len + 1;
}

static int open_listed(const char *listed, GError **error)
{
        scoped_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct fs_detour detour;
        scoped_fd int fd = fs_beneath_open_directory(root, listed + 1, &detour, error);

        if (fd >= 0 && detour.link) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the way to %s leads over the symbolic link \"%s\", which the user %u can turn "
                            "elsewhere: list where it leads now",
                            listed, detour.link, (guint)detour.owner);
                g_free(detour.link);
                return -1;
        }
        return g_steal_fd(&fd);
}

static int open_below(const char *listed, const char *rest, const char *dir, GError **error)
{
        scoped_fd int fd = open_listed(listed, error), found = -1;

        if (fd < 0)
                return -1;
        if (!g_str_equal(rest, ".") && fs_path_refusal((const guint8 *)rest, strlen(rest))) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is no plain path", dir);
                return -1;
        }
        found = fs_beneath_open_without_links(fd, rest, O_RDONLY | O_DIRECTORY);
        if (found < 0 && errno == ELOOP)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "a symbolic link leads to %s: start the VM with the path where its disk really "
                            "is",
                            dir);
        else if (found < 0)
                moult_error_errno(error, errno, "opening the directory %s", dir);
        return g_steal_fd(&found);
}

int disk_dirs_open(const DiskDirs *d, const char *dir, GError **error)
{
        for (GStrv each = d->list; *each; each++) {
                const char *rest = rest_of(dir, *each);

                if (rest)
                        return open_below(*each, rest, dir, error);
        }
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                "moult-disks may not change files in %s: neither it nor a directory above it is among the "
                "\"" KEY "\" of %s. Add it there, and to ReadWritePaths= of moult-disks@.service; see "
                "moult-disks(8)",
                dir, d->config);
        return -1;
}
