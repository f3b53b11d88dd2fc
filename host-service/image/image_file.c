/* host-service/image/image_file.c - an image as a file of this machine. */
#include "host-service/image/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk/disk.h"
#include "host-service/image/image_lock.h"
#include "host-service/image/qcow2_header.h"

static const struct {
        const char *text;
        enum image_format format;
} prefixes[] = {{"qcow2:", IMAGE_QCOW2}, {"raw:", IMAGE_RAW}},
  suffixes[] = {{".qcow2", IMAGE_QCOW2}, {".raw", IMAGE_RAW}, {".img", IMAGE_RAW}};

void image_name_clear(struct image_name *n)
{
        g_clear_pointer(&n->path, g_free);
}

const char *image_format_name(enum image_format f)
{
        return f == IMAGE_QCOW2 ? "qcow2" : "raw";
}

/* The path in @word, or NULL. */
static const char *format_of(const char *word, enum image_format *ret)
{
        for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++)
                if (g_str_has_prefix(word, prefixes[i].text)) {
                        *ret = prefixes[i].format;
                        return word + strlen(prefixes[i].text);
                }
        for (unsigned i = 0; i < G_N_ELEMENTS(suffixes); i++)
                if (g_str_has_suffix(word, suffixes[i].text)) {
                        *ret = suffixes[i].format;
                        return word;
                }
        return NULL;
}

gboolean image_word_is(const char *word)
{
        enum image_format format;

        return format_of(word, &format) != NULL;
}

gboolean image_name_parse(const char *word, struct image_name *ret, GError **error)
{
        enum image_format format;
        const char *path = format_of(word, &format);
        struct stat st;

        if (!path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s: the format of an image is not guessed; name the file .qcow2, .raw or .img, "
                            "or say qcow2:%s or raw:%s",
                            word, word, word);
                return FALSE;
        }
        char *real = realpath(path, NULL);
        if (!real)
                return moult_error_errno(error, errno, "opening the image %s", path);
        g_autofree char *copy = g_strdup(real);
        free(real);
        if (stat(copy, &st) < 0)
                return moult_error_errno(error, errno, "looking at the image %s", path);
        if (!S_ISREG(st.st_mode) || !g_utf8_validate(copy, -1, NULL)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is no image: it is not a regular file with a UTF-8 name", path);
                return FALSE;
        }
        *ret = (struct image_name){g_steal_pointer(&copy), format};
        return TRUE;
}

/* ---- locks ---- */

static gboolean check_lock(const struct image_name *n, int fd, gboolean write, GError **error)
{
        switch (image_lock_look(fd)) {
        case IMAGE_WRITTEN:
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%s is in use: a running VM (or another QEMU program) writes to it; shut the VM "
                            "down first, or capture from it with vm:NAME",
                            n->path);
                return FALSE;
        case IMAGE_READ:
                if (!write)
                        return TRUE;
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_BUSY,
                        "%s is in use: a QEMU has it open for reading, so it is most likely the backing "
                        "file of running VMs, whose disks would be destroyed if it changed; write to a new "
                        "image instead (--output), and make new VMs from that one",
                        n->path);
                return FALSE;
        default:
                return TRUE;
        }
}

/* ---- QEMU ---- */

static JsonObject *chain_object(const struct image_name *n, const struct image_name *backing)
{
        JsonObject *file = json_object_new(), *o = json_object_new();

        json_object_set_string_member(file, "driver", "file");
        json_object_set_string_member(file, "filename", n->path);
        json_object_set_string_member(o, "driver", image_format_name(n->format));
        json_object_set_object_member(o, "file", file);
        if (n->format == IMAGE_QCOW2 && backing)
                json_object_set_object_member(o, "backing", chain_object(backing, NULL));
        else if (n->format == IMAGE_QCOW2)
                json_object_set_null_member(o, "backing"); /* whatever the header says */
        return o;
}

/* The chain as QEMU wants it said: nothing is left to a header. The caller frees. */
static char *chain_text(const struct image_name *n, const struct image_name *backing)
{
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
        g_autofree char *text = NULL;

        json_node_take_object(node, chain_object(n, backing));
        text = json_to_string(node, FALSE);
        return g_strconcat("json:", text, NULL);
}

/* The exit status, or -1 with @error; what it said is in *ret_said. */
static int run_qemu_img(const char *const *argv, char **ret_said, GError **error)
{
        g_autoptr(GSubprocess) p = g_subprocess_newv(
                argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE, error);

        if (!p) {
                g_prefix_error(error, "images need qemu-img (package qemu-utils): ");
                return -1;
        }
        if (!g_subprocess_communicate_utf8(p, NULL, NULL, ret_said, NULL, error))
                return -1;
        if (*ret_said)
                g_strstrip(*ret_said);
        return g_subprocess_get_if_exited(p) ? g_subprocess_get_exit_status(p) : 1;
}

/* It may say thousands. Cuts @said. */
static const char *first_line(char *said)
{
        return said ? strtok(said, "\n") : "";
}

static gboolean check_inside(const struct image_name *n, GError **error)
{
        const struct disk_image image = {n->path, image_format_name(n->format)};

        return disk_image_check(&image, NULL, error);
}

/* ---- the header ---- */

static gboolean refuse(const struct image_name *n, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s %s", n->path, why);
        return FALSE;
}

/* The header's name is compared, never opened: relative ones count from the image's folder. */
static gboolean check_backing(const struct image_name *n, const struct qcow2_header *h,
                              const struct image_name *backing, int fd, GError **error)
{
        char name[QCOW2_NAME_BYTES + 1] = "";
        struct stat named, given;

        if (!fd_pread_all(fd, name, h->backing_length, (off_t)h->backing_offset, n->path, error))
                return FALSE;
        g_autofree char *dir = g_path_get_dirname(n->path);
        g_autofree char *path = g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(dir, name, NULL);
        if (backing && lstat(backing->path, &given) == 0 && stat(path, &named) == 0 &&
            given.st_dev == named.st_dev && given.st_ino == named.st_ino)
                return TRUE;
        g_autofree char *shown = g_strescape(name, NULL);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s is a layer over another file (\"%s\", says its header), and names in headers are not "
                    "followed%s; make one file of it: qemu-img convert -O qcow2 %s NEW.qcow2",
                    n->path, shown, backing ? " to anything but the image that --from names" : "", n->path);
        return FALSE;
}

static gboolean check_size(const struct image_name *n, guint64 size, GError **error)
{
        if (size >= IMAGE_SIZE_MIN && size <= IMAGE_SIZE_MAX)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s is a disk of %" G_GUINT64_FORMAT " bytes; images have from 1 MiB to 64 TiB", n->path,
                    size);
        return FALSE;
}

static gboolean check_qcow2(const struct image_name *n, const struct image_name *backing, gboolean write,
                            int fd, GError **error)
{
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        ssize_t len = pread(fd, bytes, sizeof bytes, 0);

        if (len < 0)
                return moult_error_errno(error, errno, "reading %s", n->path);
        const char *why = qcow2_header_parse(bytes, (gsize)len, &h);
        if (!why)
                why = qcow2_header_refusal(&h, write);
        if (why)
                return refuse(n, why, error);
        return check_size(n, h.size, error) &&
               (h.backing_offset == 0 || check_backing(n, &h, backing, fd, error));
}

gboolean image_file_check(const struct image_name *n, const struct image_name *backing, gboolean write,
                          GError **error)
{
        scoped_fd int fd = open(n->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return moult_error_errno(error, errno, "opening the image %s", n->path);
        if (fstat(fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at the image %s", n->path);
        if (!S_ISREG(st.st_mode))
                return refuse(n, "is not a regular file", error);
        gboolean ok = n->format == IMAGE_QCOW2 ? check_qcow2(n, backing, write, fd, error)
                                               : check_size(n, (guint64)st.st_size, error);
        return ok && check_lock(n, fd, write, error) && check_inside(n, error);
}

gboolean image_file_overlay(const struct image_name *n, const struct image_name *backing, const char *overlay,
                            GError **error)
{
        g_autofree char *chain = chain_text(n, backing), *said = NULL;
        const char *argv[] = {
                "qemu-img", "create", "-q",    "-f", "qcow2", "-F", image_format_name(n->format),
                "-b",       chain,    overlay, NULL};
        int status = run_qemu_img(argv, &said, error);

        if (status > 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "opening %s: qemu-img says: %s", n->path,
                            first_line(said));
        return status == 0;
}
