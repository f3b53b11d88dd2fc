/* host-service/snapshot/verify_files.c - the files of layers and of bases, one by one: are they there, of the
 * format that is on record, whole inside, and over the file that the catalogue names. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk/disk_chain.h"
#include "host-service/snapshot/layer_image.h"
#include "host-service/snapshot/verify_private.h"

static gboolean same_file(const char *a, const char *b)
{
        struct stat x, y;

        return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static gboolean differs(const struct verify_file *f, const char *named, GError **error)
{
        g_autofree char *shown = g_strescape(named, NULL);

        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    *named ? "%s stands on \"%s\", says its header, and on %s by the catalogue"
                           : "%s stands on nothing%s, says its header, and on %s by the catalogue",
                    f->path, shown, f->below ? f->below : "nothing");
        return FALSE;
}

/* The name in the header is compared, and never opened; relative ones count from the file's folder. */
static gboolean check_below(const struct verify_file *f, GError **error)
{
        scoped_fd int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        g_autofree char *named = NULL, *dir = NULL, *path = NULL;

        if (fd < 0)
                return moult_error_errno(error, errno, "opening %s", f->path);
        named = layer_image_backing(fd, f->path, error);
        if (!named)
                return FALSE;
        if (*named == '\0' || !f->below)
                return *named == '\0' && !f->below ? TRUE : differs(f, named, error);
        dir = g_path_get_dirname(f->path);
        path = g_canonicalize_filename(named, dir);
        return same_file(path, f->below) ? TRUE : differs(f, named, error);
}

/* A file that moultd may not open is opened by moult-disks for a qemu-nbd, which reads its tables. */
static gboolean check_by_helper(struct verify *v, const struct disk_image *image,
                                const struct disk_options *options, GCancellable *cancellable, GError **error)
{
        const struct disk_options asked = {.size = options->size, .helper = v->owner->env->disk_helper};
        g_autoptr(Disk) d = disk_open(image, 1, &asked, cancellable, error);
        g_autoptr(GArray) map = d ? disk_map(d, DISK_ALL, cancellable, error) : NULL;

        return map != NULL;
}

static gboolean check_file(struct verify *v, const struct verify_file *f, GCancellable *cancellable,
                           FindingKind *ret_kind, GError **error)
{
        const struct disk_image image = {f->path, f->format};
        const struct disk_options options = {.size = f->size_bytes};

        *ret_kind = FINDING_FILE_DAMAGED;
        if (access(f->path, R_OK) != 0 && errno == EACCES && v->owner->env->disk_helper)
                return check_by_helper(v, &image, &options, cancellable, error);
        if (!disk_chain_check(&image, 1, NULL, &options, error))
                return FALSE;
        *ret_kind = FINDING_FILE_DIFFERS;
        if (strcmp(f->format, "qcow2") == 0 && !check_below(f, error))
                return FALSE;
        *ret_kind = FINDING_FILE_DAMAGED;
        return disk_image_check(&image, cancellable, error);
}

gboolean verify_file_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct verify *v = user;
        const struct verify_file *f = v->files->pdata[index];
        g_autoptr(GError) why = NULL, changed = NULL;
        FindingKind kind;

        if (!check_file(v, f, cancellable, &kind, &why)) {
                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                /* Without its program nothing can be said of any file. */
                if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED) ||
                    why->domain == G_SPAWN_ERROR) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        kind = FINDING_FILE_MISSING;
                verify_note(v, kind, NULL, f->path, NULL, g_strdup(why->message));
        }
        if (f->base && !layer_line_base_is_same(f->base, &changed) && kind != FINDING_FILE_MISSING)
                verify_note(v, FINDING_BASE_CHANGED, NULL, f->path, NULL, g_strdup(changed->message));
        verify_count(v, (gint64)f->size_bytes);
        return TRUE;
}
