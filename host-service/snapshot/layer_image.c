/* host-service/snapshot/layer_image.c - empty images, and whom an image's header names. */
#include "host-service/snapshot/layer_image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk/die_with_parent.h"
#include "host-service/image/qcow2_header.h"

static gboolean run(GSubprocessLauncher *launcher, GPtrArray *argv, const char *name, GCancellable *c,
                    GError **error)
{
        g_autofree char *said = NULL;
        g_autoptr(GSubprocess) p = NULL;

        g_subprocess_launcher_set_child_setup(launcher, die_with_parent, GINT_TO_POINTER(getpid()), NULL);
        p = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, error);
        if (!p) {
                g_prefix_error(error, "snapshots need qemu-img (package qemu-utils): ");
                return FALSE;
        }
        if (!g_subprocess_communicate_utf8(p, NULL, c, &said, NULL, error)) {
                g_subprocess_force_exit(p);
                return FALSE;
        }
        if (g_subprocess_get_successful(p))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s: qemu-img says: %s", name,
                    said ? g_strstrip(said) : "nothing");
        return FALSE;
}

static void add(GPtrArray *argv, const char *word)
{
        g_ptr_array_add(argv, (gpointer)word);
}

gboolean layer_image_make(int fd, const char *qemu_img, const struct layer_image *image, GCancellable *c,
                          GError **error)
{
        enum { CHILD_FD = 3 };
        g_autofree char *path = g_strdup_printf("/dev/fd/%d", CHILD_FD);
        g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, image->size);
        g_autoptr(GSubprocessLauncher) launcher =
                g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        const char *const begin[] = {qemu_img, "create", "-q", "-u", "-f", "qcow2"};

        for (gsize i = 0; i < G_N_ELEMENTS(begin); i++)
                add(argv, begin[i]);
        if (image->backing) {
                add(argv, "-b");
                add(argv, image->backing);
                add(argv, "-F");
                add(argv, image->backing_format);
        }
        add(argv, path);
        add(argv, size);
        add(argv, NULL);
        g_subprocess_launcher_take_fd(launcher, fcntl(fd, F_DUPFD_CLOEXEC, 0), CHILD_FD);
        return run(launcher, argv, image->name, c, error);
}

char *layer_image_backing(int fd, const char *name, GError **error)
{
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        ssize_t len = pread(fd, bytes, sizeof bytes, 0);
        const char *why;
        g_autofree char *backing = NULL;

        if (len < 0) {
                moult_error_errno(error, errno, "reading %s", name);
                return NULL;
        }
        why = qcow2_header_parse(bytes, (gsize)len, &h);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the image %s %s", name, why);
                return NULL;
        }
        if (h.backing_offset == 0)
                return g_strdup("");
        backing = g_malloc0((gsize)h.backing_length + 1);
        if (!fd_pread_all(fd, backing, h.backing_length, (off_t)h.backing_offset, name, error))
                return NULL;
        return g_steal_pointer(&backing);
}

guint64 layer_image_size(const char *path, guint64 otherwise)
{
        scoped_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        ssize_t n = fd >= 0 ? pread(fd, bytes, sizeof bytes, 0) : -1;

        return n > 0 && !qcow2_header_parse(bytes, (gsize)n, &h) ? h.size : otherwise;
}

static gboolean check_one(const struct disk_image *image, const char *below, GError **error)
{
        scoped_fd int fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        g_autofree char *named = NULL;

        if (fd < 0 && errno == EACCES)
                return TRUE;
        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s, on which the disk would stand",
                                         image->path);
        if (!g_str_equal(image->format, "qcow2"))
                return TRUE;
        named = layer_image_backing(fd, image->path, error);
        if (!named || g_str_equal(named, below))
                return named != NULL;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s says that it stands on \"%s\", and the catalogue, that it is \"%s\". "
                    "Nothing was changed",
                    image->path, named, below);
        return FALSE;
}

gboolean layer_images_check(const struct disk_image *images, guint n, guint count, GError **error)
{
        for (guint i = 0; i < count; i++)
                if (!check_one(&images[i], i + 1 < n ? images[i + 1].path : "", error))
                        return FALSE;
        return TRUE;
}

gboolean layer_image_set_backing(const char *path, const char *qemu_img, const char *backing,
                                 const char *backing_format, GError **error)
{
        g_autoptr(GSubprocessLauncher) launcher =
                g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        const char *const begin[] = {qemu_img, "rebase", "-q", "-u", "-f", "qcow2", "-b", backing};

        for (gsize i = 0; i < G_N_ELEMENTS(begin); i++)
                add(argv, begin[i]);
        add(argv, "-F");
        add(argv, backing_format);
        add(argv, path);
        add(argv, NULL);
        return run(launcher, argv, path, NULL, error);
}
