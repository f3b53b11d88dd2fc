/* tests/unit/test_shm_keys.c - who is trusted, and keys that are not what they should be. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "shm/keys.h"
#include "tests/support/packs.h"

TestSuite(keys, .timeout = 20);

Test(keys, a_new_key_signs_and_its_public_half_verifies)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *key_path = tempdir_path(t, "a.key"), *pub_path = tempdir_path(t, "a.pub");
        cr_assert(signing_key_create(key_path, pub_path, &error), "%s", error != NULL ? error->message : "");
        struct stat st;
        cr_assert(eq(int, stat(key_path, &st), 0));
        cr_expect(eq(u32, st.st_mode & 07777, 0600));
        g_autoptr(SigningKey) key = signing_key_load(key_path, &error);
        g_autoptr(TrustStore) trust = trust_store_load(t->path, &error);
        cr_assert(ne(ptr, key, NULL));
        cr_assert(eq(u32, trust_store_count(trust), 1));

        uint8_t id[DIGEST_SIZE], sig[KEY_SIGNATURE_SIZE];
        signing_key_id(key, id);
        cr_assert(signing_key_sign(key, "text", 4, sig, &error));
        cr_expect(trust_store_verify(trust, id, "text", 4, sig));
        cr_expect(not(trust_store_verify(trust, id, "tex", 3, sig)));
        sig[10] ^= 1;
        cr_expect(not(trust_store_verify(trust, id, "text", 4, sig)));
        sig[10] ^= 1;
        id[0] ^= 1;
        cr_expect(not(trust_store_verify(trust, id, "text", 4, sig)));
}

Test(keys, an_existing_key_is_never_overwritten)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *key_path = tempdir_path(t, "a.key"), *pub_path = tempdir_path(t, "a.pub"),
                        *text = NULL;
        tempdir_put(t, "a.pub", "mine", 4);
        cr_assert(not(signing_key_create(key_path, pub_path, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
        cr_assert(g_file_get_contents(pub_path, &text, NULL, NULL));
        cr_expect(eq(str, text, "mine"));
        cr_expect(not(g_file_test(key_path, G_FILE_TEST_EXISTS)));
}

static void expect_bad_trust(const char *content)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "a.pub", content, strlen(content));
        g_autoptr(TrustStore) trust = trust_store_load(t->path, &error);
        cr_assert(eq(ptr, trust, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_MALFORMED));
        cr_expect(ne(ptr, strstr(error->message, "a.pub"), NULL));
}

Test(keys, a_malformed_trusted_key_is_an_error_and_not_a_gap)
{
        expect_bad_trust("");
        expect_bad_trust("nonsense");
        /* P-256: a key, but of another kind. */
        expect_bad_trust("-----BEGIN PUBLIC KEY-----\n"
                         "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n"
                         "6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n"
                         "-----END PUBLIC KEY-----\n");
}

Test(keys, other_files_in_the_trust_directory_are_ignored)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "README", "x", 1);
        g_autoptr(TrustStore) trust = trust_store_load(t->path, &error);
        cr_assert(ne(ptr, trust, NULL));
        cr_expect(eq(u32, trust_store_count(trust), 0));
}

Test(keys, a_missing_trust_directory_is_an_error)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = trust_store_load("/nonexistent/trust", &error);
        cr_expect(eq(ptr, trust, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
}

Test(keys, a_public_key_does_not_sign)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autofree char *path = tempdir_path(t, "trust/test.pub");
        g_autoptr(SigningKey) key = signing_key_load(path, &error);
        cr_expect(eq(ptr, key, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_MALFORMED));
}
