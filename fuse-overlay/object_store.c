/* fuse-overlay/object_store.c - STATE_DIR/target/objects: regular files by the digest of content and
 * metadata.
 *
 * Theory of operation: an object comes by one rename of a finished file, and goes by one unlink; nothing is
 * ever written to it. What else makes files here (a copy where the file system refuses the rename) does so
 * under a name that starts with TEMPORARY, which no object has; what a kill leaves of these goes at the next
 * collection. The store has no state in memory but two descriptors: threads may use it at once, but for
 * collecting, which is for whoever holds the engine. What was verified is remembered (object_memo.h). */
#include "fuse-overlay/object_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/remove_tree.h"
#include "fuse-overlay/object_copy.h"
#include "fuse-overlay/object_memo.h"
#include "shm/entry_metadata.h"

#define TEMPORARY      ".new-"
#define SHARD_LENGTH   2u /* objects/ab */
#define BLOCK_BYTES    512u
#define MAKE_ATTEMPTS  16
#define DIRECTORY_MODE 0700

struct ObjectStore {
        int target_fd, objects_fd;
        ObjectMemo *verified;
};

/* A directory of ours: made if it is not there; never a link. */
static int open_directory(int dirfd, const char *name, GError **error)
{
        if (mkdirat(dirfd, name, DIRECTORY_MODE) < 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "making the directory %s of the target store", name);
                return -1;
        }
        scoped_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                moult_error_errno(error, errno, "opening the directory %s of the target store", name);
                return -1;
        }
        if (fchmod(fd, DIRECTORY_MODE) < 0) {
                moult_error_errno(error, errno, "closing the directory %s of the target store to others",
                                  name);
                return -1;
        }
        return g_steal_fd(&fd);
}

ObjectStore *object_store_open(int state_fd, GError **error)
{
        g_autoptr(ObjectStore) s = g_new0(ObjectStore, 1);
        s->target_fd = s->objects_fd = -1;
        s->verified = object_memo_new();
        s->target_fd = open_directory(state_fd, "target", error);
        if (s->target_fd < 0)
                return NULL;
        s->objects_fd = open_directory(s->target_fd, "objects", error);
        if (s->objects_fd < 0)
                return NULL;
        return g_steal_pointer(&s);
}

void object_store_free(ObjectStore *s)
{
        if (s == NULL)
                return;
        if (s->objects_fd >= 0)
                close(s->objects_fd);
        if (s->target_fd >= 0)
                close(s->target_fd);
        object_memo_free(s->verified);
        g_free(s);
}

int object_store_target_fd(const ObjectStore *s)
{
        return s->target_fd;
}

/* "ab/NAME", below objects. */
#define MEND_BYTES       (1024u * 1024u)
#define OBJECT_PATH_SIZE (SHARD_LENGTH + 1 + TARGET_OBJECT_NAME_LENGTH + 1)
static void object_path(const Moult__Entry *e, char ret[static OBJECT_PATH_SIZE])
{
        char name[TARGET_OBJECT_NAME_LENGTH + 1];
        target_object_name(e, name);
        memcpy(ret, name, SHARD_LENGTH);
        ret[SHARD_LENGTH] = '/';
        memcpy(ret + SHARD_LENGTH + 1, name, sizeof name);
}

static gboolean is_missing(int errnum)
{
        return errnum == ENOENT || errnum == ENOTDIR;
}

/* --- what is there */

static int open_object(ObjectStore *s, const Moult__Entry *e, char path[static OBJECT_PATH_SIZE],
                       struct stat *ret, GError **error)
{
        object_path(e, path);
        /* O_NONBLOCK: whatever somebody put there in place of the object must not stop us. */
        scoped_fd int fd = openat(s->objects_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
                int saved = errno;
                if (saved == ELOOP)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                                    "the object %s is a symbolic link", path);
                else
                        moult_error_errno(error, is_missing(saved) ? ENOENT : saved, "opening the object %s",
                                          path);
                return -1;
        }
        if (fstat(fd, ret) < 0) {
                moult_error_errno(error, errno, "looking at the object %s", path);
                return -1;
        }
        if (!S_ISREG(ret->st_mode) || (guint64)ret->st_size != e->size) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the object %s is not a file of %" G_GUINT64_FORMAT " bytes", path, e->size);
                return -1;
        }
        return g_steal_fd(&fd);
}

static gboolean metadata_fits(int fd, const char *path, const Moult__Entry *e, GError **error)
{
        g_autoptr(Metadata) want = metadata_from_entry(e);
        struct metadata_object o = {.dirfd = -1, .name = path, .fd = fd};
        g_autoptr(GError) why = NULL;
        if (metadata_verify(&o, S_IFREG, want, &why))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the object %s was changed: %s", path,
                    why->message);
        return FALSE;
}

gboolean object_store_has(ObjectStore *s, const Moult__Entry *e)
{
        char path[OBJECT_PATH_SIZE];
        struct stat st;
        scoped_fd int fd = open_object(s, e, path, &st, NULL);
        return fd >= 0 && metadata_fits(fd, path, e, NULL);
}

gboolean object_store_verify(ObjectStore *s, const Moult__Entry *e, GCancellable *cancellable, GError **error)
{
        char path[OBJECT_PATH_SIZE];
        struct stat st;
        scoped_fd int fd = open_object(s, e, path, &st, error);
        if (fd < 0 || !metadata_fits(fd, path, e, error))
                return FALSE;
        if (object_memo_knows(s->verified, path, &st))
                return TRUE;
        fault_point("object-read");
        guint8 digest[DIGEST_SIZE];
        g_autoptr(Hasher) h = hasher_new();
        if (!verity_digest_fd(h, fd, e->size, digest, cancellable, error)) {
                g_prefix_error(error, "reading the object %s: ", path);
                return FALSE;
        }
        if (e->digest.len == DIGEST_SIZE && memcmp(digest, e->digest.data, DIGEST_SIZE) == 0) {
                object_memo_note(s->verified, path, &st); /* as it was before it was read */
                return TRUE;
        }
        char hex[2 * DIGEST_SIZE + 1];
        digest_to_hex(digest, hex);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "the content of the object %s is damaged: its digest is now %s", path, hex);
        return FALSE;
}

/* A name was given to the file, or taken from it, which was whole as @before: that changes its time of
 * change, and nothing else may have. */
static void note_still_whole(ObjectStore *s, const char *path, const struct stat *before)
{
        struct stat st;
        if (fstatat(s->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == before->st_dev &&
            st.st_ino == before->st_ino && st.st_size == before->st_size &&
            st.st_mtim.tv_sec == before->st_mtim.tv_sec && st.st_mtim.tv_nsec == before->st_mtim.tv_nsec)
                object_memo_note(s->verified, path, &st);
}

void object_store_forget_verified(ObjectStore *s)
{
        object_memo_clear(s->verified);
}

int object_store_open_object(ObjectStore *s, const Moult__Entry *e, GError **error)
{
        char path[OBJECT_PATH_SIZE];
        struct stat st;
        return open_object(s, e, path, &st, error);
}

/* --- what comes */

static gboolean make_shard(ObjectStore *s, const char *path, GError **error)
{
        char shard[SHARD_LENGTH + 1] = {path[0], path[1]};
        if (mkdirat(s->objects_fd, shard, DIRECTORY_MODE) == 0 || errno == EEXIST)
                return TRUE;
        return moult_error_errno(error, errno, "making the directory %s of the object store", shard);
}

/* The file system does not let it be moved (another project quota): a copy is. */
static gboolean take_copy(ObjectStore *s, const Moult__Entry *e, int dirfd, const char *name,
                          const char *path, GError **error)
{
        g_autoptr(Metadata) want = metadata_from_entry(e);
        for (int i = 0;; i++) {
                g_autofree char *temporary = g_strdup_printf("%.2s/" TEMPORARY "%08x", path, g_random_int());
                g_autoptr(GError) why = NULL;
                if (!object_copy(dirfd, name, s->objects_fd, temporary, want, &why)) {
                        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_BUSY) && i < MAKE_ATTEMPTS)
                                continue; /* the name is taken */
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                int fake = fault_point("object-copied");
                if (fake != 0 || renameat(s->objects_fd, temporary, s->objects_fd, path) < 0) {
                        moult_error_errno(error, fake != 0 ? fake : errno, "naming the object %s", path);
                        unlinkat(s->objects_fd, temporary, 0);
                        return FALSE;
                }
                unlinkat(dirfd, name, 0);
                return TRUE;
        }
}

gboolean object_store_take(ObjectStore *s, const Moult__Entry *e, int dirfd, const char *name, GError **error)
{
        char path[OBJECT_PATH_SIZE];
        struct stat st;
        object_path(e, path);
        int fake = fault_point("object-take");
        if (fake != 0)
                return moult_error_errno(error, fake, "moving a file into the object %s", path);
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return moult_error_errno(error, errno, "moving %s into the object %s", name, path);
        if (!S_ISREG(st.st_mode) || (guint64)st.st_size != e->size) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "%s cannot become the object %s: it is not a file of %" G_GUINT64_FORMAT " bytes",
                            name, path, e->size);
                return FALSE;
        }
        gboolean moved = renameat(dirfd, name, s->objects_fd, path) == 0;
        if (!moved && errno == ENOENT) {
                if (!make_shard(s, path, error))
                        return FALSE;
                moved = renameat(dirfd, name, s->objects_fd, path) == 0;
        }
        if (!moved && errno == EXDEV) {
                if (!make_shard(s, path, error) || !take_copy(s, e, dirfd, name, path, error))
                        return FALSE;
                moved = TRUE;
        }
        if (!moved)
                return moult_error_errno(error, errno, "moving %s into the object %s", name, path);
        if (st.st_nlink == 1)
                note_still_whole(s, path, &st); /* not of a copy: nobody has verified that */
        /* Two names of one file: rename() does nothing then, and says that it went well. */
        if (st.st_nlink > 1)
                unlinkat(dirfd, name, 0);
        fake = fault_point("object-taken");
        return fake == 0 || moult_error_errno(error, fake, "after moving a file into the object %s", path);
}

/* Holes of @from may become zeros: the object had its blocks. */
static gboolean write_over(int from, int to, guint64 size, const char *path, GError **error)
{
        g_autofree guint8 *buf = g_malloc(MEND_BYTES);
        if (ftruncate(to, (off_t)size) < 0)
                return moult_error_errno(error, errno, "mending the object %s", path);
        for (guint64 at = 0; at < size;) {
                ssize_t n = pread(from, buf, MIN(MEND_BYTES, size - at), (off_t)at);
                if (n > 0 && pwrite(to, buf, (size_t)n, (off_t)at) == n) {
                        at += (guint64)n;
                        continue;
                }
                return moult_error_errno(error, n == 0 ? EIO : errno, "mending the object %s", path);
        }
        return TRUE;
}

gboolean object_store_mend(ObjectStore *s, const Moult__Entry *e, int dirfd, const char *name, GError **error)
{
        char path[OBJECT_PATH_SIZE];
        object_path(e, path);
        scoped_fd int from = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        scoped_fd int to = openat(s->objects_fd, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        if (to < 0 && errno == ETXTBSY) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "the object %s is damaged, and cannot be mended while a program runs from it: "
                            "stop the program",
                            path);
                return FALSE;
        }
        if (from < 0 || to < 0 || fstat(to, &st) < 0)
                return moult_error_errno(error, errno, "mending the object %s", path);
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the object %s is not a regular file",
                            path);
                return FALSE;
        }
        g_autoptr(Metadata) want = metadata_from_entry(e);
        struct metadata_object o = {.dirfd = -1, .name = path, .fd = to};
        if (!write_over(from, to, e->size, path, error) || !metadata_apply(&o, S_IFREG, want, FALSE, error))
                return FALSE;
        if (fsync(to) < 0)
                return moult_error_errno(error, errno, "syncing the object %s", path);
        return TRUE;
}

/* --- what is used */

static gboolean needs_copy(int errnum)
{
        return errnum == EMLINK || errnum == EXDEV || errnum == EPERM || errnum == EOPNOTSUPP ||
               errnum == ENOSYS;
}

gboolean object_store_link(ObjectStore *s, const Moult__Entry *e, int dirfd, const char *name, GError **error)
{
        char path[OBJECT_PATH_SIZE];
        struct stat st;
        object_path(e, path);
        int fake = fault_point("object-link");
        if (fake != 0)
                return moult_error_errno(error, fake, "linking the object %s", path);
        if (fstatat(s->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return moult_error_errno(error, is_missing(errno) ? ENOENT : errno, "linking the object %s",
                                         path);
        if (!S_ISREG(st.st_mode) || (guint64)st.st_size != e->size) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the object %s is not a file of %" G_GUINT64_FORMAT " bytes", path, e->size);
                return FALSE;
        }
        int refused = fault_skip("object-hard-link")                    ? EMLINK
                      : linkat(s->objects_fd, path, dirfd, name, 0) < 0 ? errno
                                                                        : 0;
        if (refused == 0) {
                if (object_memo_knows(s->verified, path, &st))
                        note_still_whole(s, path, &st);
                return TRUE;
        }
        if (!needs_copy(refused))
                return moult_error_errno(error, refused, "linking the object %s as %s", path, name);
        g_autoptr(Metadata) want = metadata_from_entry(e);
        if (object_copy(s->objects_fd, path, dirfd, name, want, error))
                return TRUE;
        g_prefix_error(error, "copying the object %s, since it cannot be linked: ", path);
        return FALSE;
}

/* --- what goes */

/* Names of @keep's objects, as below objects. */
static GHashTable *names_of(const Target *const *keep, guint n)
{
        GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (guint k = 0; k < n; k++) {
                for (guint i = 0; i < target_size(keep[k]); i++) {
                        struct target_item item = target_get(keep[k], i);
                        if (item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                                continue;
                        char path[OBJECT_PATH_SIZE];
                        object_path(item.entry, path);
                        g_hash_table_add(names, g_strdup(path));
                }
        }
        return names;
}

static DIR *list(int dirfd, const char *name, GError **error)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (dir == NULL) {
                moult_error_errno(error, errno, "listing %s of the object store", name);
                if (fd >= 0)
                        close(fd);
        }
        return dir;
}

static gboolean is_dots(const char *name)
{
        return g_str_equal(name, ".") || g_str_equal(name, "..");
}

static gboolean remove_object(DIR *shard, const char *path, const char *name, guint64 *freed, GError **error)
{
        struct stat st;
        int fd = dirfd(shard);
        int fake = fault_point("object-collect");
        if (fake != 0)
                return moult_error_errno(error, fake, "removing the object %s", path);
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at the object %s", path);
        if (!remove_tree(fd, name, error))
                return FALSE;
        if (!S_ISDIR(st.st_mode) && st.st_nlink == 1) /* else a tree still has it */
                *freed += (guint64)st.st_blocks * BLOCK_BYTES;
        return TRUE;
}

static gboolean collect_shard(ObjectStore *s, const char *shard, GHashTable *keep, guint64 *freed,
                              GError **error)
{
        DIR *dir = list(s->objects_fd, shard, error);
        if (dir == NULL)
                return FALSE;
        gboolean ok = TRUE;
        struct dirent *de;
        while (ok && (de = readdir(dir)) != NULL) {
                if (is_dots(de->d_name))
                        continue;
                g_autofree char *path = g_strconcat(shard, "/", de->d_name, NULL);
                if (!g_hash_table_contains(keep, path))
                        ok = remove_object(dir, path, de->d_name, freed, error);
        }
        closedir(dir);
        if (ok)
                unlinkat(s->objects_fd, shard, AT_REMOVEDIR); /* if that was all of it */
        return ok;
}

gboolean object_store_collect(ObjectStore *s, const Target *const *keep, guint n, guint64 *ret_bytes,
                              GError **error)
{
        g_autoptr(GHashTable) names = names_of(keep, n);
        DIR *dir = list(s->objects_fd, ".", error);
        if (dir == NULL)
                return FALSE;
        gboolean ok = TRUE;
        guint64 freed = 0;
        struct dirent *de;
        while (ok && (de = readdir(dir)) != NULL) {
                struct stat st;
                if (is_dots(de->d_name))
                        continue;
                if (fstatat(s->objects_fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        ok = moult_error_errno(error, errno, "looking at %s of the object store", de->d_name);
                else if (!S_ISDIR(st.st_mode) || strlen(de->d_name) != SHARD_LENGTH)
                        ok = remove_tree(s->objects_fd, de->d_name, error); /* nothing of ours */
                else
                        ok = collect_shard(s, de->d_name, names, &freed, error);
        }
        closedir(dir);
        if (ok && ret_bytes != NULL)
                *ret_bytes = freed;
        return ok;
}
