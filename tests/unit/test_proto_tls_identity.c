/* tests/unit/test_proto_tls_identity.c - an identity is made once, kept, and never replaced behind one's
 * back. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "proto/tls_identity.h"
#include "tests/support/tempdir.h"

TestSuite(tls_identity, .timeout = 20);

Test(tls_identity, is_made_once_and_then_the_same)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *path = g_strdup_printf("%s/new/deep", dir->path);
        g_autofree char *file = g_strdup_printf("%s/identity.pem", path);
        g_autoptr(GError) error = NULL;
        struct stat st;
        g_autoptr(TlsIdentity) first = tls_identity_load(path, "vm", &error);
        g_autoptr(TlsIdentity) again = tls_identity_load(path, "another name", &error);

        cr_assert(ne(ptr, first, NULL));
        cr_assert(ne(ptr, again, NULL));
        cr_expect(zero(
                int, memcmp(tls_identity_fingerprint(first), tls_identity_fingerprint(again), DIGEST_SIZE)));
        cr_assert(zero(int, stat(file, &st)));
        cr_expect(eq(uint, st.st_mode & 07777, 0600));
}

Test(tls_identity, others_differ)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *a = g_strdup_printf("%s/a", dir->path), *b = g_strdup_printf("%s/b", dir->path);
        g_autoptr(TlsIdentity) one = tls_identity_load(a, "vm", NULL), two = tls_identity_load(b, "vm", NULL);

        cr_assert(ne(ptr, one, NULL));
        cr_assert(ne(ptr, two, NULL));
        cr_expect(ne(int, memcmp(tls_identity_fingerprint(one), tls_identity_fingerprint(two), DIGEST_SIZE),
                     0));
}

Test(tls_identity, a_damaged_file_is_an_error_and_stays)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *file = g_strdup_printf("%s/identity.pem", dir->path);
        g_autofree char *text = NULL;

        tempdir_put(dir, "identity.pem", "not a key", 9);
        cr_assert(zero(int, chmod(file, 0600)));
        g_autoptr(TlsIdentity) id = tls_identity_load(dir->path, "vm", &error);
        cr_assert(eq(ptr, id, NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_MALFORMED));
        cr_assert(g_file_get_contents(file, &text, NULL, NULL));
        cr_expect(eq(str, text, "not a key"));
}

Test(tls_identity, a_key_that_others_may_read_is_refused)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *file = g_strdup_printf("%s/identity.pem", dir->path);

        tls_identity_free(tls_identity_load(dir->path, "vm", NULL));
        cr_assert(zero(int, chmod(file, 0640)));
        g_autoptr(TlsIdentity) id = tls_identity_load(dir->path, "vm", &error);
        cr_assert(eq(ptr, id, NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_UNTRUSTED));
}
