/* host-service/snapshot/layer_files.c - the files of one disk, by moultd itself or through moult-disks. */
#include "host-service/snapshot/layer_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_client.h"
#include "host-service/snapshot/layer_image.h"

struct layer_files {
        LayerLinks links;
        char *format;
        DiskClient *helper;        /* NULL: it is done here */
        GCancellable *cancellable; /* of what may take long; or NULL */
};

static gboolean run(LayerFiles *f, enum layer_operation operation, int image, struct layer_look *ret,
                    GError **error)
{
        return f->helper ? disk_client_do(f->helper, &f->links, operation, image, ret, f->cancellable, error)
                         : layer_links_do(&f->links, operation, image, ret, error);
}

gboolean layer_files_may_do_it_here(const char *dir, const char *path)
{
        struct stat st;

        return geteuid() == 0 || (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0 &&
                                  stat(path, &st) == 0 && st.st_uid == geteuid());
}

LayerFiles *layer_files_open(const char *path, const char *top, const char *next, const char *format,
                             guint64 size, const char *helper, GError **error)
{
        g_autoptr(LayerFiles) f = g_new0(LayerFiles, 1);
        struct layer_look look;

        g_assert(g_path_is_absolute(path));
        f->links = (LayerLinks){.dir_fd = -1,
                                .dir = g_path_get_dirname(path),
                                .well_known = g_path_get_basename(path),
                                .top = g_strdup(top),
                                .next = g_strdup(next),
                                .size = size};
        f->format = g_strdup(format);
        if (helper && !layer_files_may_do_it_here(f->links.dir, path)) {
                f->helper = disk_client_new(helper);
        } else {
                f->links.dir_fd = open(f->links.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (f->links.dir_fd < 0) {
                        moult_error_errno(error, errno, "opening the directory %s", f->links.dir);
                        return NULL;
                }
        }
        /* Whoever cannot look has not begun, and has nothing to take back. */
        return run(f, LAYER_LOOK, -1, &look, error) ? g_steal_pointer(&f) : NULL;
}

void layer_files_free(LayerFiles *f)
{
        if (!f)
                return;
        disk_client_free(f->helper);
        if (f->links.dir_fd >= 0)
                close(f->links.dir_fd);
        g_free(f->links.dir);
        g_free(f->links.well_known);
        g_free(f->links.top);
        g_free(f->links.next);
        g_free(f->links.below);
        g_free(f->format);
        g_free(f);
}

gboolean layer_files_look(LayerFiles *f, struct layer_look *ret, GError **error)
{
        return run(f, LAYER_LOOK, -1, ret, error);
}

gboolean layer_files_name_top(LayerFiles *f, GError **error)
{
        return run(f, LAYER_NAME_TOP, -1, NULL, error);
}

gboolean layer_files_place_next(LayerFiles *f, GError **error)
{
        return run(f, LAYER_PLACE_NEXT, -1, NULL, error);
}

gboolean layer_files_place_top(LayerFiles *f, GError **error)
{
        return run(f, LAYER_PLACE_TOP, -1, NULL, error);
}

gboolean layer_files_remove_next(LayerFiles *f, GError **error)
{
        return run(f, LAYER_REMOVE_NEXT, -1, NULL, error);
}

gboolean layer_files_unname_top(LayerFiles *f, GError **error)
{
        return run(f, LAYER_UNNAME_TOP, -1, NULL, error);
}

static gboolean is_wanted(gpointer user, GError **error)
{
        return !g_cancellable_set_error_if_cancelled(user, error);
}

gboolean layer_files_copy_top(LayerFiles *f, const char *below, GCancellable *c, GError **error)
{
        gboolean done;

        g_free(f->links.below);
        f->links.below = g_strdup(below);
        f->links.is_wanted = is_wanted;
        f->links.user = f->cancellable = c;
        done = run(f, LAYER_COPY_TOP, -1, NULL, error);
        f->links.is_wanted = NULL;
        f->links.user = f->cancellable = NULL;
        return done;
}

/* ---- the new top ---- */

/* In memory, so that who makes it needs no right to any file. */
static gboolean create_image(const LayerFiles *f, const char *format, const char *qemu_img, int image,
                             GCancellable *c, GError **error)
{
        g_autofree char *name = g_build_filename(f->links.dir, f->links.next, NULL);
        const struct layer_image wanted = {
                .name = name, .backing = f->links.below, .backing_format = format, .size = f->links.size};

        return layer_image_make(image, qemu_img, &wanted, c, error);
}

gboolean layer_files_make_over(LayerFiles *f, const char *below, const char *below_format,
                               const char *qemu_img, GCancellable *c, GError **error)
{
        scoped_fd int image = memfd_create("moult-layer", MFD_CLOEXEC);

        if (image < 0)
                return moult_error_errno(error, errno, "getting memory for an empty image");
        g_free(f->links.below);
        f->links.below = g_strdup(below);
        return create_image(f, below_format, qemu_img, image, c, error) &&
               run(f, LAYER_MAKE_NEXT, image, NULL, error);
}

gboolean layer_files_make_next(LayerFiles *f, const char *qemu_img, GCancellable *c, GError **error)
{
        g_autofree char *top = g_build_filename(f->links.dir, f->links.top, NULL);

        return layer_files_make_over(f, top, f->format, qemu_img, c, error);
}
