/* fuse-overlay/targetfs/serve.c - puts the parts of a server together and runs it. */
#include "fuse-overlay/targetfs/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "fuse-overlay/targetfs/listing.h"
#include "fuse-overlay/targetfs/ops.h"

#define LISTINGS_MAX     128u
#define CPUS_PER_THREAD  2u /* the other one is for who asks */
#define THREADS_MAX      4u
#define SLOW_THREADS_MAX 8
/* 64 KiB of the kernel's memory. */
#define DESCRIPTORS_AT_START 8192

/* Directories of the original and objects are held by descriptors for as long as the kernel knows them. */
static void raise_limit(void)
{
        g_autofree char *text = NULL;
        struct rlimit limit = {0};
        guint64 most;

        if (g_file_get_contents("/proc/sys/fs/nr_open", &text, NULL, NULL) &&
            (most = g_ascii_strtoull(text, NULL, 10)) > 0)
                limit.rlim_cur = limit.rlim_max = most;
        if (limit.rlim_max > 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0)
                return;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/* A process with several threads waits for all CPUs (synchronize_rcu(): about 10 ms) each time that its table
 * of descriptors is full and doubles. With one thread it does not, so the table grows now. */
static void make_table(int some_fd)
{
        scoped_fd int last = fcntl(some_fd, F_DUPFD_CLOEXEC, DESCRIPTORS_AT_START - 1);

        if (last < 0)
                g_debug("the table of descriptors grows later: %s", g_strerror(errno));
}

static void inode_gone(Inode *i, gpointer user)
{
        struct fs *fs = user;
        content_drop(fs->contents, i);
        shelf_drop(fs->listings, &i->listing);
}

static gboolean run(struct fs *fs, int fuse_fd, GError **error)
{
        char program[] = "moult-targetfs", device[32];
        char *words[] = {program, NULL};
        struct fuse_args args = FUSE_ARGS_INIT(1, words);
        struct fuse_session *session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, fs);

        if (session == NULL) {
                close(fuse_fd);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "starting a FUSE session failed");
                return FALSE;
        }
        /* libfuse's form of "it is mounted already". */
        snprintf(device, sizeof device, "/dev/fd/%d", fuse_fd);
        if (fuse_session_mount(session, device) != 0) {
                close(fuse_fd);
                fuse_session_destroy(session);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "taking over the FUSE connection failed");
                return FALSE;
        }
        struct fuse_loop_config *loop = fuse_loop_cfg_create();
        fuse_loop_cfg_set_clone_fd(loop, 0);
        guint threads = CLAMP(g_get_num_processors() / CPUS_PER_THREAD, 1, THREADS_MAX);
        fuse_loop_cfg_set_max_threads(loop, threads);
        fuse_loop_cfg_set_idle_threads(loop, threads);
        fs->slow = g_thread_pool_new(fs_read_slowly, fs, SLOW_THREADS_MAX, /* exclusive= */ FALSE, NULL);
        fs->remote = g_thread_pool_new(fs_read_slowly, fs, SLOW_THREADS_MAX, /* exclusive= */ FALSE, NULL);
        int r = fuse_session_loop_mt(session, loop);
        g_thread_pool_free(fs->slow, /* immediate= */ FALSE, /* wait= */ TRUE);
        g_thread_pool_free(fs->remote, /* immediate= */ FALSE, /* wait= */ TRUE);
        fuse_loop_cfg_destroy(loop);
        fuse_session_destroy(session); /* closes the descriptor */
        return r == 0 || moult_error_errno(error, -r, "reading requests of the kernel");
}

gboolean serve(const struct serve_config *config, int fuse_fd, GError **error)
{
        struct fs fs = {.original_fd = config->original_fd,
                        .merge = config->merge.path,
                        .ready = config->ready,
                        .user = config->user};
        const struct inode_events events = {inode_gone};
        scoped_fd int fuse = fuse_fd;

        raise_limit();
        make_table(fuse);
        g_autoptr(NameTree) names = name_tree_new(config->target, &config->merge);
        g_autoptr(ObjectStore) store = object_store_open(config->state_fd, error);
        if (store == NULL)
                return FALSE;
        g_autoptr(Contents) contents = contents_new(store, config->pack);
        g_autoptr(Shelf) listings = shelf_new(LISTINGS_MAX, listing_free);
        g_autoptr(InodeTable) inodes = inode_table_new(names, config->original_fd, &events, &fs, error);
        if (inodes == NULL)
                return FALSE;
        fs.contents = contents;
        fs.pack = config->pack;
        fs.listings = listings;
        fs.inodes = inodes;
        gboolean ok = run(&fs, g_steal_fd(&fuse), error);
        g_autofree char *counts = config->pack != NULL ? source_pack_counts(config->pack) : NULL;
        if (counts != NULL)
                event_log(EVENT_INFO, "targetfs-read", "what was read of the release while it was copied",
                          "merge", fs.merge, "bytes", counts, NULL);
        return ok;
}
