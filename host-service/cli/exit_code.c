/* host-service/cli/exit_code.c - what `moult` tells the program that called it. */
#include "host-service/cli/exit_code.h"

#include <gio/gio.h>
#include <string.h>

#include "common/error.h"

G_DEFINE_QUARK(moult - cli - error - quark, cli_error)

static const struct exit_code_row table[] = {
        {EXIT_CODE_OK, "ok", "done; for a push: every VM has the release (or would take it, with --dry-run)"},
        {EXIT_CODE_INTERNAL, "internal",
         "an error that has no code of its own; the message says what it was"},
        {EXIT_CODE_USAGE, "usage", "unknown command, missing or malformed argument; nothing was done"},
        {EXIT_CODE_NOT_FOUND, "not-found", "no such file, VM, release, job or generation"},
        {EXIT_CODE_REFUSED, "refused", "the guest or the release's own rules refuse it; nothing was changed"},
        {EXIT_CODE_ROLLED_BACK, "rolled-back", "the upgrade was switched on, failed, and was taken back"},
        {EXIT_CODE_UNREACHABLE, "unreachable", "the VM or its agent did not answer in time"},
        {EXIT_CODE_PARTIAL, "partial", "several VMs, and not all ended alike; the result lists each"},
        {EXIT_CODE_CONFLICT, "conflict", "busy, exists already, or not possible in the present state"},
        {EXIT_CODE_UNTRUSTED, "untrusted", "unsigned, signed by an unknown key, or below the security floor"},
        {EXIT_CODE_NO_SPACE, "no-space", "a disk is full, here or in the guest"},
        {EXIT_CODE_NO_DAEMON, "no-daemon", "moultd does not answer on its socket"},
        {EXIT_CODE_CANCELLED, "cancelled", "interrupted or cancelled"},
        {EXIT_CODE_CORRUPT, "corrupt", "bytes do not match their digest, or a file is not what it should be"},
        {EXIT_CODE_IO, "io", "reading or writing failed"},
        {EXIT_CODE_UNSUPPORTED, "unsupported", "the other side is too old or too new for this request"},
        {0},
};

const struct exit_code_row *exit_code_table(void)
{
        return table;
}

const char *exit_code_name(ExitCode code)
{
        for (const struct exit_code_row *r = table; r->name; r++)
                if (r->code == code)
                        return r->name;
        return "internal";
}

static ExitCode of_moult_error(MoultError code)
{
        switch (code) {
        case MOULT_ERROR_UNSUPPORTED:
                return EXIT_CODE_UNSUPPORTED;
        case MOULT_ERROR_MALFORMED:
        case MOULT_ERROR_CORRUPT:
                return EXIT_CODE_CORRUPT;
        case MOULT_ERROR_WRONG_STATE:
        case MOULT_ERROR_BUSY:
                return EXIT_CODE_CONFLICT;
        case MOULT_ERROR_NOT_FOUND:
                return EXIT_CODE_NOT_FOUND;
        case MOULT_ERROR_UNTRUSTED:
                return EXIT_CODE_UNTRUSTED;
        case MOULT_ERROR_REFUSED:
        case MOULT_ERROR_DRIFT:
                return EXIT_CODE_REFUSED;
        case MOULT_ERROR_NO_SPACE:
                return EXIT_CODE_NO_SPACE;
        case MOULT_ERROR_HOOK:
        case MOULT_ERROR_HEALTH:
                return EXIT_CODE_ROLLED_BACK;
        case MOULT_ERROR_TIMEOUT:
                return EXIT_CODE_UNREACHABLE;
        case MOULT_ERROR_IO:
                return EXIT_CODE_IO;
        case MOULT_ERROR_CANCELLED:
                return EXIT_CODE_CANCELLED;
        case MOULT_ERROR_UNSPECIFIED:
        case MOULT_ERROR_MAX:
                break;
        }
        return EXIT_CODE_INTERNAL;
}

ExitCode exit_code_of_error(const GError *error)
{
        if (!error)
                return EXIT_CODE_OK;
        if (error->domain == G_OPTION_ERROR)
                return EXIT_CODE_USAGE;
        if (error->domain == CLI_ERROR)
                return error->code == CLI_ERROR_DAEMON ? EXIT_CODE_NO_DAEMON : EXIT_CODE_USAGE;
        return of_moult_error(moult_error_code(error));
}

ExitCode exit_code_of_name(const char *error_name)
{
        if (!error_name || !*error_name)
                return EXIT_CODE_OK;
        for (MoultError code = 0; code < MOULT_ERROR_MAX; code++)
                if (!strcmp(moult_error_name(code), error_name))
                        return of_moult_error(code);
        return EXIT_CODE_INTERNAL;
}

ExitCode exit_code_combine(const ExitCode *codes, unsigned n)
{
        for (unsigned i = 1; i < n; i++)
                if (codes[i] != codes[0])
                        return EXIT_CODE_PARTIAL;
        return n > 0 ? codes[0] : EXIT_CODE_OK;
}
