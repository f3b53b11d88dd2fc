/* common/error.h - the error classes that cross a border of moult.
 *
 * Inside, errors are GErrors. Whatever may reach a user or the other side carries a code of this domain: the
 * code says what class it is (and becomes the CLI's exit code and the channel's ErrorCode), the text says
 * what was being done, to what, why it failed, and what to do next where we know it. Layers prefix
 * (g_prefix_error); they never repeat.
 */
#pragma once

#include <glib.h>

#define MOULT_ERROR (moult_error_quark())
GQuark moult_error_quark(void);

/* The values are those of ErrorCode in proto/channel.proto (a static assertion in proto/message.c ties them).
 */
typedef enum {
        MOULT_ERROR_UNSPECIFIED = 0,
        MOULT_ERROR_UNSUPPORTED = 1,
        MOULT_ERROR_MALFORMED = 2,
        MOULT_ERROR_WRONG_STATE = 3,
        MOULT_ERROR_BUSY = 4,
        MOULT_ERROR_NOT_FOUND = 5,
        MOULT_ERROR_UNTRUSTED = 6,
        MOULT_ERROR_REFUSED = 7,
        MOULT_ERROR_NO_SPACE = 8,
        MOULT_ERROR_HOOK = 9,
        MOULT_ERROR_HEALTH = 10,
        MOULT_ERROR_TIMEOUT = 11,
        MOULT_ERROR_IO = 12,
        MOULT_ERROR_CANCELLED = 13,
        MOULT_ERROR_CORRUPT = 14,
        MOULT_ERROR_DRIFT = 15,
        MOULT_ERROR_MAX
} MoultError;

/* The code's stable name, as used in JSON and logs: "not-found". */
const char *moult_error_name(MoultError code);

/* The code of @error in our domain; G_IO_ERROR and errors of other domains are mapped. UNSPECIFIED for NULL.
 */
MoultError moult_error_code(const GError *error);

/* Sets @error from a failed system call: "TEXT: strerror(errnum)". ENOSPC/EDQUOT become NO_SPACE, ENOENT
 * NOT_FOUND, the rest IO. Returns FALSE, so that a caller can `return moult_error_errno(...)`. */
gboolean moult_error_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);
