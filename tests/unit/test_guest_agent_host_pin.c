/* tests/unit/test_guest_agent_host_pin.c - which host we believe, and for how long. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "guest-agent/host_pin.h"
#include "tests/support/tempdir.h"

TestSuite(host_pin, .timeout = 20);

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const char *const endpoints[] = {"192.0.2.1:7878", "[2001:db8::1]:7878", NULL};

static void save(HostPin *p)
{
        g_autoptr(Worker) w = worker_new(1);

        host_pin_save(p, w);
}

static gboolean is_pinned(const HostPin *p, int byte)
{
        guint8 want[DIGEST_SIZE];

        memset(want, byte, sizeof want);
        return host_pin_fingerprint(p) && memcmp(host_pin_fingerprint(p), want, sizeof want) == 0;
}

Test(host_pin, is_nobody_at_first)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(HostPin) p = host_pin_load(dir->path, "", NULL);

        cr_assert(ne(ptr, p, NULL));
        cr_expect(eq(ptr, (void *)host_pin_fingerprint(p), NULL));
        cr_expect(eq(ptr, (void *)host_pin_secret(p), NULL));
        cr_expect(eq(ptr, (void *)host_pin_endpoints(p)[0], NULL));
}

Test(host_pin, learns_over_the_port_and_remembers)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(HostPin) p = host_pin_load(dir->path, "", NULL), again = NULL;
        guint8 key[DIGEST_SIZE];
        struct stat st;

        memset(key, 0xaa, sizeof key);
        cr_expect(host_pin_learn(p, key, endpoints));
        cr_expect(not(host_pin_learn(p, key, endpoints)), "nothing new");
        save(p);
        g_autofree char *file = tempdir_path(dir, "host.pin");
        cr_assert(zero(int, stat(file, &st)));
        cr_expect(eq(uint, st.st_mode & 0777, 0600));
        again = host_pin_load(dir->path, "", NULL);
        cr_assert(ne(ptr, again, NULL));
        cr_expect(is_pinned(again, 0xaa));
        cr_expect(eq(str, (char *)host_pin_endpoints(again)[1], (char *)endpoints[1]));
        cr_expect(eq(ptr, (void *)host_pin_endpoints(again)[2], NULL));
}

Test(host_pin, a_token_pins_and_counts_once)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autoptr(HostPin) p = host_pin_load(dir->path, "moult1:" A ":secret", NULL);
        guint8 key[DIGEST_SIZE];

        cr_assert(ne(ptr, p, NULL));
        cr_expect(is_pinned(p, 0xaa));
        cr_expect(eq(str, (char *)host_pin_secret(p), (char *)"secret"));
        cr_expect(host_pin_spend_token(p));
        cr_expect(eq(ptr, (void *)host_pin_secret(p), NULL));
        cr_expect(not(host_pin_spend_token(p)));

        /* Later the port says another key: the old token, still in the configuration, does not undo that. */
        memset(key, 0xbb, sizeof key);
        cr_expect(host_pin_learn(p, key, endpoints));
        save(p);
        g_autoptr(HostPin) again = host_pin_load(dir->path, "moult1:" A ":secret", NULL);
        cr_expect(is_pinned(again, 0xbb));
        cr_expect(eq(ptr, (void *)host_pin_secret(again), NULL));
        /* A new token does. */
        g_autoptr(HostPin) renewed = host_pin_load(dir->path, "moult1:" A ":other", NULL);
        cr_expect(is_pinned(renewed, 0xaa));
        cr_expect(eq(str, (char *)host_pin_secret(renewed), (char *)"other"));
}

Test(host_pin, refuses_tokens_that_are_none)
{
        static const char *const wrong[] = {"x",
                                            "moult1:",
                                            "moult1:" A,
                                            "moult1:" A ":",
                                            "moult2:" A ":s",
                                            "moult1:aabb:s",
                                            "moult1:" A "a:s"};
        g_autoptr(TempDir) dir = tempdir_new();

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autoptr(GError) error = NULL;

                cr_expect(eq(ptr, host_pin_load(dir->path, wrong[i], &error), NULL), "%s", wrong[i]);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED));
        }
}

Test(host_pin, a_damaged_file_is_an_error_and_not_a_new_beginning)
{
        static const char *const damaged[] = {"", "[host]\n", "[host]\nfingerprint=" B "b\n",
                                              "[host]\nfingerprint=zz\n", "\xff\xfe"};

        for (size_t i = 0; i < G_N_ELEMENTS(damaged); i++) {
                g_autoptr(TempDir) dir = tempdir_new();
                g_autoptr(GError) error = NULL;

                tempdir_put(dir, "host.pin", damaged[i], strlen(damaged[i]));
                cr_expect(eq(ptr, host_pin_load(dir->path, "", &error), NULL), "case %zu", i);
                cr_expect(ne(ptr, error, NULL));
        }
}
