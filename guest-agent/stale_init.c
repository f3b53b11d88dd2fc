/* guest-agent/stale_init.c - which init script a process belongs to. */
#include "guest-agent/stale_init.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest-agent/stale_parse.h"

#define PID_FILES_MAX 4096u
#define SCRIPT_MAX    (1024u * 1024u)

struct StaleInit {
        GHashTable *scripts; /* gint64* pid -> char* name of a script */
        guint looked;
};

static gboolean is_trusted(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == getuid());
}

/* A script that speaks of "/NAME" at the end of some path: "pidfile=/run/sshd.pid" in "ssh". */
static char *script_that_names(const char *directory, const char *pid_file)
{
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        g_autofree char *needle = g_strconcat("/", pid_file, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(directory, name, NULL);
                g_autoptr(GBytes) b =
                        is_trusted(path) ? fd_read_file_at(AT_FDCWD, path, SCRIPT_MAX, NULL) : NULL;
                gsize len = 0;
                const char *text = b ? g_bytes_get_data(b, &len) : NULL;
                const char *at = text ? memmem(text, len, needle, strlen(needle)) : NULL;
                const char *after = at ? at + strlen(needle) : NULL;

                if (at && (after == text + len || !(g_ascii_isalnum(*after) || strchr("._-", *after))))
                        return g_strdup(name);
        }
        return NULL;
}

static void take_pid_file(StaleInit *i, const char *path, const char *scripts)
{
        g_autofree char *base = g_path_get_basename(path);
        g_autofree char *name = g_strndup(base, strlen(base) - strlen(".pid"));
        g_autofree char *script = g_build_filename(scripts, name, NULL);
        g_autoptr(GBytes) b = is_trusted(path) ? fd_read_file_at(AT_FDCWD, path, 64, NULL) : NULL;
        gsize len = 0;
        const char *data = b ? g_bytes_get_data(b, &len) : NULL;
        g_autofree char *text = g_strndup(data ? data : "", len);
        gint64 pid = stale_pid_file_parse(text);
        char *found;

        if (pid <= 1)
                return;
        found = is_trusted(script) ? g_steal_pointer(&name) : script_that_names(scripts, base);
        if (found)
                g_hash_table_replace(i->scripts, g_memdup2(&pid, sizeof pid), found);
}

/* Also one directory below: /run/x/x.pid. */
static void take_directory(StaleInit *i, const char *run, const char *scripts, gboolean below)
{
        g_autoptr(GDir) dir = g_dir_open(run, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir)) && i->looked < PID_FILES_MAX) {
                g_autofree char *path = g_build_filename(run, name, NULL);
                struct stat st;

                i->looked++;
                if (g_str_has_suffix(name, ".pid"))
                        take_pid_file(i, path, scripts);
                else if (!below && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
                        take_directory(i, path, scripts, TRUE);
        }
}

StaleInit *stale_init_new_in(const char *run, const char *scripts)
{
        StaleInit *i = g_new0(StaleInit, 1);

        i->scripts = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
        take_directory(i, run, scripts, FALSE);
        return i;
}

StaleInit *stale_init_new(void)
{
        return g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR)
                       ? NULL
                       : stale_init_new_in("/run", "/etc/init.d");
}

void stale_init_free(StaleInit *i)
{
        if (!i)
                return;
        g_hash_table_unref(i->scripts);
        g_free(i);
}

const char *stale_init_find(const StaleInit *i, gint64 pid)
{
        return g_hash_table_lookup(i->scripts, &pid);
}
