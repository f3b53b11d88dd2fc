/* host-service/image/image.c - the virtual machine around an image: its start, its mounts, its end. */
#include "host-service/image/image_private.h"

#include <errno.h>
#include <unistd.h>

#include "common/error.h"

#define DISK          "/dev/sda" /* the image; what is beside it comes second */
#define ROOM          "/dev/sdb"
#define AGENT_PROGRAM "/usr/lib/moult/moult-agent-static"
/* Our program, and the structures of the file system. */
#define ROOM_MIN (64ull << 20)

gboolean image_error(const Image *i, int code, GError **error, const char *format, ...)
{
        const char *said = i->g ? i->c->last_error(i->g) : NULL;
        va_list args;

        va_start(args, format);
        g_autofree char *what = g_strdup_vprintf(format, args);
        va_end(args);
        g_autofree char *line =
                g_strstrip(g_strdelimit(g_strdup(said ? said : "no reason is known"), "\r\n", ' '));
        g_set_error(error, MOULT_ERROR, code, "%s in %s: %s", what, i->path, line);
        return FALSE;
}

guestfs_h *image_handle(const Image *i)
{
        i->c->set_error_handler(i->g, NULL, NULL);
        return i->g;
}

char *image_inside(const Image *i, const char *path)
{
        return g_strconcat(i->prefix, path, NULL);
}

static void mount_free(gpointer data)
{
        struct image_mount *m = data;

        g_free(m->point);
        g_free(m->device);
        g_free(m);
}

void image_free(Image *i)
{
        if (!i)
                return;
        if (i->g)
                i->c->close(i->g);
        if (i->scratch) {
                g_autofree char *overlay = g_build_filename(i->scratch, "layer.qcow2", NULL);

                unlink(overlay);
                rmdir(i->scratch);
        }
        g_clear_pointer(&i->mounts, g_ptr_array_unref);
        g_free(i->system.type);
        g_free(i->system.distro);
        g_free(i->system.product);
        g_free(i->scratch);
        g_free(i->program);
        g_free(i->path);
        g_free(i);
}

const char *image_path(const Image *i)
{
        return i->path;
}

const struct image_system *image_system(const Image *i)
{
        return &i->system;
}

/* ---- start ---- */

/* What the machine writes goes to a layer of its own, unless the image is to be changed. The caller frees. */
static char *disk_file(Image *i, const struct image_name *name, const struct image_options *o, GError **error)
{
        const char *dir = g_getenv("TMPDIR");

        if (o->writable)
                return g_strdup(name->path);
        g_autofree char *dir_name =
                g_build_filename(dir && *dir ? dir : "/var/tmp", "moult-image-XXXXXX", NULL);
        if (!g_mkdtemp(dir_name)) {
                moult_error_errno(error, errno, "making a temporary directory for %s", name->path);
                return NULL;
        }
        i->scratch = g_steal_pointer(&dir_name);
        g_autofree char *overlay = g_build_filename(i->scratch, "layer.qcow2", NULL);
        return image_file_overlay(name, o->backing, overlay, error) ? g_steal_pointer(&overlay) : NULL;
}

static gboolean add_disks(Image *i, const char *file, const char *format, guint64 beside_bytes,
                          GError **error)
{
        if (i->c->add_drive_opts(image_handle(i), file, GUESTFS_ADD_DRIVE_OPTS_FORMAT, format, -1) < 0)
                return image_error(i, MOULT_ERROR_IO, error, "opening the disk");
        /* ext2 takes a part of it for itself. */
        if (i->beside &&
            i->c->add_drive_scratch(image_handle(i), (gint64)(ROOM_MIN + beside_bytes + beside_bytes / 8),
                                    -1) < 0)
                return image_error(i, MOULT_ERROR_NO_SPACE, error,
                                   "making room for programs beside the system");
        return TRUE;
}

static gboolean launch(Image *i, GError **error)
{
        if (i->c->launch(image_handle(i)) < 0)
                return image_error(
                        i, MOULT_ERROR_IO, error,
                        "starting the virtual machine that reads images (libguestfs-test-tool shows "
                        "what is wrong with it; a host without a kernel in /boot needs SUPERMIN_KERNEL "
                        "and SUPERMIN_MODULES) for the system");
        return TRUE;
}

/* The static agent of this machine. The caller frees. */
static char *agent_program(GError **error)
{
        const char *named = g_getenv("MOULT_AGENT_STATIC");
        const char *path = named && *named ? named : AGENT_PROGRAM;

        if (access(path, R_OK) == 0)
                return g_strdup(path);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "the static agent, which works on images, is not at %s: install the package moult as a "
                    "whole, "
                    "or name it with MOULT_AGENT_STATIC",
                    path);
        return NULL;
}

Image *image_open(const struct image_name *name, const struct image_options *o, GError **error)
{
        g_autoptr(Image) i = g_new0(Image, 1);

        i->path = g_strdup(o->shown ? o->shown : name->path);
        i->writable = o->writable || o->try_out;
        i->beside = o->beside;
        i->prefix = o->beside ? IMAGE_BESIDE : "";
        i->room = o->beside ? ROOM : NULL;
        i->mounts = g_ptr_array_new_with_free_func(mount_free);
        if (!image_file_check(name, o->backing, o->writable, error) || !(i->c = guestfs_calls_load(error)) ||
            (o->beside && !(i->program = agent_program(error))))
                return NULL;
        g_autofree char *file = disk_file(i, name, o, error);
        if (!file)
                return NULL;
        i->g = i->c->create();
        if (!i->g) {
                moult_error_errno(error, errno, "starting libguestfs");
                return NULL;
        }
        i->c->set_program(image_handle(i), "moult");
        /* No daemon of the host between us and it, unless somebody asks for one. */
        if (!g_getenv("LIBGUESTFS_BACKEND"))
                i->c->set_backend(image_handle(i), "direct");
        if (!add_disks(i, file, o->writable ? image_format_name(name->format) : "qcow2", o->beside_bytes,
                       error) ||
            !launch(i, error))
                return NULL;
        return g_steal_pointer(&i);
}

/* ---- mounts ---- */

static gboolean mount_all(Image *i, gboolean read_only, GError **error)
{
        for (guint n = 0; n < i->mounts->len; n++) {
                const struct image_mount *m = g_ptr_array_index(i->mounts, n);
                g_autofree char *at = g_str_equal(m->point, "/") && *i->prefix ? g_strdup(i->prefix)
                                                                               : image_inside(i, m->point);

                if ((read_only ? i->c->mount_ro : i->c->mount)(image_handle(i), m->device, at) < 0)
                        return image_error(i, MOULT_ERROR_CORRUPT, error,
                                           "mounting %s (its %s; is the file system damaged?)", m->device,
                                           m->point);
        }
        return TRUE;
}

static gboolean make_room(Image *i, GError **error)
{
        if (!i->room)
                return TRUE;
        if (i->c->mkfs(image_handle(i), "ext2", i->room) < 0 ||
            i->c->mount(image_handle(i), i->room, "/") < 0 ||
            i->c->mkdir(image_handle(i), IMAGE_BESIDE) < 0 || i->c->mkdir(image_handle(i), "/proc") < 0 ||
            i->c->mkdir(image_handle(i), "/dev") < 0)
                return image_error(i, MOULT_ERROR_IO, error, "making room for programs beside the system");
        return image_put_beside(i, i->program, IMAGE_AGENT, 0755, error);
}

gboolean image_mount(Image *i, GError **error)
{
        return image_find_system(i, error) && make_room(i, error) && mount_all(i, !i->writable, error);
}

gboolean image_mount_again(Image *i, GError **error)
{
        if (i->c->umount_all(image_handle(i)) < 0 || i->c->sync(image_handle(i)) < 0 ||
            i->c->drop_caches(image_handle(i), 3) < 0)
                return image_error(i, MOULT_ERROR_IO, error, "writing out the file systems");
        if (i->room && i->c->mount(image_handle(i), i->room, "/") < 0)
                return image_error(i, MOULT_ERROR_IO, error, "mounting again what is beside the system");
        return mount_all(i, /* read_only= */ TRUE, error);
}

gboolean image_finish(Image *i, GError **error)
{
        gboolean ok = i->c->umount_all(image_handle(i)) == 0 && i->c->sync(image_handle(i)) == 0 &&
                      i->c->shutdown(image_handle(i)) == 0;

        if (!ok)
                image_error(i, MOULT_ERROR_IO, error, "writing out the file systems");
        i->c->close(i->g);
        i->g = NULL;
        return ok;
}
