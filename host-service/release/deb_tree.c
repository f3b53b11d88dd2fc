/* host-service/release/deb_tree.c - a set of Debian packages as one tree. */
#include "host-service/release/deb_tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <gio/gunixinputstream.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "host-service/release/scratch.h"
#include "proto/limits.h"

#define CONTROL_FILE_MAX (1u << 20)

/* The tree's contents, one after the other. */
struct store {
        Scratch *scratch;
        GArray *places; /* guint64, by tree_node.ino */
};

struct reading {
        BuildTree *tree;
        struct store *store;
        const struct build_tree_options *options;
        GHashTable *owners; /* path -> what package has it; "" for directories */
        GHashTable *inodes; /* path -> its inode, for hard links */
        GHashTable *conffiles;
        Hasher *hasher;
        guint8 *chunk; /* CHUNK_SIZE */
        GCancellable *cancellable;
        const char *package; /* the file that is being read */
};

/* A tar stream from dpkg-deb. */
typedef struct {
        GSubprocess *process;
        struct archive *archive;
        const char *package;
} Stream;

static void stream_clear(Stream *s)
{
        if (s->archive)
                archive_read_free(s->archive);
        if (s->process)
                g_subprocess_force_exit(s->process); /* nothing where it has ended */
        g_clear_object(&s->process);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Stream, stream_clear)

static gboolean stream_open(Stream *s, const char *option, const char *path, GError **error)
{
        g_autoptr(GError) own = NULL;

        s->package = path;
        s->process = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &own,
                                      "dpkg-deb", option, "--", path, NULL);
        if (!s->process) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "dpkg-deb, which reads packages, cannot be started (%s): install the package dpkg",
                        own->message);
                return FALSE;
        }
        GInputStream *out = g_subprocess_get_stdout_pipe(s->process);
        s->archive = archive_read_new();
        archive_read_support_format_tar(s->archive);
        archive_read_support_format_empty(s->archive); /* said by dpkg-deb, and better */
        if (archive_read_open_fd(s->archive, g_unix_input_stream_get_fd(G_UNIX_INPUT_STREAM(out)), 65536) !=
            ARCHIVE_OK) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "reading the package %s: %s", path,
                            archive_error_string(s->archive));
                return FALSE;
        }
        return TRUE;
}

/* What dpkg-deb says decides: a damaged package may look like a shorter one in its tar stream. */
static gboolean stream_end(Stream *s, GError **error)
{
        GInputStream *errors = g_subprocess_get_stderr_pipe(s->process);
        char text[1024] = "";
        gsize len = 0;

        g_input_stream_read_all(errors, text, sizeof text - 1, &len, NULL, NULL);
        if (!g_subprocess_wait(s->process, NULL, error))
                return FALSE;
        if (g_subprocess_get_successful(s->process))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s cannot be read as a Debian package: %s",
                    s->package, *g_strstrip(text) ? text : "dpkg-deb failed");
        return FALSE;
}

/* 1: *ret is the next entry; 0: the end; -1: @error. */
static int stream_next(Stream *s, struct archive_entry **ret, GError **error)
{
        int r = archive_read_next_header(s->archive, ret);

        if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
                return 1;
        if (r == ARCHIVE_EOF)
                return stream_end(s, error) ? 0 : -1;
        if (stream_end(s, error))
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "reading the package %s: %s", s->package,
                            archive_error_string(s->archive));
        return -1;
}

/* "./usr/bin/x" -> "usr/bin/x"; "" is the root. */
static const char *path_of(const char *name)
{
        while (name && (g_str_has_prefix(name, "./") || *name == '/'))
                name += *name == '/' ? 1 : 2;
        return name && !strcmp(name, ".") ? "" : name;
}

/* ---- contents ---- */

static void store_free(gpointer self)
{
        struct store *s = self;

        scratch_free(s->scratch);
        g_clear_pointer(&s->places, g_array_unref);
        g_free(s);
}

static int store_open(gpointer self, const struct tree_node *n, GError **error)
{
        const struct store *s = self;

        return scratch_open(s->scratch, g_array_index(s->places, guint64, n->ino), n->size, error);
}

static const struct build_tree_source store_source = {.open = store_open, .free = store_free};

static gboolean take_content(struct reading *r, struct archive *a, struct tree_node *n, GError **error)
{
        g_autoptr(VerityTree) verity = verity_tree_new(n->size);
        guint64 place = scratch_size(r->store->scratch), left = n->size;

        n->ino = r->store->places->len;
        g_array_append_val(r->store->places, place);
        for (guint64 i = 0; left > 0; i++) {
                gsize want = (gsize)MIN(left, CHUNK_SIZE), have = 0;

                while (have < want) {
                        la_ssize_t got = archive_read_data(a, r->chunk + have, want - have);

                        if (got <= 0) {
                                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                            "the package %s is cut short in %s", r->package, n->path);
                                return FALSE;
                        }
                        have += (gsize)got;
                }
                verity_tree_add_chunk(verity, r->hasher, i, r->chunk, have);
                if (!scratch_append(r->store->scratch, r->chunk, have, error) ||
                    g_cancellable_set_error_if_cancelled(r->cancellable, error))
                        return FALSE;
                left -= have;
        }
        verity_tree_digest(verity, r->hasher, n->digest);
        n->has_digest = true;
        return TRUE;
}

/* ---- entries ---- */

static gboolean refuse(const struct reading *r, const char *path, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "/%s in the package %s %s", path, r->package,
                    why);
        return FALSE;
}

static gboolean is_excluded(const char *const *globs, const char *path)
{
        g_autofree char *above = g_strdup(path);

        for (char *slash = NULL;; *slash = '\0') {
                if (build_tree_excludes(globs, above))
                        return TRUE;
                if ((slash = strrchr(above, '/')) == NULL)
                        return FALSE;
        }
}

/* One path, one package; but any number may have a directory. *ret_known: it is one that is there already. */
static gboolean claim(struct reading *r, const char *path, gboolean directory, gboolean *ret_known,
                      GError **error)
{
        const char *owner = g_hash_table_lookup(r->owners, path);

        *ret_known = owner != NULL;
        if (owner && directory && !*owner)
                return TRUE;
        if (owner) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "/%s is in two of the packages (%s is one): dpkg would not install them "
                            "together; leave one "
                            "out",
                            path, r->package);
                return FALSE;
        }
        g_hash_table_insert(r->owners, g_strdup(path), g_strdup(directory ? "" : r->package));
        return TRUE;
}

static void take_metadata(const struct reading *r, struct archive_entry *e, struct tree_node *n)
{
        n->mode = archive_entry_filetype(e) | (archive_entry_perm(e) & 07777);
        n->uid = r->options->owner_root ? 0 : (uid_t)archive_entry_uid(e);
        n->gid = r->options->owner_root ? 0 : (gid_t)archive_entry_gid(e);
        n->mtime = (struct timespec){archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
        n->rdev = archive_entry_rdev(e);
        n->size = S_ISREG(n->mode) ? (guint64)archive_entry_size(e) : 0;
        n->link_text = S_ISLNK(n->mode) ? g_strdup(archive_entry_symlink(e)) : NULL;
}

/* A second name: everything but the name is the first one's. */
static gboolean take_link(struct reading *r, const char *target, struct tree_node *n, GError **error)
{
        gpointer first = g_hash_table_lookup(r->inodes, target);

        if (!first)
                return refuse(r, n->path, "is a hard link to something that is not before it", error);
        char *path = n->path;
        *n = *build_tree_node(r->tree, GPOINTER_TO_UINT(first) - 1);
        n->path = path;
        n->link_text = NULL;
        return TRUE;
}

static gboolean take_node(struct reading *r, struct archive *a, struct archive_entry *e, struct tree_node *n,
                          GError **error)
{
        const char *target = path_of(archive_entry_hardlink(e));

        take_metadata(r, e, n);
        if (target) {
                if (!take_link(r, target, n, error))
                        return FALSE;
        } else if (S_ISREG(n->mode)) {
                if (n->size > LIMIT_FILE_SIZE || !archive_entry_size_is_set(e))
                        return refuse(r, n->path, "has an impossible size", error);
                g_hash_table_insert(r->inodes, g_strdup(n->path),
                                    GUINT_TO_POINTER(build_tree_count(r->tree) + 1));
                if (!take_content(r, a, n, error))
                        return FALSE;
        } else if (!S_ISDIR(n->mode) && !S_ISLNK(n->mode) && !S_ISCHR(n->mode) && !S_ISBLK(n->mode) &&
                   !S_ISFIFO(n->mode)) {
                return refuse(r, n->path, "is of a kind that a release cannot hold", error);
        }
        if (S_ISLNK(n->mode) && (!n->link_text || !*n->link_text))
                return refuse(r, n->path, "is a symbolic link to nothing", error);
        n->conffile = !S_ISDIR(n->mode) && g_hash_table_contains(r->conffiles, n->path);
        return TRUE;
}

static gboolean take_entry(struct reading *r, struct archive *a, struct archive_entry *e, GError **error)
{
        const char *name = archive_entry_pathname(e);
        g_autofree char *path = g_strdup(path_of(name));
        struct tree_node n = {0};
        gboolean known;

        if (!path)
                return refuse(r, "?", "has a name that cannot be read", error);
        g_strchomp(path);
        while (*path && path[strlen(path) - 1] == '/')
                path[strlen(path) - 1] = '\0';
        if (!*path || is_excluded(r->options->exclude, path))
                return TRUE;
        const char *why = fs_path_refusal((const guint8 *)path, strlen(path));
        if (why)
                return refuse(r, path, why, error);
        if (!claim(r, path, archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e), &known,
                   error))
                return FALSE;
        if (known)
                return TRUE;
        n.path = g_steal_pointer(&path);
        gboolean ok = take_node(r, a, e, &n, error);
        build_tree_add(r->tree, &n); /* it owns what there is */
        return ok;
}

/* ---- one package ---- */

void deb_conffiles_parse(const char *text, gsize len, GHashTable *set)
{
        g_autofree char *copy = g_strndup(text, len);
        g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

        for (guint i = 0; lines[i]; i++) {
                const char *line = g_strstrip(lines[i]);

                /* A line with a flag, "remove-on-upgrade /etc/x", begins with no slash. */
                if (*line == '/' && line[1])
                        g_hash_table_add(set, g_strdup(line + 1));
        }
}

static gboolean read_text(Stream *s, GString *ret, GError **error)
{
        char buf[4096];

        for (;;) {
                la_ssize_t n = archive_read_data(s->archive, buf, sizeof buf);

                if (n == 0)
                        return TRUE;
                if (n < 0 || ret->len + (gsize)n > CONTROL_FILE_MAX) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "reading the package %s: its control data are damaged or too large",
                                    s->package);
                        return FALSE;
                }
                g_string_append_len(ret, buf, n);
        }
}

static const char *const scripts[] = {"preinst", "postinst", "prerm", "postrm"};

/* Conffiles, and what the package wants to have run. */
static gboolean read_control(struct reading *r, GPtrArray *notes, GError **error)
{
        g_auto(Stream) s = {0};
        g_autoptr(GString) has = g_string_new(NULL);
        struct archive_entry *e;
        int more;

        if (!stream_open(&s, "--ctrl-tarfile", r->package, error))
                return FALSE;
        while ((more = stream_next(&s, &e, error)) > 0) {
                const char *name = path_of(archive_entry_pathname(e));

                for (unsigned i = 0; name && i < G_N_ELEMENTS(scripts); i++)
                        if (!strcmp(name, scripts[i]))
                                g_string_append_printf(has, "%s%s", has->len > 0 ? ", " : "", name);
                if (name && !strcmp(name, "conffiles")) {
                        g_autoptr(GString) text = g_string_new(NULL);

                        if (!read_text(&s, text, error))
                                return FALSE;
                        deb_conffiles_parse(text->str, text->len, r->conffiles);
                }
        }
        if (more == 0 && has->len > 0 && notes) {
                g_autofree char *base = g_path_get_basename(r->package);

                g_ptr_array_add(
                        notes,
                        g_strdup_printf("%s has maintainer scripts (%s), which moult does not run: what is "
                                        "needed of them (accounts, caches, restarts) comes with --hook and "
                                        "--restart",
                                        base, has->str));
        }
        return more == 0;
}

static gboolean read_package(struct reading *r, GPtrArray *notes, GError **error)
{
        g_auto(Stream) s = {0};
        struct archive_entry *e;
        int more;

        if (!read_control(r, notes, error) || !stream_open(&s, "--fsys-tarfile", r->package, error))
                return FALSE;
        while ((more = stream_next(&s, &e, error)) > 0) {
                if (build_tree_count(r->tree) >= LIMIT_ENTRIES)
                        return refuse(r, "", "makes the set larger than a release may be", error);
                if (g_cancellable_set_error_if_cancelled(r->cancellable, error) ||
                    !take_entry(r, s.archive, e, error))
                        return FALSE;
        }
        return more == 0;
}

BuildTree *deb_tree_read(const char *const *paths, const struct build_tree_options *options, GPtrArray *notes,
                         GCancellable *cancellable, GError **error)
{
        struct store *store = g_new0(struct store, 1);
        g_autoptr(BuildTree) t = build_tree_new("the packages", &store_source, store);
        g_autoptr(GHashTable) owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GHashTable) conffiles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(Hasher) h = hasher_new();
        g_autofree guint8 *chunk = g_malloc(CHUNK_SIZE);
        struct reading r = {t, store, options, owners, inodes, conffiles, h, chunk, cancellable, NULL};

        store->places = g_array_new(FALSE, FALSE, sizeof(guint64));
        store->scratch = scratch_new(error);
        if (!store->scratch)
                return NULL;
        for (unsigned i = 0; paths[i]; i++) {
                r.package = paths[i];
                if (!read_package(&r, notes, error))
                        return NULL;
        }
        build_tree_finish(t);
        return g_steal_pointer(&t);
}
