/* fuse-overlay/targetfs/ops.c - the requests of the kernel, answered.
 *
 * Theory of operation: nothing changes while it is mounted, so every answer may be kept for ever, also "no
 * such name"; and open, opendir and their ends are answered once with "not needed", after which the kernel
 * does not ask again (it then takes FOPEN_KEEP_CACHE and FOPEN_CACHE_DIR for granted). What remains is one
 * lookup for each name, mostly as a part of reading its directory, and reads that are not in the page cache.
 * Writes never come here: the superblock is read-only.
 *
 * The kernel hands requests to the threads that wait for them in turn, so with several of them each request
 * wakes a thread that has slept longest, on a CPU that is cold. So there are few, and they answer what is at
 * hand; a read that has to wait for a disk is given to a pool. */
#include "fuse-overlay/targetfs/ops.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "fuse-overlay/merge.h"
#include "fuse-overlay/targetfs/attributes.h"
#include "fuse-overlay/targetfs/listing.h"

/* As good as for ever; the kernel turns seconds into jiffies. */
#define FOR_EVER_S        (10.0 * 365 * 86400)
#define READ_REQUESTS_MAX 64u
/* Worth no other thread, even if it has to wait. */
#define SMALL_READ (32u * 1024u)
/* From here on a pipe full of pages costs less than copying them twice. */
#define SPLICED_READ_MIN (64u * 1024u)
/* "." and ".." come first. */
#define DOTS 2u

static struct fs *fs_of(fuse_req_t req)
{
        return fuse_req_userdata(req);
}

static Inode *inode_of(fuse_req_t req, fuse_ino_t ino)
{
        return ino == FUSE_ROOT_ID ? inode_table_root(fs_of(req)->inodes) : (Inode *)(guintptr)ino;
}

static fuse_ino_t id_of(const struct fs *fs, const Inode *i)
{
        return i == inode_table_root(fs->inodes) ? FUSE_ROOT_ID : (fuse_ino_t)(guintptr)i;
}

static void op_init(void *user, struct fuse_conn_info *conn)
{
        struct fs *fs = user;
        unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS |
                          FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_PARALLEL_DIROPS |
                          FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_SPLICE_WRITE;

        conn->want = conn->capable & wanted;
        conn->max_background = READ_REQUESTS_MAX;
        conn->congestion_threshold = READ_REQUESTS_MAX * 3 / 4;
        fs->ready(fs->user);
}

/* --- names --- */

static void fill_entry(struct fs *fs, Inode *i, struct fuse_entry_param *ret)
{
        content_pin(fs->contents, fs->inodes, i);
        *ret = (struct fuse_entry_param){
                .ino = id_of(fs, i), .attr = i->st, .attr_timeout = FOR_EVER_S, .entry_timeout = FOR_EVER_S};
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct fs *fs = fs_of(req);
        struct fuse_entry_param e = {.entry_timeout = FOR_EVER_S};
        Inode *i;
        int r = inode_lookup(fs->inodes, inode_of(req, parent), name, &i);

        if (r == ENOENT) {
                fuse_reply_entry(req, &e); /* no inode: the kernel keeps that it is not there */
        } else if (r != 0) {
                fuse_reply_err(req, r);
        } else {
                fill_entry(fs, i, &e);
                if (fuse_reply_entry(req, &e) < 0)
                        inode_forget(fs->inodes, i, 1);
        }
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
        inode_forget(fs_of(req)->inodes, inode_of(req, ino), n);
        fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
        for (size_t n = 0; n < count; n++)
                inode_forget(fs_of(req)->inodes, inode_of(req, forgets[n].ino), forgets[n].nlookup);
        fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        fuse_reply_attr(req, &inode_of(req, ino)->st, FOR_EVER_S);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
        char target[PATH_MAX];
        ssize_t n = inode_readlink(fs_of(req)->inodes, inode_of(req, ino), target, sizeof target - 1);

        if (n < 0) {
                fuse_reply_err(req, errno);
                return;
        }
        target[n] = '\0';
        fuse_reply_readlink(req, target);
}

/* --- bytes --- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        fuse_reply_err(req, ENOSYS); /* not needed */
}

/* Once for each file: it may be asked for in a loop. */
static void complain(struct fs *fs, Inode *i, const GError *error)
{
        if (!g_atomic_int_compare_and_exchange(&i->complained, FALSE, TRUE))
                return;
        g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)i->st.st_ino);
        event_log(EVENT_ERROR, "targetfs-unreadable", error->message, "merge", fs->merge, "inode", number,
                  NULL);
}

struct read_job {
        fuse_req_t req;
        Inode *inode;
        struct content *content;
        size_t size;
        off_t offset;
};

/* In a thread of the pool: may wait for a disk. */
void fs_read_slowly(gpointer data, gpointer user)
{
        struct read_job *job = data;
        struct fs *fs = user;
        g_autofree char *buf = g_malloc(job->size);
        g_autoptr(GError) error = NULL;
        gssize n = content_read(job->content, buf, job->size, (guint64)job->offset, &error);

        /* Once all is copied the agent has no pack to give: then it is here. */
        if (n < 0 && job->content->fd < 0)
                n = content_read_object(fs->contents, fs->inodes, job->inode, buf, job->size,
                                        (guint64)job->offset);
        if (n < 0) {
                complain(fs, job->inode, error);
                fuse_reply_err(job->req, EIO);
        } else {
                fuse_reply_buf(job->req, buf, (size_t)n);
        }
        content_unref(fs->contents, job->content);
        g_free(job);
}

/* The kernel copies from the page cache of the original or the object, once. Its pages are not moved into
 * the merge's (SPLICE_F_MOVE): they would be missing where they are from, and be read from the disk again for
 * the next one who wants them. */
static void reply_spliced(fuse_req_t req, int fd, size_t size, off_t offset)
{
        struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(size);

        bytes.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
        bytes.buf[0].fd = fd;
        bytes.buf[0].pos = offset;
        fuse_reply_data(req, &bytes, 0);
}

/* A guess, from the last byte: files are read forwards. Where it is wrong, a request waits that need not. */
static gboolean is_cached(int fd, size_t size, off_t offset)
{
        char byte;
        struct iovec v = {&byte, sizeof byte};

        return preadv2(fd, &v, 1, offset + (off_t)size - 1, RWF_NOWAIT) == 1;
}

/* What is in the page cache already is answered here and now; TRUE: it was. */
static gboolean read_cached(fuse_req_t req, const Inode *i, int fd, size_t size, off_t offset)
{
        size_t want = offset < i->st.st_size ? MIN(size, (size_t)(i->st.st_size - offset)) : 0;

        if (want >= SPLICED_READ_MIN) {
                gboolean cached = is_cached(fd, want, offset);
                if (cached)
                        reply_spliced(req, fd, want, offset);
                return cached;
        }
        g_autofree char *buf = g_malloc(want + 1);
        struct iovec v = {buf, want};
        ssize_t n = want > 0 ? preadv2(fd, &v, 1, offset, RWF_NOWAIT) : 0;

        /* A file system that cannot say whether it would have to wait: a small read is not worth a thread. */
        if (n < 0 && errno == EOPNOTSUPP && want <= SMALL_READ)
                n = pread(fd, buf, want, offset);
        if (n < 0 || (size_t)n < want)
                return FALSE;
        fuse_reply_buf(req, buf, want);
        return TRUE;
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
        struct fs *fs = fs_of(req);
        Inode *i = inode_of(req, ino);
        g_autoptr(GError) error = NULL;
        struct content *content = content_get(fs->contents, fs->inodes, i, &error);

        if (content == NULL) {
                complain(fs, i, error);
                fuse_reply_err(req, EIO);
        } else if (content->fd >= 0 && read_cached(req, i, content->fd, size, offset)) {
                content_unref(fs->contents, content);
        } else {
                const struct read_job job = {req, i, content, size, offset};
                /* Those that wait for the host do not keep those that wait for a disk. */
                g_thread_pool_push(content->fd >= 0 ? fs->slow : fs->remote, g_memdup2(&job, sizeof job),
                                   NULL);
        }
}

/* lseek() of a file without holes. */
static off_t seek_data(off_t size, off_t offset, int whence)
{
        if (offset < 0 || offset >= size) {
                errno = ENXIO;
                return -1;
        }
        return whence == SEEK_DATA ? offset : size;
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
        struct fs *fs = fs_of(req);
        g_autoptr(GError) error = NULL;
        struct content *content = content_get(fs->contents, fs->inodes, inode_of(req, ino), &error);

        if (content == NULL) {
                complain(fs, inode_of(req, ino), error);
                fuse_reply_err(req, EIO);
                return;
        }
        /* The descriptor's own position is nobody's: reads say where. In a pack all is data. */
        off_t r = content->fd >= 0 ? lseek(content->fd, offset, whence)
                                   : seek_data(inode_of(req, ino)->st.st_size, offset, whence);
        if (r < 0)
                fuse_reply_err(req, errno);
        else
                fuse_reply_lseek(req, r);
        content_unref(fs->contents, content);
}

/* --- directories --- */

static struct listing *listing_get(struct fs *fs, Inode *directory)
{
        struct listing *l = (struct listing *)shelf_get(fs->listings, &directory->listing);
        if (l != NULL || (l = listing_read(fs->inodes, directory)) == NULL)
                return l;
        return (struct listing *)shelf_put(fs->listings, &directory->listing, &l->item, /* pinned= */ FALSE);
}

/* One entry into the answer: bytes that it takes, more than @room if it does not fit; 0: it cannot be looked
 * up. */
static size_t put_entry(fuse_req_t req, Inode *directory, const struct listing *l, guint n, gboolean plus,
                        char *buf, size_t room)
{
        struct fs *fs = fs_of(req);
        struct fuse_entry_param e = {0};
        const char *name = n == 0 ? "." : "..";
        Inode *i = NULL;

        if (n < DOTS) {
                e.attr.st_ino = directory->st.st_ino; /* that of ".." is the kernel's to know */
                e.attr.st_mode = S_IFDIR;
        } else {
                const struct listing_entry *entry =
                        &g_array_index(l->entries, struct listing_entry, n - DOTS);
                name = listing_name(l, entry);
                e.attr.st_ino = entry->inode;
                e.attr.st_mode = entry->type;
        }
        if (!plus)
                return fuse_add_direntry(req, buf, room, name, &e.attr, n + 1);
        if (fuse_add_direntry_plus(req, NULL, 0, name, &e, n + 1) > room)
                return room + 1;
        /* What cannot be looked up is listed without attributes: the error shows when it is used. */
        if (n >= DOTS && inode_lookup(fs->inodes, directory, name, &i) == 0)
                fill_entry(fs, i, &e);
        return fuse_add_direntry_plus(req, buf, room, name, &e, n + 1);
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, gboolean plus)
{
        struct fs *fs = fs_of(req);
        Inode *directory = inode_of(req, ino);
        g_autofree char *buf = g_malloc(size);
        struct listing *l = listing_get(fs, directory);
        size_t used = 0;

        if (l == NULL) {
                fuse_reply_err(req, errno);
                return;
        }
        for (guint n = (guint)MAX(offset, 0); n < l->entries->len + DOTS; n++) {
                size_t len = put_entry(req, directory, l, n, plus, buf + used, size - used);
                if (len > size - used)
                        break;
                used += len;
        }
        fuse_reply_buf(req, buf, used);
        shelf_unref(fs->listings, &l->item);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
        read_directory(req, ino, size, offset, /* plus= */ FALSE);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *fi)
{
        read_directory(req, ino, size, offset, /* plus= */ TRUE);
}

/* --- the rest --- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
        struct statvfs st;

        if (fstatvfs(fs_of(req)->original_fd, &st) < 0)
                fuse_reply_err(req, errno);
        else
                fuse_reply_statfs(req, &st);
}

static void reply_attribute(fuse_req_t req, ssize_t n, const char *buf, size_t size)
{
        if (n < 0)
                fuse_reply_err(req, errno);
        else if (size == 0)
                fuse_reply_xattr(req, (size_t)n);
        else
                fuse_reply_buf(req, buf, (size_t)n);
}

static ssize_t give_sources(struct fs *fs, char *buf, size_t size)
{
        g_autofree char *text = source_pack_counts(fs->pack);
        size_t len = strlen(text);

        if (size > 0 && len > size) {
                errno = ERANGE;
                return -1;
        }
        memcpy(buf, text, size > 0 ? len : 0);
        return (ssize_t)len;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
        g_autofree char *buf = g_malloc(size + 1);
        struct fs *fs = fs_of(req);
        gboolean sources =
                fs->pack != NULL && ino == FUSE_ROOT_ID && g_str_equal(name, MERGE_SOURCES_ATTRIBUTE);
        ssize_t n = sources ? give_sources(fs, buf, size)
                            : attributes_get(fs->inodes, inode_of(req, ino), name, buf, size);
        reply_attribute(req, n, buf, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
        g_autofree char *buf = g_malloc(size + 1);
        gboolean privileged = fuse_req_ctx(req)->uid == 0;
        ssize_t n = attributes_list(fs_of(req)->inodes, inode_of(req, ino), privileged, buf, size);
        reply_attribute(req, n, buf, size);
}

const struct fuse_lowlevel_ops fs_ops = {
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getattr = op_getattr,
        .readlink = op_readlink,
        .open = op_open,
        .opendir = op_open,
        .read = op_read,
        .lseek = op_lseek,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
};
