/* host-service/image/image_none.c - for builds without libguestfs's header: no image can be opened, so the
 * rest is never reached. */
#include "common/error.h"
#include "host-service/image/image.h"

Image *image_open(const struct image_name *name, const struct image_options *options, GError **error)
{
        g_set_error_literal(
                error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                "this moult was built without libguestfs (MOULT_IMAGES=OFF) and cannot open images");
        return NULL;
}

void image_free(Image *i)
{
}

#define NEVER(type, name, arguments, value)                                                                  \
        type name arguments                                                                                  \
        {                                                                                                    \
                g_return_val_if_reached(value);                                                              \
        }

NEVER(gboolean, image_finish, (Image * i, GError **error), FALSE)
NEVER(const char *, image_path, (const Image *i), NULL)
NEVER(gboolean, image_mount, (Image * i, GError **error), FALSE)
NEVER(const struct image_system *, image_system, (const Image *i), NULL)
NEVER(gboolean, image_mount_again, (Image * i, GError **error), FALSE)
NEVER(gboolean, image_is_file, (Image * i, const char *path), FALSE)
NEVER(gboolean, image_is_directory, (Image * i, const char *path), FALSE)
NEVER(gboolean, image_exists, (Image * i, const char *path), FALSE)
NEVER(GBytes *, image_read, (Image * i, const char *path, gsize max, GError **error), NULL)
NEVER(GBytes *, image_read_piece, (Image * i, const char *path, guint64 offset, gsize len, GError **error),
      NULL)
NEVER(GStrv, image_list, (Image * i, const char *path, GError **error), NULL)
NEVER(char *, image_read_link, (Image * i, const char *path, GError **error), NULL)
NEVER(gboolean, image_write,
      (Image * i, const char *path, const void *data, gsize len, guint mode, GError **error), FALSE)
NEVER(gboolean, image_upload, (Image * i, const char *local, const char *path, guint mode, GError **error),
      FALSE)
NEVER(gboolean, image_make_directory, (Image * i, const char *path, guint mode, GError **error), FALSE)
NEVER(gboolean, image_symlink, (Image * i, const char *target, const char *path, GError **error), FALSE)
NEVER(gboolean, image_chown, (Image * i, const char *path, guint uid, guint gid, GError **error), FALSE)
NEVER(gboolean, image_remove, (Image * i, const char *path, GError **error), FALSE)
NEVER(char *, image_run, (Image * i, const char *const *argv, GError **error), NULL)
NEVER(gboolean, image_put_beside,
      (Image * i, const char *local, const char *path, guint mode, GError **error), FALSE)
NEVER(gboolean, image_write_beside,
      (Image * i, const char *path, const void *data, gsize len, GError **error), FALSE)
NEVER(GBytes *, image_read_beside, (Image * i, const char *path, gsize max, GError **error), NULL)
NEVER(gboolean, image_make_beside, (Image * i, const char *path, GError **error), FALSE)
