/* shm/pci_window.c - finding the shared-memory window that the host plugged: ivshmem-plain (1af4:1110),
 * BAR 2.
 *
 * Several windows may be plugged at once (an old push's that is on its way out). The one that was offered is
 * recognised by its pack's manifest digest; what it holds is judged later, by the pack reader. */
#include "shm/pci_window.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/channel.pb-c.h"
#include "shm/pack_layout.h"

#define VENDOR        0x1af4u
#define DEVICE        0x1110u
#define ATTRIBUTE_MAX 64u

/* Value of a sysfs attribute that holds one hexadecimal number; 0 if it cannot be read. */
static guint64 attribute(int device_fd, const char *name)
{
        g_autoptr(GBytes) text = fd_read_file_at(device_fd, name, ATTRIBUTE_MAX, NULL);
        if (text == NULL)
                return 0;
        g_autofree char *s = g_strndup(g_bytes_get_data(text, NULL), g_bytes_get_size(text));
        return g_ascii_strtoull(s, NULL, 16);
}

/* The kernel shows a hot-plugged device some milliseconds before it gives it an address and the files of its
 * BARs (drivers/pci/probe.c: pci_device_add() comes before the assignment and pci_bus_add_device()).
 * NOT_FOUND: look again. */
static gboolean not_ready(GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "the kernel has given it no address yet; if that stays so, its PCIe root port reserves "
                    "less than the "
                    "pack's size, rounded up to a power of two (pref64-reserve)");
        return FALSE;
}

/* Memory decoding is off until somebody enables the device. */
static gboolean enable(int device_fd, GError **error)
{
        scoped_fd int fd = openat(device_fd, "enable", O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, "1", 1) == 1)
                return TRUE;
        if (fd >= 0 && errno == EINVAL)
                return not_ready(error);
        return moult_error_errno(error, errno, "enabling it");
}

static Region *map_bar(int device_fd, gboolean writable, GError **error)
{
        const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
        /* Write-combined first: streaming loads are only worth something there. Not all devices have it. */
        scoped_fd int fd = openat(device_fd, "resource2_wc", flags);
        if (fd < 0 && errno == ENOENT)
                fd = openat(device_fd, "resource2", flags);
        struct stat st;
        if (fd < 0 && errno == ENOENT) {
                not_ready(error);
                return NULL;
        }
        if (fd < 0 || fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "opening its BAR 2");
                return NULL;
        }
        Region *r = region_map(g_steal_fd(&fd), (uint64_t)st.st_size, writable, error);
        if (r == NULL && errno == EPERM) {
                g_clear_error(error);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the kernel does not allow to map it (lockdown, as with Secure Boot); another "
                            "transport is "
                            "needed");
        }
        return r;
}

static gboolean check_read_only(int device_fd, GError **error)
{
        gboolean writable;
        g_autoptr(Region) probe = map_bar(device_fd, TRUE, error);
        if (probe == NULL || !region_probe_writable(probe, &writable, error))
                return FALSE;
        if (writable) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the window can be written from this guest, so other guests could change what is "
                            "read; the "
                            "host must plug it with readonly=on");
                return FALSE;
        }
        return TRUE;
}

/* A mapping of the device's window, or NULL: with @error set if it failed, without if it holds another pack.
 */
static Region *try_device(int device_fd, const uint8_t digest[static DIGEST_SIZE], gboolean strict,
                          GError **error)
{
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header header;

        if (!enable(device_fd, error))
                return NULL;
        g_autoptr(Region) r = map_bar(device_fd, FALSE, error);
        if (r == NULL || !region_copy_in(r, 0, buf, sizeof buf, error))
                return NULL;
        if (pack_header_parse(buf, region_size(r), &header) != NULL ||
            memcmp(header.manifest_digest, digest, DIGEST_SIZE) != 0)
                return NULL;
        if (strict && !check_read_only(device_fd, error))
                return NULL;
        return g_steal_pointer(&r);
}

PackSource *pci_window_open(const char *sysfs_pci, const uint8_t manifest_digest[static 32], gboolean strict,
                            GError **error)
{
        g_autoptr(GError) failure = NULL; /* the first one; told only if no window fits */
        unsigned n_windows = 0;
        g_autoptr(GDir) dir = g_dir_open(sysfs_pci, 0, NULL);

        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
                g_autofree char *path = g_build_filename(sysfs_pci, name, NULL);
                scoped_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0 || attribute(fd, "vendor") != VENDOR || attribute(fd, "device") != DEVICE)
                        continue;
                n_windows++;
                g_autoptr(GError) why = NULL;
                Region *r = try_device(fd, manifest_digest, strict, &why);
                if (r != NULL)
                        return pack_source_region_new(r, MOULT__SOURCE_KIND__SOURCE_IVSHMEM, "ivshmem");
                if (why != NULL && failure == NULL) {
                        g_prefix_error(&why, "shared-memory window at PCI %s: ", name);
                        failure = g_steal_pointer(&why);
                }
        }
        if (failure != NULL)
                g_propagate_error(error, g_steal_pointer(&failure));
        else
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "no shared-memory window holds the pack that was offered (%u windows are plugged)",
                        n_windows);
        return NULL;
}
