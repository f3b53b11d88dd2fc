/* host-service/image/image_access.c - files of an image's system, and programs in it or beside it. */
#include <string.h>

#include "common/error.h"
#include "host-service/image/image_private.h"

gboolean image_is_file(Image *i, const char *path)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->is_file_opts(image_handle(i), in, GUESTFS_IS_FILE_OPTS_FOLLOWSYMLINKS, 1, -1) == 1;
}

gboolean image_is_directory(Image *i, const char *path)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->is_dir_opts(image_handle(i), in, GUESTFS_IS_DIR_OPTS_FOLLOWSYMLINKS, 1, -1) == 1;
}

gboolean image_exists(Image *i, const char *path)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->exists(image_handle(i), in) == 1;
}

/* ---- reading ---- */

static GBytes *read_piece(Image *i, const char *in, guint64 offset, gsize len, GError **error)
{
        size_t got;
        char *data = i->c->pread(image_handle(i), in, (int)MIN(len, IMAGE_PIECE), (gint64)offset, &got);

        if (!data) {
                image_error(i, MOULT_ERROR_IO, error, "reading %s", in);
                return NULL;
        }
        return g_bytes_new_with_free_func(data, got, free, data);
}

GBytes *image_read_piece(Image *i, const char *path, guint64 offset, gsize len, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return read_piece(i, in, offset, len, error);
}

static GBytes *read_whole(Image *i, const char *in, gsize max, GError **error)
{
        g_autoptr(GByteArray) all = g_byte_array_new();

        for (;;) {
                g_autoptr(GBytes) piece = read_piece(i, in, all->len, IMAGE_PIECE, error);

                if (!piece)
                        return NULL;
                if (g_bytes_get_size(piece) == 0)
                        return g_byte_array_free_to_bytes(g_steal_pointer(&all));
                if (g_bytes_get_size(piece) > max - all->len) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s in %s is larger than the %" G_GSIZE_FORMAT " bytes that it may have",
                                    in, i->path, max);
                        return NULL;
                }
                g_byte_array_append(all, g_bytes_get_data(piece, NULL), (guint)g_bytes_get_size(piece));
        }
}

/* A device or a pipe would be waited for. */
static gboolean is_regular(Image *i, const char *in, GError **error)
{
        if (i->c->is_file_opts(image_handle(i), in, GUESTFS_IS_FILE_OPTS_FOLLOWSYMLINKS, 1, -1) == 1)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no file %s in %s", in, i->path);
        return FALSE;
}

GBytes *image_read(Image *i, const char *path, gsize max, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return is_regular(i, in, error) ? read_whole(i, in, max, error) : NULL;
}

GBytes *image_read_beside(Image *i, const char *path, gsize max, GError **error)
{
        g_return_val_if_fail(i->beside, NULL);
        return is_regular(i, path, error) ? read_whole(i, path, max, error) : NULL;
}

static gint compare_words(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

GStrv image_list(Image *i, const char *path, GError **error)
{
        g_autofree char *in = image_inside(i, path);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        char **list = i->c->ls(image_handle(i), in);

        if (!list) {
                image_error(i, MOULT_ERROR_IO, error, "listing %s", in);
                return NULL;
        }
        for (unsigned n = 0; list[n]; n++) {
                g_ptr_array_add(names, g_strdup(list[n]));
                free(list[n]);
        }
        free(list);
        g_ptr_array_sort(names, compare_words);
        g_ptr_array_add(names, NULL);
        return (GStrv)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

char *image_read_link(Image *i, const char *path, GError **error)
{
        g_autofree char *in = image_inside(i, path);
        char *text = i->c->readlink(image_handle(i), in);

        if (!text) {
                image_error(i, MOULT_ERROR_IO, error, "reading the link %s", in);
                return NULL;
        }
        char *copy = g_strdup(text);
        free(text);
        return copy;
}

/* ---- writing ---- */

/* What was put at @temporary gets its mode and owner, and then its name. */
static gboolean put_in_place(Image *i, const char *temporary, const char *in, guint mode, GError **error)
{
        if (i->c->chmod(image_handle(i), (int)mode, temporary) == 0 &&
            i->c->chown(image_handle(i), 0, 0, temporary) == 0 &&
            i->c->mv(image_handle(i), temporary, in) == 0)
                return TRUE;
        image_error(i, MOULT_ERROR_IO, error, "writing %s", in);
        i->c->rm_f(image_handle(i), temporary);
        return FALSE;
}

static gboolean write_to(Image *i, const char *in, const void *data, gsize len, guint mode, GError **error)
{
        g_autofree char *temporary = g_strconcat(in, ".moult-new", NULL);

        if (i->c->write(image_handle(i), temporary, data, len) < 0)
                return image_error(i, MOULT_ERROR_IO, error, "writing %s", in);
        return put_in_place(i, temporary, in, mode, error);
}

static gboolean upload_to(Image *i, const char *local, const char *in, guint mode, GError **error)
{
        g_autofree char *temporary = g_strconcat(in, ".moult-new", NULL);

        if (i->c->upload(image_handle(i), local, temporary) < 0)
                return image_error(i, MOULT_ERROR_IO, error, "copying %s to %s", local, in);
        return put_in_place(i, temporary, in, mode, error);
}

gboolean image_write(Image *i, const char *path, const void *data, gsize len, guint mode, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return write_to(i, in, data, len, mode, error);
}

gboolean image_upload(Image *i, const char *local, const char *path, guint mode, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return upload_to(i, local, in, mode, error);
}

gboolean image_put_beside(Image *i, const char *local, const char *path, guint mode, GError **error)
{
        g_return_val_if_fail(i->beside, FALSE);
        return upload_to(i, local, path, mode, error);
}

gboolean image_make_beside(Image *i, const char *path, GError **error)
{
        g_return_val_if_fail(i->beside, FALSE);
        return i->c->mkdir(image_handle(i), path) == 0 ||
               image_error(i, MOULT_ERROR_IO, error, "making %s beside the system", path);
}

gboolean image_write_beside(Image *i, const char *path, const void *data, gsize len, GError **error)
{
        g_return_val_if_fail(i->beside, FALSE);
        return i->c->write(image_handle(i), path, data, len) == 0 ||
               image_error(i, MOULT_ERROR_IO, error, "writing %s beside the system", path);
}

gboolean image_make_directory(Image *i, const char *path, guint mode, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        if (i->c->is_dir_opts(image_handle(i), in, GUESTFS_IS_DIR_OPTS_FOLLOWSYMLINKS, 1, -1) == 1)
                return TRUE;
        return (i->c->mkdir_p(image_handle(i), in) == 0 &&
                i->c->chmod(image_handle(i), (int)mode, in) == 0) ||
               image_error(i, MOULT_ERROR_IO, error, "making the directory %s", in);
}

gboolean image_symlink(Image *i, const char *target, const char *path, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->ln_sf(image_handle(i), target, in) == 0 ||
               image_error(i, MOULT_ERROR_IO, error, "making the link %s", in);
}

gboolean image_chown(Image *i, const char *path, guint uid, guint gid, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->chown(image_handle(i), (int)uid, (int)gid, in) == 0 ||
               image_error(i, MOULT_ERROR_IO, error, "giving %s its owner", in);
}

gboolean image_remove(Image *i, const char *path, GError **error)
{
        g_autofree char *in = image_inside(i, path);

        return i->c->rm_rf(image_handle(i), in) == 0 ||
               image_error(i, MOULT_ERROR_IO, error, "removing %s", in);
}

/* ---- programs ---- */

char *image_run(Image *i, const char *const *argv, GError **error)
{
        char *out = i->c->command(image_handle(i), (char *const *)argv);

        if (!out) {
                image_error(i, MOULT_ERROR_REFUSED, error, "running %s", argv[0]);
                return NULL;
        }
        char *copy = g_strdup(out);
        free(out);
        return copy;
}
