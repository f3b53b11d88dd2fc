/* tests/unit/test_common_error.c - every error has a class, whoever made it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <gio/gio.h>

#include "common/error.h"

TestSuite(error, .timeout = 20);

Test(error, every_code_has_a_name_of_its_own)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        for (int code = 0; code < MOULT_ERROR_MAX; code++)
                cr_expect(g_hash_table_add(seen, (gpointer)moult_error_name((MoultError)code)), "code %d",
                          code);
        cr_expect(eq(str, (char *)moult_error_name((MoultError)99), "unspecified"));
        cr_expect(eq(str, (char *)moult_error_name((MoultError)-1), "unspecified"));
}

static MoultError code_of(GQuark domain, int code)
{
        g_autoptr(GError) error = g_error_new_literal(domain, code, "x");
        return moult_error_code(error);
}

Test(error, foreign_errors_are_mapped)
{
        cr_expect(eq(int, moult_error_code(NULL), MOULT_ERROR_UNSPECIFIED));
        cr_expect(eq(int, code_of(MOULT_ERROR, MOULT_ERROR_DRIFT), MOULT_ERROR_DRIFT));
        cr_expect(eq(int, code_of(MOULT_ERROR, 99), MOULT_ERROR_UNSPECIFIED));
        cr_expect(eq(int, code_of(G_IO_ERROR, G_IO_ERROR_CANCELLED), MOULT_ERROR_CANCELLED));
        cr_expect(eq(int, code_of(G_IO_ERROR, G_IO_ERROR_NO_SPACE), MOULT_ERROR_NO_SPACE));
        cr_expect(eq(int, code_of(G_IO_ERROR, G_IO_ERROR_TIMED_OUT), MOULT_ERROR_TIMEOUT));
        cr_expect(eq(int, code_of(G_IO_ERROR, G_IO_ERROR_FAILED), MOULT_ERROR_IO));
        cr_expect(eq(int, code_of(G_FILE_ERROR, G_FILE_ERROR_NOENT), MOULT_ERROR_NOT_FOUND));
        cr_expect(eq(int, code_of(G_MARKUP_ERROR, 0), MOULT_ERROR_UNSPECIFIED));
}

Test(error, a_failed_call_says_what_and_why)
{
        g_autoptr(GError) error = NULL;
        cr_expect(not(moult_error_errno(&error, ENOSPC, "writing %s", "the journal")));
        cr_expect(eq(str, error->message, "writing the journal: No space left on device"));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NO_SPACE));
        cr_expect(not(moult_error_errno(NULL, EIO, "nobody listens")));
}
