/* shm/pmem_window.c - finding the pack that the host plugged as persistent memory (virtio-pmem): /dev/pmemN.
 *
 * Theory of operation: kernel lockdown (Secure Boot) forbids to map a PCI BAR, but not to read a block
 * device, and the kernel's own driver shows a virtio-pmem device as one. It is read with O_DIRECT: the driver
 * copies from the shared memory into our buffer and the page cache is not involved. A mapping of /dev/pmemN
 * would go through the page cache, so it would hold the pack in guest memory a second time, show a device
 * that has gone as if it were there, and raise SIGBUS for the rest.
 *
 * There may be other persistent memory in this machine (a real NVDIMM, the pack of an earlier push, which
 * QEMU cannot take off). Of those nothing but the first block is read, and nothing is written. The one that
 * was offered is recognised by its pack's manifest digest; what it holds is judged later, by the pack reader.
 */
#include "shm/pmem_window.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/channel.pb-c.h"
#include "shm/pack_layout.h"

#define BLOCK         4096u /* O_DIRECT's alignment; no pmem device has larger sectors */
#define BOUNCE_MAX    (256u * 1024u)
#define ATTRIBUTE_MAX 64u
#define PROBE_STORES  8u

typedef struct {
        PackSource base;
        int fd; /* owned */
} PmemSource;

/* Fills the aligned @buf (whole blocks) from @offset (a block's). */
static gboolean read_blocks(int fd, uint64_t offset, uint8_t *buf, size_t len, GError **error)
{
        for (size_t done = 0; done < len;) {
                ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n > 0) {
                        done += (size_t)n;
                        continue;
                }
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "reading persistent memory at %" G_GUINT64_FORMAT ": %s", offset + done,
                            n < 0 ? g_strerror(errno) : "it is gone");
                return FALSE;
        }
        return TRUE;
}

static void block_free(void *p)
{
        g_aligned_free(p);
}
typedef uint8_t Blocks;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Blocks, block_free)

static Blocks *blocks_new(size_t len)
{
        return g_aligned_alloc(len, 1, BLOCK);
}

/* Our callers' buffers and lengths are not aligned, so the bytes take a second, short way. */
static gboolean pmem_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *cancellable,
                          GError **error)
{
        const PmemSource *s = (PmemSource *)self;
        uint8_t *to = buf;
        size_t head = (size_t)(offset % BLOCK);
        g_autoptr(Blocks) bounce = NULL;

        if (len == 0)
                return TRUE;
        bounce = blocks_new(len > BOUNCE_MAX - head ? BOUNCE_MAX : (head + len + BLOCK - 1) / BLOCK * BLOCK);
        while (len > 0) {
                size_t n = MIN(len, BOUNCE_MAX - head);

                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !read_blocks(s->fd, offset - head, bounce, (head + n + BLOCK - 1) / BLOCK * BLOCK, error))
                        return FALSE;
                memcpy(to, bounce + head, n);
                to += n;
                offset += n;
                len -= n;
                head = 0;
        }
        return TRUE;
}

static void pmem_free(PackSource *self)
{
        PmemSource *s = (PmemSource *)self;

        close(s->fd);
        g_free(s);
}

static const struct pack_source_ops pmem_ops = {
        .name = "pmem",
        .kind = MOULT__SOURCE_KIND__SOURCE_PMEM,
        .read = pmem_read,
        .free = pmem_free,
};

/* "pmemN": a whole disk of raw memory; not a partition, not one behind a sector table ("pmem0s"). */
static gboolean is_whole_pmem(const char *name)
{
        if (!g_str_has_prefix(name, "pmem") || name[4] == '\0')
                return FALSE;
        for (const char *c = name + 4; *c; c++)
                if (!g_ascii_isdigit(*c))
                        return FALSE;
        return TRUE;
}

/* The number that sysfs says the device has. */
static gboolean device_number(const char *sysfs_block, const char *name, dev_t *ret)
{
        g_autofree char *path = g_build_filename(sysfs_block, name, NULL);
        scoped_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(GBytes) bytes = dir >= 0 ? fd_read_file_at(dir, "dev", ATTRIBUTE_MAX, NULL) : NULL;
        g_autofree char *text =
                bytes ? g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) : NULL;
        g_auto(GStrv) parts = text ? g_strsplit(g_strstrip(text), ":", 3) : NULL;
        guint64 major_number, minor_number;

        if (!parts || g_strv_length(parts) != 2 ||
            !g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXUINT32, &major_number, NULL) ||
            !g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT32, &minor_number, NULL))
                return FALSE;
        *ret = makedev((unsigned)major_number, (unsigned)minor_number);
        return TRUE;
}

/* O_DIRECT, or without it where the file system of a test knows none. */
static int open_node(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_DIRECT);

        return fd < 0 && errno == EINVAL ? open(path, flags | O_CLOEXEC | O_NOCTTY) : fd;
}

/* The node of @name, which is the device that sysfs speaks of; -1 with @error. NOT_FOUND: look again. */
static int open_device(const char *sysfs_block, const char *dev, const char *name, int flags, GError **error)
{
        g_autofree char *path = g_build_filename(dev, name, NULL);
        scoped_fd int fd = -1;
        struct stat st;
        dev_t number;

        if (!device_number(sysfs_block, name, &number)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "the kernel has just taken it off");
                return -1;
        }
        fd = open_node(path, flags);
        if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "its node %s is not there yet", path);
                return -1;
        }
        if (fd < 0 || fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "opening %s", path);
                return -1;
        }
        if (st.st_rdev != number) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is not the device that the kernel means by that name", path);
                return -1;
        }
        return g_steal_fd(&fd);
}

/* Stores something else in the last word of the last block and looks whether it is there: padding, or the
 * signature, as in a PCI window (region.c, store_sticks()). What is ours is taken away again. */
static gboolean store_sticks(int fd, uint64_t size, gboolean *ret_sticks, GError **error)
{
        g_autoptr(Blocks) before = blocks_new(BLOCK);
        g_autoptr(Blocks) ours = blocks_new(BLOCK);
        const off_t at = (off_t)(size - BLOCK);

        *ret_sticks = FALSE;
        for (unsigned i = 0; i < PROBE_STORES && !*ret_sticks; i++) {
                uint64_t word, mask = (uint64_t)g_random_int() << 32 | g_random_int() | 1, now;

                if (!read_blocks(fd, (uint64_t)at, before, BLOCK, error))
                        return FALSE;
                memcpy(ours, before, BLOCK);
                memcpy(&word, ours + BLOCK - sizeof word, sizeof word);
                word ^= mask;
                memcpy(ours + BLOCK - sizeof word, &word, sizeof word);
                if (pwrite(fd, ours, BLOCK, at) != (ssize_t)BLOCK)
                        return TRUE; /* the kernel lets no store through */
                if (!read_blocks(fd, (uint64_t)at, ours, BLOCK, error))
                        return FALSE;
                memcpy(&now, ours + BLOCK - sizeof now, sizeof now);
                *ret_sticks = now == word;
        }
        if (*ret_sticks && pwrite(fd, before, BLOCK, at) != (ssize_t)BLOCK)
                return moult_error_errno(error, errno, "taking back the probe write");
        return TRUE;
}

/* virtio-pmem tells the guest nothing of readonly=on: the kernel believes that it may write, and the
 * hypervisor drops the store. So only a store can show it. A device that this kernel itself holds read-only
 * cannot be probed, and needs not be: no store of ours gets out. */
static gboolean check_read_only(const char *sysfs_block, const char *dev, const char *name, int reader,
                                uint64_t size, GError **error)
{
        int held_read_only = 0;
        gboolean sticks;

        if (ioctl(reader, BLKROGET, &held_read_only) == 0 && held_read_only)
                return TRUE;
        scoped_fd int fd = open_device(sysfs_block, dev, name, O_RDWR, error);
        if (fd < 0 || !store_sticks(fd, size, &sticks, error)) {
                g_prefix_error(error, "probing whether it can be written: ");
                return FALSE;
        }
        if (sticks) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the window can be written from this guest, so other guests could change what is "
                            "read; the host must plug it with readonly=on");
                return FALSE;
        }
        return TRUE;
}

/* The device as a source, or NULL: with @error set if it failed, without if it holds another pack, or none.
 */
static PackSource *try_device(const char *sysfs_block, const char *dev, const char *name,
                              const uint8_t digest[static DIGEST_SIZE], gboolean strict, GError **error)
{
        scoped_fd int fd = open_device(sysfs_block, dev, name, O_RDONLY, error);
        g_autoptr(Blocks) buf = blocks_new(PACK_HEADER_SIZE);
        struct pack_header header;
        off_t end;

        if (fd < 0)
                return NULL;
        end = lseek(fd, 0, SEEK_END);
        if (end < 0) {
                moult_error_errno(error, errno, "asking for its size");
                return NULL;
        }
        uint64_t size = (uint64_t)end / BLOCK * BLOCK;
        if (size < PACK_HEADER_SIZE)
                return NULL;
        if (!read_blocks(fd, 0, buf, PACK_HEADER_SIZE, error))
                return NULL;
        if (pack_header_parse(buf, size, &header) != NULL ||
            memcmp(header.manifest_digest, digest, DIGEST_SIZE) != 0)
                return NULL;
        if (strict && !check_read_only(sysfs_block, dev, name, fd, size, error))
                return NULL;
        PmemSource *s = g_new0(PmemSource, 1);
        pack_source_init(&s->base, &pmem_ops, size);
        s->fd = g_steal_fd(&fd);
        return &s->base;
}

PackSource *pmem_window_open(const char *sysfs_block, const char *dev,
                             const uint8_t manifest_digest[static 32], gboolean strict, GError **error)
{
        g_autoptr(GError) failure = NULL; /* the first one; told only if no device fits */
        unsigned n_devices = 0;
        g_autoptr(GDir) dir = g_dir_open(sysfs_block, 0, NULL);

        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
                if (!is_whole_pmem(name))
                        continue;
                n_devices++;
                g_autoptr(GError) why = NULL;
                PackSource *s = try_device(sysfs_block, dev, name, manifest_digest, strict, &why);
                if (s != NULL)
                        return s;
                if (why != NULL && failure == NULL) {
                        g_prefix_error(&why, "persistent memory %s: ", name);
                        failure = g_steal_pointer(&why);
                }
        }
        if (failure != NULL)
                g_propagate_error(error, g_steal_pointer(&failure));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "no persistent memory holds the pack that was offered (%u devices are there; the "
                            "guest needs the kernel modules virtio_pmem and nd_pmem)",
                            n_devices);
        return NULL;
}
