/* host-service/disk/disk.c - opens a disk, closes it, and what becomes of one that fails. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_images.h"
#include "host-service/disk/disk_chain.h"
#include "host-service/disk/disk_private.h"

/* How long qemu-nbd may take for its end, when all was written out. */
#define END_SECONDS 30
#define SECTOR      512u

/* ---- failing ---- */

/* qemu-nbd's own words know more than a number. */
static int code_of_words(const char *words, int code)
{
        static const struct {
                const char *text;
                int code;
        } known[] = {{"\" lock", MOULT_ERROR_BUSY},
                     {"No space left", MOULT_ERROR_NO_SPACE},
                     {"No such file", MOULT_ERROR_NOT_FOUND},
                     {"corrupt", MOULT_ERROR_CORRUPT},
                     {"Permission denied", MOULT_ERROR_IO},
                     {"Read-only file system", MOULT_ERROR_IO},
                     {"Cannot allocate memory", MOULT_ERROR_IO},
                     {"Input/output error", MOULT_ERROR_IO}};

        for (guint i = 0; i < G_N_ELEMENTS(known); i++)
                if (strstr(words, known[i].text))
                        return known[i].code;
        return code;
}

void disk_break(Disk *d)
{
        g_clear_pointer(&d->nbd, nbd_close);
        disk_process_kill(d->process);
        if (!d->broken)
                d->broken = g_error_new(MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                        "%s was closed when another disk failed", d->name);
}

static gboolean fail_because(Disk *d, int code, GError **error, const char *doing, const char *why)
{
        GError *e = g_error_new(MOULT_ERROR, code, "%s %s: %s", doing, d->name, why);

        g_clear_error(&d->broken);
        d->broken = g_error_copy(e);
        disk_break(d);
        g_propagate_error(error, e);
        return FALSE;
}

/* Its end, since only then all of its words are there. The one that hangs in the kernel is not waited for. */
static char *words_at_end(Disk *d, char **ret_end)
{
        int status = 0;

        gboolean ended = disk_process_wait(d->process, 1, &status);
        disk_process_kill(d->process);
        if (ended && WIFSIGNALED(status))
                *ret_end = g_strdup_printf("qemu-nbd was killed by signal %d (%s)", WTERMSIG(status),
                                           g_strsignal(WTERMSIG(status)));
        else if (ended)
                *ret_end = g_strdup_printf("qemu-nbd ended with %d", WEXITSTATUS(status));
        if (!ended)
                (void)disk_process_wait(d->process, 1, &status);
        return disk_process_last_words(d->process);
}

gboolean disk_fail(Disk *d, int code, GError **error, const char *doing)
{
        g_autofree char *end = NULL;
        g_autofree char *words = words_at_end(d, &end);

        if (*words != '\0') {
                g_autofree char *why = g_strconcat("qemu-nbd says: ", words, NULL);
                return fail_because(d, code_of_words(words, code), error, doing, why);
        }
        if (end)
                return fail_because(d, MOULT_ERROR_IO, error, doing, end);
        const char *said = nbd_get_error();
        return fail_because(d, code, error, doing, said ? said : "qemu-nbd has closed the connection");
}

gboolean disk_fail_reply(Disk *d, int errnum, GError **error, const char *doing)
{
        int code = errnum == ENOSPC ? MOULT_ERROR_NO_SPACE : MOULT_ERROR_IO, status;

        /* No answer: libnbd's word for all that was under way when the connection ended. */
        if (errnum == ENOTCONN)
                return disk_fail(d, MOULT_ERROR_IO, error, doing);
        disk_process_kill(d->process);
        (void)disk_process_wait(d->process, 1, &status);
        g_autofree char *words = disk_process_last_words(d->process);
        if (*words == '\0')
                return fail_because(d, code, error, doing, g_strerror(errnum));
        g_autofree char *why = g_strdup_printf("%s (qemu-nbd says: %s)", g_strerror(errnum), words);
        return fail_because(d, code == MOULT_ERROR_NO_SPACE ? code : code_of_words(words, code), error, doing,
                            why);
}

gboolean disk_fail_silent(Disk *d, GError **error, const char *doing)
{
        g_autofree char *why = g_strdup_printf("qemu-nbd has not answered for %u seconds and was ended; if "
                                               "the storage was only slow, try again",
                                               d->answer_seconds);

        return fail_because(d, MOULT_ERROR_TIMEOUT, error, doing, why);
}

gboolean disk_usable(Disk *d, guint64 offset, guint64 len, gboolean write, GError **error)
{
        const char *why = NULL;

        if (d->broken) {
                g_propagate_error(error, g_error_copy(d->broken));
                return FALSE;
        }
        if (offset > d->size || len > d->size - offset)
                why = "the range leaves the disk";
        else if (write && !d->writable)
                why = "it was opened for reading only";
        if (!why)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s, %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT ": %s", d->name, len, offset,
                    why);
        return FALSE;
}

/* ---- opening ---- */

/* This process may itself what it is to do with each image. */
static gboolean may_open(const struct disk_image *chain, guint n, gboolean writable)
{
        for (guint i = 0; i < n; i++)
                if (faccessat(AT_FDCWD, chain[i].path, R_OK | (i == 0 && writable ? W_OK : 0), AT_EACCESS) !=
                            0 &&
                    errno != ENOENT)
                        return FALSE;
        return TRUE;
}

static gboolean start_process(Disk *d, const struct disk_image *chain, guint n,
                              const struct disk_options *options, int *ret_socket, GError **error)
{
        scoped_fd int listening = -1, connected = -1;
        gboolean helped = options->helper && !may_open(chain, n, options->writable);

        /* moult-disks makes one without a name itself: moultd may have no place for it. */
        if ((!helped || options->share_at) &&
            !disk_process_sockets(options->share_at, &listening, &connected, error))
                return FALSE;
        d->share_at = g_strdup(options->share_at);
        if (helped) {
                d->process = disk_images_open(options->helper, chain, n, options, listening,
                                              options->share_at ? NULL : &connected, error);
        } else if (disk_chain_check(chain, n, NULL, options, error)) {
                const struct disk_serving how = {listening, options->writable, options->share_at != NULL};

                d->process = disk_chain_serve(chain, n, NULL, &how, NULL, error);
        } else {
                return FALSE;
        }
        if (!d->process)
                g_prefix_error(error, "opening %s: ", d->name);
        else
                *ret_socket = g_steal_fd(&connected);
        return d->process != NULL;
}

static gboolean connect_to_it(Disk *d, int socket, GCancellable *cancellable, GError **error)
{
        scoped_disk_wait struct disk_wait w = {0};

        d->nbd = nbd_create();
        if (!d->nbd || nbd_add_meta_context(d->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
            nbd_add_meta_context(d->nbd, "qemu:allocation-depth") < 0) {
                (void)close(socket);
                return disk_fail(d, MOULT_ERROR_IO, error, "opening");
        }
        d->heard_us = g_get_monotonic_time();
        if (nbd_aio_connect_socket(d->nbd, socket) < 0) /* owns it, also when it fails */
                return disk_fail(d, MOULT_ERROR_CORRUPT, error, "opening");
        disk_wait_init(&w, d, NULL, cancellable);
        while (!nbd_aio_is_ready(d->nbd))
                if (!disk_wait_turn(&w, -1, "opening", error))
                        return FALSE;
        return TRUE;
}

static gboolean take_size(Disk *d, guint64 wanted, GError **error)
{
        gint64 size = nbd_get_size(d->nbd);

        if (size < 0)
                return disk_fail(d, MOULT_ERROR_IO, error, "asking for the size of");
        d->size = (guint64)size;
        /* The file may have changed since its header was looked at. QEMU counts in sectors. */
        if (wanted != 0 && d->size != (wanted + SECTOR - 1) / SECTOR * SECTOR)
                return fail_because(d, MOULT_ERROR_REFUSED, error, "opening",
                                    "the size is another one than expected");
        return TRUE;
}

Disk *disk_open(const struct disk_image *chain, guint n, const struct disk_options *options,
                GCancellable *cancellable, GError **error)
{
        static const struct disk_options none = {0};
        int socket = -1;

        options = options ? options : &none;
        g_assert(!options->share_at || !options->writable);
        g_autoptr(Disk) d = g_new0(Disk, 1);
        d->name = g_strdup(chain[0].path);
        d->writable = options->writable;
        d->answer_seconds = options->answer_seconds ? options->answer_seconds : DISK_ANSWER_SECONDS;
        if (!start_process(d, chain, n, options, &socket, error) ||
            !connect_to_it(d, socket, cancellable, error) || !take_size(d, options->size, error))
                return NULL;
        return g_steal_pointer(&d);
}

/* ---- closing ---- */

void disk_free(Disk *d)
{
        if (!d)
                return;
        g_clear_pointer(&d->nbd, nbd_close);
        disk_process_free(d->process);
        if (d->share_at)
                (void)unlink(d->share_at);
        g_free(d->share_at);
        g_clear_error(&d->broken);
        g_free(d->name);
        g_free(d);
}

gboolean disk_close(Disk *d, GError **error)
{
        g_autoptr(Disk) owned = d;
        int status = 0;

        if (d->writable && !disk_flush(d, NULL, error))
                return FALSE;
        if (!disk_usable(d, 0, 0, FALSE, error))
                return FALSE;
        /* It ends by itself when its only client has said goodbye, and been heard: the socket is empty. */
        if (nbd_aio_disconnect(d->nbd, 0) < 0)
                return disk_fail(d, MOULT_ERROR_IO, error, "closing");
        g_clear_pointer(&d->nbd, nbd_close);
        if (!disk_process_wait(d->process, END_SECONDS, &status))
                return fail_because(d, MOULT_ERROR_TIMEOUT, error, "closing", "qemu-nbd does not end");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return TRUE;
        return disk_fail(d, MOULT_ERROR_IO, error, "closing");
}

gboolean disk_is_alive(Disk *d)
{
        int status;

        return !d->broken && !disk_process_wait(d->process, 0, &status);
}

guint64 disk_size(const Disk *d)
{
        return d->size;
}

const char *disk_name(const Disk *d)
{
        return d->name;
}

GPid disk_process(const Disk *d)
{
        return disk_process_pid(d->process);
}
