/* host-service/template/payload.c - reads a package or an archive into memory: a few megabytes. */
#include "host-service/template/payload.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fs_beneath.h"

#define BYTES_MAX (256u << 20)
#define FILES_MAX 1000u

void payload_file_free(gpointer data)
{
        struct payload_file *f = data;

        g_free(f->path);
        g_free(f->link);
        g_clear_pointer(&f->data, g_bytes_unref);
        g_free(f);
}

static gboolean refuse(const char *file, GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "%s cannot be put into a template: %s (build-aux/package.sh makes moult-agent_*.deb and "
                    "moult-agent-static_*.tar.xz)",
                    file, why);
        return FALSE;
}

/* "./usr/sbin/x" to "usr/sbin/x"; a directory's slash is taken off. NULL: the top itself. */
static char *clean_path(const char *name)
{
        gsize len;

        while (g_str_has_prefix(name, "./"))
                name += 2;
        len = strlen(name);
        if (len > 0 && name[len - 1] == '/')
                len--;
        return len == 0 || (len == 1 && *name == '.') ? NULL : g_strndup(name, len);
}

static GBytes *read_data(struct archive *a, const char *file, gint64 size, GError **error)
{
        g_autofree guint8 *data = NULL;
        gint64 have = 0;

        if (size < 0 || size > (gint64)BYTES_MAX) {
                refuse(file, error, "it holds a file that is too large");
                return NULL;
        }
        data = g_malloc((gsize)size + 1);
        while (have < size) {
                la_ssize_t n = archive_read_data(a, data + have, (gsize)(size - have));

                if (n <= 0) {
                        refuse(file, error, "it is cut off or damaged");
                        return NULL;
                }
                have += n;
        }
        return g_bytes_new_take(g_steal_pointer(&data), (gsize)size);
}

static gboolean take_entry(GPtrArray *payload, struct archive *a, struct archive_entry *e, const char *file,
                           gsize *total, GError **error)
{
        g_autofree char *path = clean_path(archive_entry_pathname(e) ? archive_entry_pathname(e) : "");
        struct payload_file *f;

        if (!path)
                return TRUE;
        if (fs_path_refusal((const guint8 *)path, strlen(path)))
                return refuse(file, error, "it holds a path that leads out of it");
        if (payload->len >= FILES_MAX || archive_entry_hardlink(e) ||
            (!S_ISREG(archive_entry_filetype(e)) && !S_ISDIR(archive_entry_filetype(e)) &&
             !S_ISLNK(archive_entry_filetype(e))))
                return refuse(file, error, "it holds what moult-agent's files do not have");
        f = g_new0(struct payload_file, 1);
        g_ptr_array_add(payload, f);
        f->path = g_strconcat("/", path, NULL);
        f->mode = archive_entry_perm(e) & 0777;
        if (S_ISLNK(archive_entry_filetype(e)))
                f->link = g_strdup(archive_entry_symlink(e));
        if (!S_ISREG(archive_entry_filetype(e)))
                return TRUE;
        f->data = read_data(a, file, archive_entry_size(e), error);
        if (f->data)
                *total += g_bytes_get_size(f->data);
        return f->data && (*total <= BYTES_MAX || refuse(file, error, "it is too large"));
}

static gboolean take_archive(GPtrArray *payload, struct archive *a, const char *file, GError **error)
{
        struct archive_entry *e;
        gsize total = 0;
        int r;

        while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK)
                if (!take_entry(payload, a, e, file, &total, error))
                        return FALSE;
        return r == ARCHIVE_EOF || refuse(file, error, archive_error_string(a));
}

static gint by_path(gconstpointer a, gconstpointer b)
{
        return strcmp((*(struct payload_file *const *)a)->path, (*(struct payload_file *const *)b)->path);
}

/* What dpkg-deb says of a package, as a tar archive. */
static GBytes *unpack_package(const char *file, GError **error)
{
        g_autoptr(GSubprocess) p =
                g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, error,
                                 "dpkg-deb", "--fsys-tarfile", file, NULL);
        g_autoptr(GBytes) out = NULL, said = NULL;

        if (!p || !g_subprocess_communicate(p, NULL, NULL, &out, &said, error))
                return NULL;
        if (g_subprocess_get_successful(p))
                return g_steal_pointer(&out);
        refuse(file, error, "dpkg-deb does not take it for a package");
        return NULL;
}

GPtrArray *payload_read(const char *file, GError **error)
{
        g_autoptr(GPtrArray) payload = g_ptr_array_new_with_free_func(payload_file_free);
        g_autoptr(GBytes) package = NULL;
        struct archive *a;
        gboolean ok, is_package = g_str_has_suffix(file, ".deb");

        if (!g_file_test(file, G_FILE_TEST_IS_REGULAR)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no file %s", file);
                return NULL;
        }
        if (is_package && !(package = unpack_package(file, error)))
                return NULL;
        a = archive_read_new();
        archive_read_support_filter_all(a);
        archive_read_support_format_tar(a);
        ok = (package ? archive_read_open_memory(a, g_bytes_get_data(package, NULL),
                                                 g_bytes_get_size(package))
                      : archive_read_open_filename(a, file, 65536)) == ARCHIVE_OK;
        ok = ok ? take_archive(payload, a, file, error) : refuse(file, error, archive_error_string(a));
        archive_read_free(a);
        if (!ok)
                return NULL;
        g_ptr_array_sort(payload, by_path);
        const struct payload_file *agent = payload_find(payload, PAYLOAD_AGENT);
        if (agent && agent->data && payload_find(payload, PAYLOAD_CONF))
                return g_steal_pointer(&payload);
        refuse(file, error, "it does not hold " PAYLOAD_AGENT " and " PAYLOAD_CONF);
        return NULL;
}

const struct payload_file *payload_find(const GPtrArray *payload, const char *path)
{
        for (guint i = 0; i < payload->len; i++) {
                const struct payload_file *f = payload->pdata[i];

                if (g_str_equal(f->path, path))
                        return f;
        }
        return NULL;
}

/* Static archives first, then by time. */
static gboolean is_better(const char *name, gint64 time, const char *than, gint64 than_time)
{
        gboolean is_static = g_str_has_prefix(name, "moult-agent-static"),
                 that_is = than && g_str_has_prefix(than, "moult-agent-static");

        return !than || is_static > that_is || (is_static == that_is && time > than_time);
}

char *payload_find_file(const char *dir, GError **error)
{
        g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
        g_autofree char *best = NULL;
        gint64 best_time = 0;
        const char *name;

        while (d && (name = g_dir_read_name(d))) {
                g_autofree char *path = g_build_filename(dir, name, NULL);
                struct stat st;

                if (!g_str_has_prefix(name, "moult-agent") || stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
                    !(g_str_has_suffix(name, ".deb") || strstr(name, ".tar")) ||
                    !is_better(name, st.st_mtime, best, best_time))
                        continue;
                g_free(best);
                best = g_strdup(name);
                best_time = st.st_mtime;
        }
        if (best)
                return g_build_filename(dir, best, NULL);
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                "there is no agent to put in: no moult-agent package or archive in %s; name one with --agent",
                dir);
        return NULL;
}
