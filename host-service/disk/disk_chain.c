/* host-service/disk/disk_chain.c - images judged by their first bytes, and described to QEMU. */
#include "host-service/disk/disk_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/image/image_lock.h"
#include "host-service/image/qcow2_header.h"

static gboolean fail(const struct disk_image *image, int code, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, code, "%s %s", image->path, why);
        return FALSE;
}

static gboolean is_qcow2(const struct disk_image *image)
{
        return strcmp(image->format, "qcow2") == 0;
}

/* ---- what may be asked for ---- */

static gboolean check_words(const struct disk_image *chain, guint n, GError **error)
{
        if (n == 0 || n > DISK_CHAIN_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "a disk has from 1 to %u images, and %u were named", DISK_CHAIN_MAX, n);
                return FALSE;
        }
        for (guint i = 0; i < n; i++) {
                gboolean raw = strcmp(chain[i].format, "raw") == 0;

                if (!g_path_is_absolute(chain[i].path) || !g_utf8_validate(chain[i].path, -1, NULL))
                        return fail(&chain[i], MOULT_ERROR_REFUSED, "is no absolute path in UTF-8", error);
                if (!raw && !is_qcow2(&chain[i]))
                        return fail(&chain[i], MOULT_ERROR_REFUSED,
                                    "has a format that is not read here (qcow2, raw)", error);
                if (raw && i + 1 < n)
                        return fail(&chain[i], MOULT_ERROR_REFUSED,
                                    "is a raw image, which has nothing below it, but something was named",
                                    error);
        }
        return TRUE;
}

/* ---- one file ---- */

static gboolean check_lock(const struct disk_image *image, int fd, gboolean write, GError **error)
{
        enum image_lock lock = image_lock_look(fd);

        if (lock == IMAGE_WRITTEN)
                return fail(
                        image, MOULT_ERROR_BUSY,
                        "is in use: a QEMU (a running VM, qemu-img, qemu-nbd) writes to it; try again when "
                        "that has ended",
                        error);
        if (lock == IMAGE_READ && write)
                return fail(
                        image, MOULT_ERROR_BUSY,
                        "is in use: a QEMU reads it, and it was to be changed; try again when that has ended",
                        error);
        return TRUE;
}

static gboolean check_qcow2(const struct disk_image *image, int fd, gboolean write, gboolean has_backing,
                            guint64 *ret_size, GError **error)
{
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        ssize_t len = pread(fd, bytes, sizeof bytes, 0);

        if (len < 0)
                return moult_error_errno(error, errno, "reading %s", image->path);
        const char *why = qcow2_header_parse(bytes, (gsize)len, &h);
        if (why)
                return fail(image, MOULT_ERROR_CORRUPT, why, error);
        /* Only counters of clusters are out of date then: reading needs none. */
        h.dirty = h.dirty && write;
        why = qcow2_header_refusal(&h, FALSE);
        if (why)
                return fail(image, h.corrupt ? MOULT_ERROR_CORRUPT : MOULT_ERROR_REFUSED, why, error);
        if (write && h.backing_offset != 0 && !has_backing)
                return fail(
                        image, MOULT_ERROR_REFUSED,
                        "stands on another image, says its header, and is to be written to without one: this "
                        "would hide what lies there",
                        error);
        *ret_size = h.size;
        return TRUE;
}

static gboolean check_image(const struct disk_image *image, const char *open_as, gboolean write,
                            gboolean has_backing, guint64 *ret_size, GError **error)
{
        /* Nothing is waited for at a pipe, and no terminal is taken. */
        scoped_fd int fd = open(open_as, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return moult_error_errno(error, errno, "opening the image %s", image->path);
        if (fstat(fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at the image %s", image->path);
        if (!S_ISREG(st.st_mode))
                return fail(image, MOULT_ERROR_REFUSED, "is not a regular file", error);
        if (is_qcow2(image) && !check_qcow2(image, fd, write, has_backing, ret_size, error))
                return FALSE;
        if (!is_qcow2(image))
                *ret_size = (guint64)st.st_size;
        return check_lock(image, fd, write, error);
}

static const char *what_is_opened(const struct disk_image *chain, guint i, const char *const *open_as)
{
        return open_as ? open_as[i] : chain[i].path;
}

gboolean disk_chain_check(const struct disk_image *chain, guint n, const char *const *open_as,
                          const struct disk_options *options, GError **error)
{
        if (!check_words(chain, n, error))
                return FALSE;
        for (guint i = 0; i < n; i++) {
                guint64 size = 0;

                if (!check_image(&chain[i], what_is_opened(chain, i, open_as), i == 0 && options->writable,
                                 i + 1 < n, &size, error))
                        return FALSE;
                if (i == 0 && options->size != 0 && size != options->size) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s is a disk of %" G_GUINT64_FORMAT " bytes, not of %" G_GUINT64_FORMAT
                                    " as it should be",
                                    chain[i].path, size, options->size);
                        return FALSE;
                }
        }
        return TRUE;
}

/* ---- the description ---- */

static JsonObject *describe(const struct disk_image *image, const char *open_as, JsonObject *below)
{
        JsonObject *file = json_object_new(), *o = json_object_new();

        json_object_set_string_member(file, "driver", "file");
        json_object_set_string_member(file, "filename", open_as);
        json_object_set_string_member(o, "driver", image->format);
        json_object_set_object_member(o, "file", file);
        if (below)
                json_object_set_object_member(o, "backing", below);
        else if (is_qcow2(image))
                json_object_set_null_member(o, "backing"); /* whatever the header says */
        return o;
}

char *disk_chain_text(const struct disk_image *chain, guint n, const char *const *open_as)
{
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
        g_autofree char *text = NULL;
        JsonObject *o = NULL;

        for (guint i = n; i-- > 0;)
                o = describe(&chain[i], what_is_opened(chain, i, open_as), o);
        json_node_take_object(node, o);
        text = json_to_string(node, FALSE);
        return g_strconcat("json:", text, NULL);
}

DiskProcess *disk_chain_serve(const struct disk_image *chain, guint n, const char *const *open_as,
                              const struct disk_serving *how, const struct disk_process_files *files,
                              GError **error)
{
        g_autofree char *text = disk_chain_text(chain, n, open_as);
        /* Written: what is zeroed becomes holes where that can be. Read: nothing at all may change. */
        const char *mode = how->writable ? "--discard=unmap" : "--read-only";
        const char *const alone[] = {"qemu-nbd", "--allocation-depth", mode, text, NULL};
        const char *const shared[] = {
                "qemu-nbd", "--allocation-depth", mode, "--persistent", "--shared=8", text, NULL};

        return disk_process_start(how->shared ? shared : alone, files, how->listening, error);
}
