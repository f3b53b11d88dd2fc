/* host-service/snapshot/layer_copy.c - the file of a disk once more. */
#include "host-service/snapshot/layer_copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/image/image_lock.h"
#include "host-service/image/qcow2_header.h"

/* Between two looks at whether it goes on: a VM that was started in between goes on meanwhile. */
#define PIECE_BYTES ((off_t)8 << 20)

static gboolean stands_on(int fd, const char *name, const struct qcow2_header *h, const char *below,
                          gboolean *ret, GError **error)
{
        g_autofree char *named = g_malloc0((gsize)h->backing_length + 1);

        if (h->backing_offset != 0 &&
            !fd_pread_all(fd, named, h->backing_length, (off_t)h->backing_offset, name, error))
                return FALSE;
        *ret = g_str_equal(named, below ? below : "");
        return TRUE;
}

gboolean layer_copy_judge(int fd, const char *name, const char *below, guint64 size, GError **error)
{
        guint8 bytes[QCOW2_HEADER_BYTES];
        struct qcow2_header h;
        gboolean right;
        ssize_t len = pread(fd, bytes, sizeof bytes, 0);
        const char *why;

        if (len < 0)
                return moult_error_errno(error, errno, "reading %s", name);
        why = qcow2_header_parse(bytes, (gsize)len, &h);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the image %s %s", name, why);
                return FALSE;
        }
        if (!stands_on(fd, name, &h, below, &right, error))
                return FALSE;
        if (right && h.size == size)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    right ? "%s has got another size just now. Nothing was changed"
                          : "%s stands on another file than moult has left it on: somebody else has changed "
                            "the chain. Nothing was changed",
                    name);
        return FALSE;
}

static gboolean goes_on(int from, const char *name, layer_wanted_func is_wanted, gpointer user,
                        GError **error)
{
        if (is_wanted && !is_wanted(user, error))
                return FALSE;
        if (image_lock_look(from) == IMAGE_FREE)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "%s is in use by a QEMU: the VM was started while its disk was copied. It goes on as if "
                    "nothing had happened, and there is no snapshot: ask again",
                    name);
        return FALSE;
}

/* From @at on: the next range that is no hole. *ret_end == 0: there is none. */
static gboolean next_data(int from, const char *name, off_t at, off_t size, off_t *ret_begin, off_t *ret_end,
                          GError **error)
{
        *ret_begin = lseek(from, at, SEEK_DATA);
        *ret_end = 0;
        if (*ret_begin < 0 && errno == ENXIO)
                return TRUE;
        if (*ret_begin < 0)
                return moult_error_errno(error, errno, "looking for data in %s", name);
        *ret_end = lseek(from, *ret_begin, SEEK_HOLE);
        if (*ret_end < 0)
                return moult_error_errno(error, errno, "looking for holes in %s", name);
        *ret_end = MIN(*ret_end, size);
        return TRUE;
}

gboolean layer_copy(int from, int to, const char *from_name, const char *to_name, layer_wanted_func is_wanted,
                    gpointer user, GError **error)
{
        int fault = fault_point("layer-copy");
        struct stat st;
        off_t end;

        if (fault)
                return moult_error_errno(error, fault, "copying %s to %s", from_name, to_name);
        if (fstat(from, &st) != 0)
                return moult_error_errno(error, errno, "looking at %s", from_name);
        if (!goes_on(from, from_name, is_wanted, user, error))
                return FALSE;
        if (ioctl(to, FICLONE, from) == 0)
                return TRUE;
        if (ftruncate(to, st.st_size) != 0)
                return moult_error_errno(error, errno, "making room for %s", to_name);
        for (off_t at = 0; at < st.st_size; at = end) {
                off_t begin;

                if (!next_data(from, from_name, at, st.st_size, &begin, &end, error))
                        return FALSE;
                if (end == 0)
                        break;
                end = MIN(end, begin + PIECE_BYTES);
                if (!goes_on(from, from_name, is_wanted, user, error) ||
                    !fd_copy_piece(from, to, begin, (gsize)(end - begin), from_name, to_name, error))
                        return FALSE;
                fault_point("layer-copying");
        }
        return TRUE;
}
