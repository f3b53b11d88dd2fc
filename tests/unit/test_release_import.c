/* tests/unit/test_release_import.c - what becomes of files that are to be imported: all or nothing. */
#include "host-service/release/import.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-service/release/pack_store.h"
#include "host-service/release/releases.h"
#include "tests/support/host_world.h"
#include "tests/support/packs.h"

TestSuite(release_import, .timeout = 120);

#define OPERATION "01ARZ3NDEKTSV4RRFFQ69G5FAV"

Test(release_import, windows_are_powers_of_two)
{
        const guint64 mib = 1 << 20;

        cr_expect(eq(u64, release_padded_size(0), 2 * mib)); /* less cannot be mapped as persistent memory */
        cr_expect(eq(u64, release_padded_size(2 * mib), 2 * mib));
        cr_expect(eq(u64, release_padded_size(2 * mib + 1), 4 * mib));
        cr_expect(eq(u64, release_padded_size(5 * mib), 8 * mib));
        cr_expect(eq(u64, release_padded_size(UINT64_C(1) << 44), UINT64_C(1) << 44));
        cr_expect(eq(u64, release_padded_size((UINT64_C(1) << 44) + 1), 0));
        cr_expect(eq(u64, release_padded_size(UINT64_MAX), 0));
}

/* Imports the file; NULL and *ret_release (if there is a pointer) set, or the error. */
static GError *import(HostWorld *w, const char *path, const char *operation, ReleaseRecord **ret_release)
{
        struct release_import *i = g_new0(struct release_import, 1);
        GError *error = NULL;

        i->env = &w->env;
        i->path = g_strdup(path);
        i->operation = g_strdup(operation);
        i->trust_dir = tempdir_path(w->dir, "trust");
        if (release_import_run(i, NULL, &error) && ret_release)
                *ret_release = g_steal_pointer(&i->release);
        release_import_free(i);
        return error;
}

static void expect_import(HostWorld *w, const char *path, const char *operation, ReleaseRecord **ret_release)
{
        g_autoptr(GError) error = import(w, path, operation, ret_release);

        cr_assert(eq(ptr, error, NULL), "%s", error->message);
}

/* A small signed pack, and its key trusted. */
static char *good_pack(HostWorld *w)
{
        g_autoptr(TrustStore) trust = packs_trust(w->dir);

        return packs_small(w->dir, NULL);
}

static guint count_stored(HostWorld *w)
{
        g_auto(GStrv) files = w->env.store->list(w->env.self, NULL);

        return g_strv_length(files);
}

Test(release_import, a_good_pack_is_sealed_under_a_name_of_its_own)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(ReleaseRecord) r = NULL, second = NULL;
        g_autofree char *pack = good_pack(w);
        struct stat st;

        expect_import(w, pack, OPERATION, &r);
        g_autofree char *path = w->env.store->path(w->env.self, r->file);
        cr_assert(eq(int, stat(path, &st), 0));
        cr_expect(eq(u32, st.st_mode & 07777, 0444));
        cr_expect(eq(u64, (guint64)st.st_size, r->padded_size));
        cr_expect(ne(ptr, strstr(r->file, OPERATION), NULL));
        /* The same name again is never written over. */
        g_autoptr(GError) error = import(w, pack, OPERATION, &second);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
        cr_expect(eq(u32, count_stored(w), 1));
        w->env.store->remove(w->env.self, r->file, NULL);
}

Test(release_import, a_half_copied_file_of_the_same_operation_is_begun_anew)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(ReleaseRecord) r = NULL;
        g_autofree char *pack = good_pack(w), *temp = release_import_temp_name(OPERATION);
        int fd = w->env.store->create(w->env.self, temp, NULL);

        cr_assert(ge(int, fd, 0));
        cr_assert(eq(int, (int)write(fd, "rubbish", 7), 7));
        close(fd);
        expect_import(w, pack, OPERATION, &r);
        cr_expect(eq(u32, count_stored(w), 1));
        w->env.store->remove(w->env.self, r->file, NULL);
}

/* Every byte of the header, and a sample of the others: none may be wrong unnoticed. */
Test(release_import, no_byte_may_be_flipped)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autofree char *pack = good_pack(w), *bad = tempdir_path(w->dir, "bad.moult"), *data = NULL;
        g_autoptr(ReleaseRecord) r = NULL;
        gsize len, accepted = 0, tried = 0;

        cr_assert(g_file_get_contents(pack, &data, &len, NULL));
        for (gsize at = 0; at < len; at += at < 128 ? 1 : 97) {
                g_autoptr(GError) error = NULL;

                data[at] ^= 0x20;
                cr_assert(g_file_set_contents(bad, data, (gssize)len, NULL));
                data[at] ^= 0x20;
                error = import(w, bad, OPERATION, &r);
                tried++;
                if (!error) {
                        /* Padding between blobs is nobody's content. */
                        accepted++;
                        w->env.store->remove(w->env.self, r->file, NULL);
                        g_clear_pointer(&r, release_record_free);
                        continue;
                }
                cr_expect(error->domain == MOULT_ERROR, "%zu: %s", at, error->message);
                cr_expect(ne(ptr, strstr(error->message, "bad.moult"), NULL), "%zu: %s", at, error->message);
                cr_expect(eq(u32, count_stored(w), 0), "%zu", at);
        }
        cr_expect(gt(sz, tried, 200));
        cr_expect(lt(sz, accepted, tried / 2), "%zu of %zu", accepted, tried);
}

Test(release_import, no_cut_is_accepted)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autofree char *pack = good_pack(w), *bad = tempdir_path(w->dir, "bad.moult"), *data = NULL;
        gsize len;

        cr_assert(g_file_get_contents(pack, &data, &len, NULL));
        for (gsize cut = 0; cut < len; cut += 311) {
                g_autoptr(GError) error = NULL;

                cr_assert(g_file_set_contents(bad, data, (gssize)cut, NULL));
                error = import(w, bad, OPERATION, NULL);
                cr_assert(ne(ptr, error, NULL), "%zu", cut);
        }
        cr_expect(eq(u32, count_stored(w), 0));
}

Test(release_import, files_that_no_release_has_are_removed_at_the_start)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(ReleaseRecord) r = NULL, left = NULL;
        g_autofree char *pack = good_pack(w), *temp = release_import_temp_name("x");
        g_auto(GStrv) files = NULL;

        expect_import(w, pack, OPERATION, &r);
        cr_assert(catalogue_release_add(c, r, NULL, NULL));
        expect_import(w, pack, "01ARZ3NDEKTSV4RRFFQ69G5FAW", &left);
        close(w->env.store->create(w->env.self, temp, NULL));
        cr_assert(eq(u32, count_stored(w), 3));
        cr_assert(pack_store_clean(&w->env, c, NULL));
        files = w->env.store->list(w->env.self, NULL);
        cr_assert(eq(u32, g_strv_length(files), 1));
        cr_expect(eq(str, files[0], r->file));
        w->env.store->remove(w->env.self, r->file, NULL);
}
