/* tests/support/merge_tool.c - merges by hand: a target from a folder, made visible; and readers that look
 * for a gap.
 *
 *   merge_tool apply ROOT STATE RUN METHOD [new=FOLDER] [dir=PATH]... [gone=PATH]... [tree=PATH@MOUNT]...
 *                                          [file=PATH@MOUNT]...
 *       FOLDER holds the new versions; its directories count only where dir= lists them. Without a merge:
 *       nothing is to be merged. Prints the notes.
 *       MERGE_TOOL_NO_STORE in the environment: files are not brought to the store. MERGE_TOOL_TARGETFS: the
 *       program that serves unions.
 *   merge_tool status ROOT STATE RUN
 *   merge_tool watch FILE...        a thread for each opens and reads it until the input ends; then "N opens,
 * N failed" for each
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/fd.h"
#include "fuse-overlay/merge.h"

static int fail(const GError *error)
{
        fprintf(stderr, "%s\n", error->message);
        return 1;
}

/* --- a target from a folder --- */

struct recipe {
        ObjectStore *store; /* NULL: files are only described */
        const char *folder;
        int folder_fd;
        GPtrArray *directories, *mounts; /* mount points of the merges */
        GArray *changes;                 /* struct target_change */
        GArray *merges;                  /* struct target_merge */
        GPtrArray *keep;                 /* strings, entries and metadata that these borrow */
};

static char *own(struct recipe *r, char *s)
{
        g_ptr_array_add(r->keep, s);
        return s;
}

static gboolean listed(const GPtrArray *names, const char *path)
{
        for (guint i = 0; i < names->len; i++)
                if (g_str_equal(names->pdata[i], path))
                        return TRUE;
        return FALSE;
}

/* The merge that brings @path decides about reach and mount. */
static void add_change(struct recipe *r, const char *path, Moult__Entry *e, const Metadata *metadata)
{
        struct target_change c = {.path = path, .entry = e, .metadata = metadata, .mount = ""};
        gsize best = 0;
        for (guint i = 0; i < r->merges->len; i++) {
                const struct target_merge *m = &g_array_index(r->merges, struct target_merge, i);
                if (!target_path_is_below(path, m->path) || strlen(m->path) < best)
                        continue;
                best = strlen(m->path);
                c.reach = m->reach;
                c.mount = m->mount;
        }
        g_array_append_val(r->changes, c);
}

static Moult__Entry *entry_new(struct recipe *r, const char *path, Moult__EntryType type)
{
        Moult__Entry *e = g_new(Moult__Entry, 1);
        moult__entry__init(e);
        g_ptr_array_add(r->keep, e);
        e->path = (ProtobufCBinaryData){strlen(path), (guint8 *)path};
        e->type = type;
        return e;
}

static gboolean describe_file(struct recipe *r, const char *full, const struct stat *st, Moult__Entry *e,
                              GError **error)
{
        scoped_fd int fd = open(full, O_RDONLY | O_CLOEXEC);
        g_autoptr(Hasher) h = hasher_new();
        guint8 *digest = (guint8 *)own(r, g_malloc(DIGEST_SIZE));
        e->size = (guint64)st->st_size;
        e->digest = (ProtobufCBinaryData){DIGEST_SIZE, digest};
        return verity_digest_fd(h, fd, e->size, digest, NULL, error);
}

/* What the target says of the file: with metadata in the entry, as the store names it. */
static gboolean into_store(struct recipe *r, const Target *t, GError **error)
{
        int target = object_store_target_fd(r->store);
        (void)mkdirat(target, "incoming", 0700);
        scoped_fd int incoming = openat(target, "incoming", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (guint i = 0; i < target_size(t); i++) {
                struct target_item item = target_get(t, i);
                if (item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE ||
                    object_store_has(r->store, item.entry))
                        continue;
                g_autofree char *full = g_build_filename(r->folder, item.path, NULL);
                g_autofree char *content = NULL;
                gsize len;
                if (!g_file_get_contents(full, &content, &len, error))
                        return FALSE;
                struct metadata_object from = {.dirfd = r->folder_fd, .name = item.path, .fd = -1};
                struct metadata_object to = {.dirfd = incoming, .name = "new", .fd = -1};
                g_autoptr(Metadata) metadata = metadata_read(&from, NULL, error);
                scoped_fd int fd = openat(incoming, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                if (metadata == NULL || fd < 0 || !fd_write_all(fd, content, len, full, error) ||
                    !metadata_apply(&to, S_IFREG, metadata, FALSE, error) ||
                    !object_store_take(r->store, item.entry, incoming, "new", error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean walk(struct recipe *r, const char *below, GError **error);

static gboolean add_found(struct recipe *r, const char *path, GError **error)
{
        char *full = own(r, g_build_filename(r->folder, path, NULL));
        struct stat st;
        if (lstat(full, &st) != 0)
                return g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "%s", full), FALSE;
        Moult__EntryType type = S_ISREG(st.st_mode)   ? MOULT__ENTRY_TYPE__ENTRY_FILE
                                : S_ISDIR(st.st_mode) ? MOULT__ENTRY_TYPE__ENTRY_DIRECTORY
                                : S_ISLNK(st.st_mode) ? MOULT__ENTRY_TYPE__ENTRY_SYMLINK
                                : S_ISBLK(st.st_mode) ? MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE
                                : S_ISCHR(st.st_mode) ? MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE
                                                      : MOULT__ENTRY_TYPE__ENTRY_FIFO;
        if (type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY && !listed(r->directories, path))
                return walk(r, path, error);
        Moult__Entry *e = entry_new(r, path, type);
        struct metadata_object o = {.dirfd = r->folder_fd, .name = path, .fd = -1};
        Metadata *metadata = metadata_read(&o, &st, error);
        if (metadata == NULL || (S_ISREG(st.st_mode) && !describe_file(r, full, &st, e, error)))
                return FALSE;
        if (S_ISLNK(st.st_mode)) {
                char *text = own(r, g_file_read_link(full, NULL));
                e->link_target = (ProtobufCBinaryData){strlen(text), (guint8 *)text};
        }
        e->dev_major = S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ? major(st.st_rdev) : 0;
        e->dev_minor = S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ? minor(st.st_rdev) : 0;
        add_change(r, path, e, metadata);
        return type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY || walk(r, path, error);
}

static gboolean walk(struct recipe *r, const char *below, GError **error)
{
        g_autofree char *folder = g_build_filename(r->folder, below, NULL);
        g_autoptr(GDir) d = g_dir_open(folder, 0, error);
        if (d == NULL)
                return FALSE;
        for (const char *name = g_dir_read_name(d); name != NULL; name = g_dir_read_name(d)) {
                char *path = own(r, below[0] != '\0' ? g_strconcat(below, "/", name, NULL) : g_strdup(name));
                if (!add_found(r, path, error))
                        return FALSE;
        }
        return TRUE;
}

static void add_merge(struct recipe *r, const char *text, Moult__Target__Reach reach)
{
        char *path = own(r, g_strdup(text)), *at = strchr(path, '@');
        if (at == NULL)
                return;
        *at = '\0';
        struct target_merge m = {.path = path, .reach = reach, .mount = at + 1};
        g_array_append_val(r->merges, m);
}

static void read_words(struct recipe *r, char **words, GPtrArray *gone)
{
        for (; *words != NULL; words++) {
                const char *value = strchr(*words, '=') + 1;
                if (g_str_has_prefix(*words, "new="))
                        r->folder = value;
                else if (g_str_has_prefix(*words, "dir="))
                        g_ptr_array_add(r->directories, (gpointer)value);
                else if (g_str_has_prefix(*words, "gone="))
                        g_ptr_array_add(gone, (gpointer)value);
                else if (g_str_has_prefix(*words, "tree="))
                        add_merge(r, value, MOULT__TARGET__REACH__REACH_TREE);
                else if (g_str_has_prefix(*words, "file="))
                        add_merge(r, value, MOULT__TARGET__REACH__REACH_FILE);
        }
}

static Target *make_target(struct recipe *r, char **words, GError **error)
{
        static const guint8 digest[DIGEST_SIZE] = {1};
        const struct target_release release = {.name = "test 1", .generation = 1, .manifest_digest = digest};
        g_autoptr(GPtrArray) gone = g_ptr_array_new();
        read_words(r, words, gone);
        r->folder_fd = r->folder != NULL ? open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (r->folder != NULL && !walk(r, "", error))
                return NULL;
        for (guint i = 0; i < gone->len; i++)
                add_change(r, gone->pdata[i], entry_new(r, gone->pdata[i], MOULT__ENTRY_TYPE__ENTRY_DELETE),
                           NULL);
        g_autoptr(Target) t = target_compose(NULL, &release, (const struct target_change *)r->changes->data,
                                             r->changes->len);
        g_autoptr(Target) merged =
                target_with_merges(t, (const struct target_merge *)r->merges->data, r->merges->len);
        /* As it is read back after a restart. */
        g_autoptr(GBytes) bytes = target_serialise(merged);
        return target_parse(bytes, error);
}

static struct recipe recipe_new(void)
{
        return (struct recipe){
                .directories = g_ptr_array_new(),
                .changes = g_array_new(FALSE, FALSE, sizeof(struct target_change)),
                .merges = g_array_new(FALSE, FALSE, sizeof(struct target_merge)),
                .keep = g_ptr_array_new(),
        };
}

/* --- the commands --- */

static Merger *open_merger(char **words, GError **error)
{
        const struct merge_config config = {.root = words[0],
                                            .state_dir = words[1],
                                            .run_dir = words[2],
                                            .targetfs = getenv("MERGE_TOOL_TARGETFS")};
        return merger_new(&config, error);
}

static int apply(char **words)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) notes = g_string_new(NULL);
        g_autoptr(Merger) m = open_merger(words, &error);
        MergeMethod method;
        if (m == NULL)
                return fail(error);
        if (!merge_method_parse(words[3], &method))
                return 2;
        struct recipe r = recipe_new();
        r.store = merger_store(m);
        g_autoptr(Target) t = make_target(&r, words + 4, &error);
        if (t == NULL || (getenv("MERGE_TOOL_NO_STORE") == NULL && !into_store(&r, t, &error)))
                return fail(error);
        gboolean ok = merger_apply(m, r.merges->len > 0 ? t : NULL, method, NULL, notes, &error);
        printf("%s", notes->str);
        return ok ? 0 : fail(error);
}

static int status(char **words)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Merger) m = open_merger(words, &error);
        g_autoptr(GPtrArray) all = m != NULL ? merger_status(m, &error) : NULL;
        if (all == NULL)
                return fail(error);
        for (guint i = 0; i < all->len; i++) {
                const struct merge_status *s = all->pdata[i];
                printf("%s %s %s %s %s\n", s->path, merge_method_name(s->method), s->id,
                       s->stacked ? "stacked" : "tidy", s->alive ? "alive" : "dead");
        }
        return 0;
}

/* --- readers --- */

struct reader {
        const char *path;
        pthread_t thread;
        atomic_bool *stop;
        atomic_uint *running;
        guint64 opens, failed;
        int error;
};

static void *reader_run(void *user)
{
        struct reader *r = user;
        while (!atomic_load(r->stop)) {
                char byte;
                int fd = open(r->path, O_RDONLY | O_CLOEXEC);
                if (fd < 0 || read(fd, &byte, 1) != 1) {
                        r->failed++;
                        r->error = errno;
                }
                if (fd >= 0)
                        close(fd);
                if (r->opens++ == 0)
                        atomic_fetch_add(r->running, 1);
        }
        return NULL;
}

static int watch(char **words)
{
        guint n = g_strv_length(words);
        g_autofree struct reader *readers = g_new0(struct reader, n);
        atomic_bool stop = false;
        atomic_uint running = 0;
        for (guint i = 0; i < n; i++) {
                readers[i].path = words[i];
                readers[i].stop = &stop;
                readers[i].running = &running;
                pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]);
        }
        while (atomic_load(&running) < n)
                g_thread_yield();
        printf("running\n");
        fflush(stdout);
        char buffer[64];
        while (read(STDIN_FILENO, buffer, sizeof buffer) > 0)
                ;
        atomic_store(&stop, true);
        for (guint i = 0; i < n; i++) {
                pthread_join(readers[i].thread, NULL);
                printf("%s: %" G_GUINT64_FORMAT " opens, %" G_GUINT64_FORMAT " failed%s%s\n", readers[i].path,
                       readers[i].opens, readers[i].failed, readers[i].failed > 0 ? ": " : "",
                       readers[i].failed > 0 ? g_strerror(readers[i].error) : "");
        }
        return 0;
}

int main(int argc, char **argv)
{
        if (argc >= 6 && g_str_equal(argv[1], "apply"))
                return apply(argv + 2);
        if (argc == 5 && g_str_equal(argv[1], "status"))
                return status(argv + 2);
        if (argc >= 3 && g_str_equal(argv[1], "watch"))
                return watch(argv + 2);
        return 2;
}
