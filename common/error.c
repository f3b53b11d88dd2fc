/* common/error.c - the error classes that cross a border of moult: names, and what foreign errors become. */
#include "common/error.h"

#include <errno.h>
#include <gio/gio.h>

static const char *const code_names[] = {
        [MOULT_ERROR_UNSPECIFIED] = "unspecified",
        [MOULT_ERROR_UNSUPPORTED] = "unsupported",
        [MOULT_ERROR_MALFORMED] = "malformed",
        [MOULT_ERROR_WRONG_STATE] = "wrong-state",
        [MOULT_ERROR_BUSY] = "busy",
        [MOULT_ERROR_NOT_FOUND] = "not-found",
        [MOULT_ERROR_UNTRUSTED] = "untrusted",
        [MOULT_ERROR_REFUSED] = "refused",
        [MOULT_ERROR_NO_SPACE] = "no-space",
        [MOULT_ERROR_HOOK] = "hook",
        [MOULT_ERROR_HEALTH] = "health",
        [MOULT_ERROR_TIMEOUT] = "timeout",
        [MOULT_ERROR_IO] = "io",
        [MOULT_ERROR_CANCELLED] = "cancelled",
        [MOULT_ERROR_CORRUPT] = "corrupt",
        [MOULT_ERROR_DRIFT] = "drift",
};
G_STATIC_ASSERT(G_N_ELEMENTS(code_names) == MOULT_ERROR_MAX);

G_DEFINE_QUARK(moult - error - quark, moult_error)

const char *moult_error_name(MoultError code)
{
        /* Codes arrive from the channel too: a newer peer may know more of them. */
        if ((unsigned)code >= MOULT_ERROR_MAX)
                return code_names[MOULT_ERROR_UNSPECIFIED];
        return code_names[code];
}

static MoultError code_of_gio(int code)
{
        switch ((GIOErrorEnum)code) {
        case G_IO_ERROR_CANCELLED:
                return MOULT_ERROR_CANCELLED;
        case G_IO_ERROR_NOT_FOUND:
                return MOULT_ERROR_NOT_FOUND;
        case G_IO_ERROR_NO_SPACE:
                return MOULT_ERROR_NO_SPACE;
        case G_IO_ERROR_TIMED_OUT:
                return MOULT_ERROR_TIMEOUT;
        case G_IO_ERROR_BUSY:
        case G_IO_ERROR_PENDING:
                return MOULT_ERROR_BUSY;
        case G_IO_ERROR_NOT_SUPPORTED:
                return MOULT_ERROR_UNSUPPORTED;
        case G_IO_ERROR_INVALID_DATA:
                return MOULT_ERROR_MALFORMED;
        default:
                return MOULT_ERROR_IO;
        }
}

static MoultError code_of_file(int code)
{
        switch ((GFileError)code) {
        case G_FILE_ERROR_NOENT:
                return MOULT_ERROR_NOT_FOUND;
        case G_FILE_ERROR_NOSPC:
                return MOULT_ERROR_NO_SPACE;
        default:
                return MOULT_ERROR_IO;
        }
}

MoultError moult_error_code(const GError *error)
{
        if (error == NULL)
                return MOULT_ERROR_UNSPECIFIED;
        if (error->domain == MOULT_ERROR)
                return error->code > 0 && error->code < MOULT_ERROR_MAX ? (MoultError)error->code
                                                                        : MOULT_ERROR_UNSPECIFIED;
        if (error->domain == G_IO_ERROR)
                return code_of_gio(error->code);
        if (error->domain == G_FILE_ERROR)
                return code_of_file(error->code);
        return MOULT_ERROR_UNSPECIFIED;
}

static MoultError code_of_errno(int errnum)
{
        switch (errnum) {
        case ENOSPC:
        case EDQUOT:
                return MOULT_ERROR_NO_SPACE;
        case ENOENT:
                return MOULT_ERROR_NOT_FOUND;
        default:
                return MOULT_ERROR_IO;
        }
}

gboolean moult_error_errno(GError **error, int errnum, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        g_set_error(error, MOULT_ERROR, (gint)code_of_errno(errnum), "%s: %s", text, g_strerror(errnum));
        return FALSE;
}
