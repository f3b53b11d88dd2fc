/* guest-agent/upgrade/owners.c - which package of the guest's own package manager owns a path: dpkg's file
 * lists. */
#include "guest-agent/upgrade/owners.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fs_beneath.h"

#define INFO_DIR       "var/lib/dpkg/info"
#define LIST_BYTES_MAX (64u * 1024u * 1024u)

struct Owners {
        int root_fd;
        GHashTable *by_path; /* "/usr/bin/x" -> package; NULL before the first question */
        GPtrArray *texts;    /* the lists; paths point into them */
        GPtrArray *packages;
};

Owners *owners_load(int root_fd)
{
        Owners *o = g_new0(Owners, 1);
        o->root_fd = root_fd;
        return o;
}

void owners_free(Owners *o)
{
        if (o == NULL)
                return;
        g_clear_pointer(&o->by_path, g_hash_table_unref);
        g_clear_pointer(&o->texts, g_ptr_array_unref);
        g_clear_pointer(&o->packages, g_ptr_array_unref);
        g_free(o);
}

static void list_add(Owners *o, int dirfd, const char *name)
{
        g_autoptr(GBytes) b = fd_read_file_at(dirfd, name, LIST_BYTES_MAX, NULL);
        if (b == NULL)
                return;
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        char *text = g_strndup(data != NULL ? data : "", len);
        char *package = g_strndup(name, strlen(name) - strlen(".list"));
        g_ptr_array_add(o->texts, text);
        g_ptr_array_add(o->packages, package);
        for (char *line = text; *line != '\0';) {
                char *newline = strchr(line, '\n');
                if (newline != NULL)
                        *newline = '\0';
                g_hash_table_insert(o->by_path, line, package);
                if (newline == NULL)
                        break;
                line = newline + 1;
        }
}

static void read_lists(Owners *o)
{
        o->by_path = g_hash_table_new(g_str_hash, g_str_equal);
        o->texts = g_ptr_array_new_with_free_func(g_free);
        o->packages = g_ptr_array_new_with_free_func(g_free);
        int fd = fs_beneath_open(o->root_fd, INFO_DIR, O_RDONLY | O_DIRECTORY, 0, NULL);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (dir == NULL) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        struct dirent *de;
        while ((de = readdir(dir)) != NULL)
                if (g_str_has_suffix(de->d_name, ".list"))
                        list_add(o, fd, de->d_name);
        closedir(dir);
}

const char *owners_find(Owners *o, const char *path)
{
        if (o->by_path == NULL)
                read_lists(o);
        g_autofree char *absolute = g_strconcat("/", path, NULL);
        const char *package = g_hash_table_lookup(o->by_path, absolute);
        /* Packages from before the merge of /usr name /lib/x what is /usr/lib/x now. */
        if (package == NULL && g_str_has_prefix(absolute, "/usr/"))
                package = g_hash_table_lookup(o->by_path, absolute + strlen("/usr"));
        return package;
}
