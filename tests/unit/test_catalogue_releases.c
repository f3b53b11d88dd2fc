/* tests/unit/test_catalogue_releases.c - which version is the highest, which release has a file (U1). */
#include "host-service/catalogue/releases.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/vms.h"
#include "host-service/jobs/push_operation.h"
#include "tests/support/host_world.h"

TestSuite(catalogue_releases, .timeout = 60);

/* Ascending; what `dpkg --compare-versions` says. */
static const char *const ascending[] = {"0~~",
                                        "0~",
                                        "0",
                                        "0+a",
                                        "1~rc1",
                                        "1~rc2",
                                        "1",
                                        "1a",
                                        "1+b",
                                        "1.0",
                                        "1.1~",
                                        "1.1",
                                        "1.1-1",
                                        "1.1-1+deb12u1",
                                        "1.1-2",
                                        "1.1-10",
                                        "1.2",
                                        "1.10",
                                        "2",
                                        "10",
                                        "3000000000000000000000000001",
                                        "3000000000000000000000000002",
                                        "1:0",
                                        "1:0.1",
                                        "2:0"};

Test(catalogue_releases, versions_are_ordered_as_dpkg_does)
{
        for (gsize i = 0; i < G_N_ELEMENTS(ascending); i++)
                for (gsize j = 0; j < G_N_ELEMENTS(ascending); j++) {
                        int want = (i > j) - (i < j);

                        cr_expect(eq(int, version_compare(ascending[i], ascending[j]), want), "%s %s",
                                  ascending[i], ascending[j]);
                }
        cr_expect(eq(int, version_compare("1.01", "1.1"), 0));
        cr_expect(eq(int, version_compare("0:1", "1"), 0));
        cr_expect(eq(int, version_compare("1-0", "1"), 0));
}

static const char *const none[] = {NULL};

Test(catalogue_releases, a_bare_name_is_its_highest_version)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;

        host_world_add_release(c, "app", "1.10", 1, 100, none);
        host_world_add_release(c, "app", "1.9", 2, 200, none);
        host_world_add_release(c, "app", "1.11~rc1", 3, 50, none);
        host_world_add_release(c, "other", "9", 4, 50, none);
        g_autoptr(ReleaseRecord) r = catalogue_release_resolve(c, "app", NULL);
        cr_expect(eq(str, r->version, "1.11~rc1"));
        g_autoptr(ReleaseRecord) exact = catalogue_release_resolve(c, "app=1.9", NULL);
        cr_expect(eq(str, exact->version, "1.9"));
        cr_expect(eq(ptr, catalogue_release_resolve(c, "app=1.8", &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        g_autoptr(GPtrArray) all = catalogue_release_list(c, NULL, NULL);
        g_autoptr(GString) s = g_string_new(NULL);
        for (guint i = 0; i < all->len; i++)
                g_string_append_printf(s, "%s ", ((ReleaseRecord *)g_ptr_array_index(all, i))->version);
        cr_expect(eq(str, s->str, "1.11~rc1 1.10 1.9 9 "));
}

static char *find(Catalogue *c, const char *a, const char *b)
{
        const char *const paths[] = {a, b, NULL};
        g_autoptr(GError) error = NULL;
        g_autoptr(ReleaseRecord) r = catalogue_release_with_paths(c, paths, &error);

        return r ? g_strconcat(r->name, "=", r->version, NULL) : g_strdup(error->message);
}

Test(catalogue_releases, a_guests_files_are_answered_by_the_newest_release_that_has_them_all)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        const char *const ssl[] = {"usr/bin/openssl", "usr/lib/libssl.so", NULL}, *const both[] = {
                                                                                          "usr/bin/openssl",
                                                                                          "etc/x", NULL};
        const char *const tz[] = {"usr/share/zoneinfo/UTC", NULL};

        host_world_add_release(c, "openssl", "1", 1, 100, ssl);
        host_world_add_release(c, "openssl", "3", 2, 50, ssl); /* highest, although built earlier */
        host_world_add_release(c, "openssl", "4", 3, 60, tz);  /* does not have them */
        host_world_add_release(c, "bundle", "1", 4, 40, both);
        g_autofree char *one = find(c, "usr/bin/openssl", NULL),
                        *two = find(c, "usr/bin/openssl", "usr/lib/libssl.so");
        g_autofree char *three = find(c, "usr/bin/openssl", "etc/x"),
                        *four = find(c, "usr/bin/openssl", "no/such");
        g_autofree char *five = find(c, "etc/x", "usr/lib/libssl.so");
        cr_expect(eq(str, one, "openssl=3"));
        cr_expect(eq(str, two, "openssl=3"));
        cr_expect(eq(str, three, "bundle=1"));
        cr_expect(ne(ptr, strstr(four, "/no/such"), NULL), "%s", four);
        cr_expect(ne(ptr, strstr(five, "no single release"), NULL), "%s", five);
        host_world_add_release(c, "bundle", "2", 5, 51, both); /* now the one that was created last */
        g_autofree char *six = find(c, "usr/bin/openssl", NULL);
        cr_expect(eq(str, six, "bundle=2"));
}

Test(catalogue_releases, one_whose_paths_are_still_written_is_not_seen)
{
        static const char *const paths[] = {"etc/a", "etc/b", NULL}, *const one[] = {"etc/a", NULL};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        ReleaseRecord r = {.name = (char *)"app", .version = (char *)"1", .file = (char *)"f", .digest = {1}};
        g_autoptr(GError) error = NULL;
        gint64 id = catalogue_release_prepare(c, NULL), other = catalogue_release_prepare(c, NULL);
        gboolean more = TRUE;

        cr_assert(id > 0 && other > 0);
        cr_assert(catalogue_release_add_paths(c, id, paths, 1, NULL));
        g_autoptr(GPtrArray) before = catalogue_release_list(c, NULL, NULL);
        cr_expect(eq(u32, before->len, 0));
        cr_expect(eq(ptr, catalogue_release_with_paths(c, one, &error), NULL));
        cr_expect(ne(ptr, strstr(error->message, "has the file /etc/a"), NULL), "%s", error->message);
        cr_assert(catalogue_release_sweep(c, 10, &more, NULL));
        cr_expect(not(more), "what is being written is not swept");
        cr_assert(catalogue_release_add_paths(c, id, paths + 1, 1, NULL));
        cr_assert(catalogue_release_publish(c, id, &r, NULL));
        g_autoptr(ReleaseRecord) found = catalogue_release_with_paths(c, paths, NULL);
        cr_assert(ne(ptr, found, NULL));
        cr_expect(eq(str, found->version, "1"));
        g_autofree char *events = host_world_events(c, 0);
        cr_expect(eq(str, events, "release.imported"));
}

Test(catalogue_releases, a_removed_one_is_gone_at_once_and_swept_in_steps)
{
        static const char *const paths[] = {"a", "b", "c", "d", "e", NULL}, *const one[] = {"a", NULL};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        gboolean more = TRUE;
        guint steps = 0;

        host_world_add_release(c, "app", "1", 1, 1, paths);
        cr_assert(catalogue_release_remove(c, "app", "1", NULL));
        g_autoptr(GPtrArray) left = catalogue_release_list(c, NULL, NULL);
        cr_expect(eq(u32, left->len, 0));
        cr_expect(eq(ptr, catalogue_release_with_paths(c, one, NULL), NULL));
        host_world_add_release(c, "app", "1", 1, 1, one); /* the very same again, before it is swept */
        for (; more; steps++)
                cr_assert(catalogue_release_sweep(c, 2, &more, NULL));
        cr_expect(eq(u32, steps, 4)); /* two, two, the last and the row, nothing */
        g_autoptr(ReleaseRecord) found = catalogue_release_with_paths(c, one, NULL);
        cr_expect(ne(ptr, found, NULL));
}

Test(catalogue_releases, an_import_that_was_cut_off_is_swept_after_the_restart)
{
        static const char *const paths[] = {"a", "b", NULL};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        gboolean more = FALSE;
        gint64 id = catalogue_release_prepare(c, NULL);

        cr_assert(catalogue_release_add_paths(c, id, paths, 2, NULL));
        cr_assert(catalogue_release_abandon(c, 0, NULL));
        cr_assert(catalogue_release_sweep(c, 10, &more, NULL));
        cr_expect(more);
        cr_assert(catalogue_release_sweep(c, 10, &more, NULL));
        cr_expect(not(more));
}

Test(catalogue_releases, a_release_never_changes)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;
        ReleaseRecord again = {.name = "app", .version = "1", .file = "other"};

        host_world_add_release(c, "app", "1", 1, 1, none);
        cr_expect(not(catalogue_release_add(c, &again, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
}

Test(catalogue_releases, one_that_is_being_pushed_stays)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(Jobs) j = jobs_new(&w->env, c);
        g_autoptr(GError) error = NULL;
        const char *const vms[] = {"a", NULL}, *const paths[] = {"etc/x", NULL};
        const struct push_options options = {0};

        host_world_add_vm(c, "a");
        host_world_add_release(c, "app", "1", 1, 1, paths);
        g_autoptr(ReleaseRecord) r = catalogue_release_get(c, "app", "1", NULL);
        g_autofree char *op = push_operation_add(&w->env, c, j, r, vms, &options, NULL);
        cr_assert(ne(ptr, op, NULL));
        cr_expect(not(catalogue_release_remove(c, "app", "1", &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
        cr_expect(not(catalogue_vm_remove(c, "a", NULL)));
        g_autoptr(PushRecord) p = catalogue_push_get(c, op, "a", NULL);
        p->state = PUSH_STATE_CANCELLED;
        cr_assert(catalogue_push_update(c, p, NULL));
        cr_expect(catalogue_release_remove(c, "app", "1", NULL));
        cr_expect(catalogue_vm_remove(c, "a", NULL));
        g_autofree char *gone = find(c, "etc/x", NULL);
        cr_expect(ne(ptr, strstr(gone, "no release"), NULL), "%s", gone);
        /* History stays. */
        g_autoptr(GPtrArray) past = catalogue_push_list_vm(c, "a", 10, NULL);
        cr_expect(eq(u32, past->len, 1));
}
