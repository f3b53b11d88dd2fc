/* guest-agent/stale_files.c - the release's paths by name, and what they lead to now. */
#include "guest-agent/stale_files.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/stale_parse.h"

#define COMPARE_BLOCK (128 * 1024)
/* Larger ones are taken for different: nobody waits for that. */
#define COMPARE_MAX (256 * 1024 * 1024)

struct file {
        char *path;      /* absolute, as this process sees it: what the kernel calls it */
        gint64 same_end; /* index of the next file with the same last component, or -1 */
        gboolean looked, exists;
        struct stat now;
};

/* Every process holds the same few objects: each is compared once. */
struct pair {
        gsize index;
        dev_t dev;
        ino_t inode;
};

struct StaleFiles {
        char *root;
        int root_fd;
        gsize root_len; /* of the part of a path that is the root; 0 for "/" */
        GArray *files;
        GHashTable *by_path, *by_end; /* path, last component -> index plus 1 */
        GHashTable *directories;      /* as written -> without links */
        GHashTable *compared;         /* struct pair -> whether it is another file */
};

static guint pair_hash(gconstpointer p)
{
        const struct pair *pair = p;

        return (guint)(pair->index * 31 + pair->inode * 7 + pair->dev);
}

static gboolean pair_equal(gconstpointer a, gconstpointer b)
{
        const struct pair *x = a, *y = b;

        return x->index == y->index && x->dev == y->dev && x->inode == y->inode;
}

static void file_clear(gpointer p)
{
        g_free(((struct file *)p)->path);
}

static char *path_of(int fd)
{
        char link[64], path[4096];
        ssize_t n;

        g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path);
        return n > 0 && (gsize)n < sizeof path ? g_strndup(path, (gsize)n) : NULL;
}

/* "/usr/lib" for "lib" where that is a link; what cannot be looked at is taken as it is written. */
static char *physical(int root_fd, const char *root, const char *directory)
{
        scoped_fd int fd = fs_beneath_open(root_fd, directory, O_PATH | O_DIRECTORY, 0, NULL);
        char *path = fd >= 0 ? path_of(fd) : NULL;

        return path ? path : g_build_filename(root, directory, NULL);
}

/* Takes over @path. */
static gsize add(StaleFiles *f, char *path)
{
        struct file file = {.path = path, .same_end = -1};
        gsize index = GPOINTER_TO_SIZE(g_hash_table_lookup(f->by_path, path));
        const char *end = strrchr(path, '/') + 1;

        if (index > 0) {
                g_free(path); /* the same file by way of a link */
                return index - 1;
        }
        index = f->files->len;
        file.same_end = (gint64)GPOINTER_TO_SIZE(g_hash_table_lookup(f->by_end, end)) - 1;
        g_array_append_val(f->files, file);
        g_hash_table_insert(f->by_path, path, GSIZE_TO_POINTER(index + 1));
        g_hash_table_replace(f->by_end, (gpointer)end, GSIZE_TO_POINTER(index + 1));
        return index;
}

gssize stale_files_add(StaleFiles *f, const char *path)
{
        g_autofree char *copy = g_strdup(path);
        char *end = strrchr(copy, '/');
        const char *directory;

        if (!end)
                return (gssize)add(f, g_build_filename(f->root, path, NULL));
        *end = '\0';
        directory = g_hash_table_lookup(f->directories, copy);
        if (!directory) {
                directory = physical(f->root_fd, f->root, copy);
                g_hash_table_insert(f->directories, g_strdup(copy), (gpointer)directory);
        }
        return (gssize)add(f, g_build_filename(directory, end + 1, NULL));
}

static void add_entries(StaleFiles *f, const Manifest *m)
{
        for (size_t i = 0; i < m->n_entries; i++) {
                g_autofree char *path = manifest_entry_path(m->entries[i]);

                if (m->entries[i]->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                        stale_files_add(f, path);
        }
}

StaleFiles *stale_files_new(const char *root, Manifest *m)
{
        StaleFiles *f = g_new0(StaleFiles, 1);
        char *real = NULL;

        f->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (f->root_fd >= 0)
                real = path_of(f->root_fd);
        f->root = real ? real : g_strdup(root);
        f->root_len = g_str_equal(f->root, "/") ? 0 : strlen(f->root);
        f->files = g_array_new(FALSE, FALSE, sizeof(struct file));
        g_array_set_clear_func(f->files, file_clear);
        f->by_path = g_hash_table_new(g_str_hash, g_str_equal);
        f->by_end = g_hash_table_new(g_str_hash, g_str_equal);
        f->directories = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        f->compared = g_hash_table_new_full(pair_hash, pair_equal, g_free, NULL);
        add_entries(f, m);
        manifest_free(m);
        return f;
}

void stale_files_free(StaleFiles *f)
{
        if (!f)
                return;
        g_hash_table_unref(f->by_path);
        g_hash_table_unref(f->by_end);
        g_hash_table_unref(f->directories);
        g_hash_table_unref(f->compared);
        g_array_unref(f->files);
        g_free(f->root);
        if (f->root_fd >= 0)
                close(f->root_fd);
        g_free(f);
}

static struct file *get(const StaleFiles *f, gsize index)
{
        return &g_array_index(f->files, struct file, index);
}

gssize stale_files_find(const StaleFiles *f, const char *name)
{
        gsize index = GPOINTER_TO_SIZE(g_hash_table_lookup(f->by_path, name));
        g_autofree char *undeleted = index ? NULL : stale_name_undeleted(name);

        if (undeleted)
                index = GPOINTER_TO_SIZE(g_hash_table_lookup(f->by_path, undeleted));
        return (gssize)index - 1;
}

gssize stale_files_find_detached(const StaleFiles *f, const char *name, gssize after)
{
        const char *end = strrchr(name, '/');
        gint64 i = after >= 0 ? get(f, (gsize)after)->same_end
                   : end      ? (gint64)GPOINTER_TO_SIZE(g_hash_table_lookup(f->by_end, end + 1)) - 1
                              : -1;

        while (i >= 0 && !g_str_has_suffix(get(f, (gsize)i)->path, name))
                i = get(f, (gsize)i)->same_end;
        return (gssize)i;
}

/* ---- held and live ---- */

static gboolean read_block(int fd, char *buf, gsize want, off_t at)
{
        while (want > 0) {
                ssize_t n = pread(fd, buf, want, at);

                if (n <= 0)
                        return FALSE; /* an error, or it became shorter */
                buf += n;
                at += n;
                want -= (gsize)n;
        }
        return TRUE;
}

static gboolean same_bytes(int a, int b, off_t size)
{
        g_autofree char *x = g_malloc(COMPARE_BLOCK), *y = g_malloc(COMPARE_BLOCK);

        for (off_t at = 0; at < size; at += COMPARE_BLOCK) {
                gsize n = (gsize)MIN(size - at, COMPARE_BLOCK);

                if (!read_block(a, x, n, at) || !read_block(b, y, n, at) || memcmp(x, y, n) != 0)
                        return FALSE;
        }
        return TRUE;
}

/* What cannot be compared is another one. */
static gboolean same_content(const struct file *file, const struct stale_held *held)
{
        const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
        scoped_fd int a = -1, b = -1;
        struct stat live;

        if (!S_ISREG(held->stat.st_mode) || !S_ISREG(file->now.st_mode) ||
            held->stat.st_size != file->now.st_size || held->stat.st_size > COMPARE_MAX)
                return FALSE;
        a = openat(held->dirfd, held->link, flags);
        b = open(file->path, flags | O_NOFOLLOW);
        return a >= 0 && b >= 0 && fstat(b, &live) == 0 && S_ISREG(live.st_mode) &&
               live.st_size == held->stat.st_size && same_bytes(a, b, live.st_size);
}

static gboolean compare(struct file *file, const struct stale_held *held)
{
        if (!file->looked) {
                file->looked = TRUE;
                file->exists = fstatat(AT_FDCWD, file->path, &file->now, AT_SYMLINK_NOFOLLOW) == 0;
        }
        if (file->exists && file->now.st_dev == held->stat.st_dev && file->now.st_ino == held->stat.st_ino)
                return FALSE;
        return !file->exists || !same_content(file, held);
}

gboolean stale_files_is_replaced(StaleFiles *f, gsize index, const struct stale_held *held)
{
        struct pair pair = {index, held->stat.st_dev, held->stat.st_ino};
        gpointer known;

        if (g_hash_table_lookup_extended(f->compared, &pair, NULL, &known))
                return GPOINTER_TO_INT(known);
        known = GINT_TO_POINTER(compare(get(f, index), held));
        g_hash_table_insert(f->compared, g_memdup2(&pair, sizeof pair), known);
        return GPOINTER_TO_INT(known);
}

const char *stale_files_path(const StaleFiles *f, gsize index)
{
        return get(f, index)->path + f->root_len;
}

const char *stale_files_name(const StaleFiles *f, gsize index)
{
        return get(f, index)->path;
}
