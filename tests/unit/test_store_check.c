/* tests/unit/test_store_check.c - the look at everything: what is wrong, all of it, and that it can be
 * stopped. */
#include "host-service/store/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/catalogue/check.h"
#include "host-service/release/import.h"
#include "tests/support/host_world.h"
#include "tests/support/packs.h"

TestSuite(store_check, .timeout = 120);

/* A sealed pack of a trusted key, and a list of it. */
static GPtrArray *one_release(HostWorld *w, char **ret_path)
{
        g_autoptr(TrustStore) trust = packs_trust(w->dir);
        g_autofree char *pack = packs_small(w->dir, NULL);
        GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)release_record_free);
        struct release_import *i = g_new0(struct release_import, 1);
        g_autoptr(GError) error = NULL;

        i->env = &w->env;
        i->path = g_steal_pointer(&pack);
        i->operation = g_strdup("01ARZ3NDEKTSV4RRFFQ69G5FAV");
        i->trust_dir = tempdir_path(w->dir, "trust");
        cr_assert(release_import_run(i, NULL, &error), "%s", error ? error->message : "");
        *ret_path = w->env.store->path(w->env.self, i->release->file);
        g_ptr_array_add(list, g_steal_pointer(&i->release));
        release_import_free(i);
        return list;
}

/* "kind kind ..." */
static char *look(HostWorld *w, GPtrArray *releases)
{
        g_autofree char *trust = tempdir_path(w->dir, "trust");
        struct store_check *c = store_check_new(&w->env, trust, g_ptr_array_ref(releases));
        g_autoptr(GError) error = NULL;
        GString *s = g_string_new(NULL);

        cr_assert(store_check_run(c, NULL, &error), "%s", error ? error->message : "");
        cr_expect(eq(i64, c->done, c->total));
        for (guint i = 0; i < c->findings->len; i++)
                g_string_append_printf(s, "%s%s", i ? " " : "",
                                       finding_name(((const Finding *)c->findings->pdata[i])->kind));
        store_check_free(c);
        return g_string_free(s, FALSE);
}

static void write_byte(const char *path, off_t at)
{
        char b = 0x5a;
        int fd;

        chmod(path, 0600);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        cr_assert(eq(int, pwrite(fd, &b, 1, at) == 1, 1));
        close(fd);
        chmod(path, 0444);
}

Test(store_check, what_is_whole_is_whole_and_what_is_not_is_named)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autofree char *path = NULL;
        g_autoptr(GPtrArray) list = one_release(w, &path);
        ReleaseRecord *r = list->pdata[0];

        g_autofree char *whole = look(w, list);
        cr_expect(eq(str, whole, ""));
        r->entries++;
        g_autofree char *row = look(w, list);
        cr_expect(eq(str, row, "catalogue-differs"));
        r->entries--;
        write_byte(path, 4096);
        g_autofree char *byte = look(w, list);
        cr_expect(eq(str, byte, "pack-damaged"));
        chmod(path, 0644);
        g_autofree char *both = look(w, list);
        cr_expect(eq(str, both, "pack-writable pack-damaged"));
        cr_assert(eq(int, truncate(path, 8192), 0));
        chmod(path, 0444);
        g_autofree char *cut = look(w, list);
        cr_expect(eq(str, cut, "pack-damaged"));
        cr_assert(eq(int, unlink(path), 0));
        g_autofree char *gone = look(w, list);
        cr_expect(eq(str, gone, "pack-missing"));
}

Test(store_check, a_lost_key_hides_no_damage)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autofree char *path = NULL, *key = tempdir_path(w->dir, "trust/test.pub");
        g_autoptr(GPtrArray) list = one_release(w, &path);

        cr_assert(eq(int, unlink(key), 0));
        g_autofree char *untrusted = look(w, list);
        cr_expect(eq(str, untrusted, "pack-untrusted"));
        write_byte(path, 4096);
        g_autofree char *both = look(w, list);
        cr_expect(eq(str, both, "pack-untrusted pack-damaged"));
}

Test(store_check, it_stops_when_it_is_asked_to)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) cat = host_world_catalogue(w);
        g_autofree char *path = NULL, *trust = tempdir_path(w->dir, "trust"), *problem = NULL;
        struct store_check *c = store_check_new(&w->env, trust, one_release(w, &path));
        g_autoptr(GCancellable) stop = g_cancellable_new();
        g_autoptr(GError) error = NULL;

        g_cancellable_cancel(stop);
        cr_expect(not(store_check_run(c, stop, &error)));
        cr_expect(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
        store_check_free(c);
}

Test(store_check, sqlite_s_own_check_finds_a_damaged_catalogue)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autofree char *problem = NULL, *none = NULL;
        g_autoptr(GError) error = NULL;
        struct stat st;

        catalogue_close(host_world_catalogue(w)); /* all of it in the file, nothing in a log */
        cr_assert(catalogue_check(&w->env, &none, NULL, &error), "%s", error ? error->message : "");
        cr_expect(eq(ptr, none, NULL));
        cr_assert(eq(int, stat(w->env.catalogue_path, &st), 0));
        for (off_t at = 4096; at < st.st_size; at += 4096) /* the first byte of each page: its kind */
                write_byte(w->env.catalogue_path, at);
        cr_assert(catalogue_check(&w->env, &problem, NULL, &error), "%s", error ? error->message : "");
        cr_expect(ne(ptr, problem, NULL));
}
