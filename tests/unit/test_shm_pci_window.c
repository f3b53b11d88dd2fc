/* tests/unit/test_shm_pci_window.c - which of the plugged devices holds the pack that was offered. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "proto/channel.pb-c.h"
#include "shm/pci_window.h"
#include "tests/support/packs.h"

TestSuite(pci_window, .timeout = 20);

/* A device as sysfs shows it; @pack NULL: a window of zeros. */
static void put_device(TempDir *t, const char *address, const char *device, const char *bar, const char *pack)
{
        g_autofree char *dir = g_strdup_printf("pci/%s", address);
        g_autofree char *path = tempdir_path(t, dir), *content = NULL;
        gsize len = 0;
        g_mkdir_with_parents(path, 0755);
        g_autofree char *vendor_name = g_build_filename(dir, "vendor", NULL);
        g_autofree char *device_name = g_build_filename(dir, "device", NULL);
        g_autofree char *enable_name = g_build_filename(dir, "enable", NULL);
        g_autofree char *bar_name = g_build_filename(dir, bar, NULL), *bar_path = tempdir_path(t, bar_name);
        tempdir_put(t, vendor_name, "0x1af4\n", 7);
        tempdir_put(t, device_name, device, strlen(device));
        tempdir_put(t, enable_name, "0\n", 2);
        if (pack != NULL)
                cr_assert(g_file_get_contents(pack, &content, &len, NULL));
        tempdir_put(t, bar_name, content != NULL ? content : "", len);
        cr_assert(eq(int, truncate(bar_path, 1 << 20), 0));
}

static PackSource *open_window(TempDir *t, const uint8_t *digest, gboolean strict, GError **error)
{
        g_autofree char *pci = tempdir_path(t, "pci");
        return pci_window_open(pci, digest, strict, error);
}

Test(pci_window, the_window_with_the_offered_pack_is_found_among_others)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *enabled = NULL;
        put_device(t, "0000:00:01.0", "0x1000\n", "resource2", pack); /* virtio-net */
        put_device(t, "0000:00:02.0", "0x1110\n", "resource2_wc", NULL);
        put_device(t, "0000:00:03.0", "0x1110\n", "resource2", pack);
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, &error);
        cr_assert(ne(ptr, s, NULL), "%s", error != NULL ? error->message : "");
        cr_expect(eq(int, s->ops->kind, MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
        cr_expect(eq(u64, s->size, 1 << 20));
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) r = pack_reader_open(s, trust, digest, NULL, &error);
        cr_assert(ne(ptr, r, NULL), "%s", error != NULL ? error->message : "");
        cr_expect(packs_verify(r, &error));
        g_autofree char *enable = tempdir_path(t, "pci/0000:00:03.0/enable");
        cr_assert(g_file_get_contents(enable, &enabled, NULL, NULL));
        cr_expect(eq(str, enabled, "1\n"));
}

Test(pci_window, without_a_fitting_window_it_says_not_found)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);
        put_device(t, "0000:00:03.0", "0x1110\n", "resource2", pack);
        digest[5] ^= 1;
        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
        cr_expect(ne(ptr, strstr(error->message, "1 windows"), NULL));
        g_clear_error(&error);
        cr_assert(eq(ptr, pci_window_open("/nonexistent", digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
}

Test(pci_window, a_window_that_can_be_written_is_refused_in_strict_mode)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest);
        put_device(t, "0000:00:03.0", "0x1110\n", "resource2", pack);
        cr_assert(eq(ptr, open_window(t, digest, TRUE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_REFUSED));
        cr_expect(ne(ptr, strstr(error->message, "readonly=on"), NULL));
}

/* A hot-plugged device is in sysfs before its BARs are. */
Test(pci_window, a_window_that_is_being_set_up_is_not_found_yet)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *bar = tempdir_path(t, "pci/0000:00:03.0/resource2"),
                        *later = tempdir_path(t, "later");
        put_device(t, "0000:00:03.0", "0x1110\n", "resource2", pack);
        cr_assert(eq(int, rename(bar, later), 0));
        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
        cr_expect(ne(ptr, strstr(error->message, "pref64-reserve"), NULL), "%s", error->message);
        g_clear_error(&error);
        cr_assert(eq(int, rename(later, bar), 0));
        g_autoptr(PackSource) s = open_window(t, digest, FALSE, &error);
        cr_expect(ne(ptr, s, NULL), "%s", error != NULL ? error->message : "");
}

Test(pci_window, a_window_without_an_address_is_not_found_yet)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        uint8_t digest[DIGEST_SIZE];
        g_autofree char *pack = packs_small(t, digest), *enable = tempdir_path(t, "pci/0000:00:03.0/enable");
        put_device(t, "0000:00:03.0", "0x1110\n", "resource2", pack);
        /* A file of the kernel's that answers "1" with EINVAL, as `enable` does while there is no address. */
        cr_assert(eq(int, unlink(enable), 0));
        cr_assert(eq(int, symlink("/proc/self/setgroups", enable), 0));
        if (access(enable, W_OK) < 0)
                cr_skip_test("needs root, and a kernel with user namespaces");
        cr_assert(eq(ptr, open_window(t, digest, FALSE, &error), NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND), "%s", error->message);
}
