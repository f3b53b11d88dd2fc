/* tests/unit/test_release_per_vm_list.c - the operator's list: what it matches, and what it says of a bad
 * line. */
#include "host-service/release/per_vm_list.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/tempdir.h"

TestSuite(release_per_vm_list, .timeout = 60);

static gboolean reason(const PerVmList *l, const char *path)
{
        return per_vm_list_reason(l, path, NULL) != NULL;
}

Test(release_per_vm_list, the_one_that_comes_with_moult_knows_identities)
{
        g_autoptr(PerVmList) l = per_vm_list_builtin();
        enum per_vm_class class = PER_VM_NOISE;

        cr_expect(ne(ptr, (void *)per_vm_list_reason(l, "etc/machine-id", &class), NULL));
        cr_expect(eq(int, class, PER_VM_IDENTITY));
        cr_expect(reason(l, "etc/ssh/ssh_host_ed25519_key"));
        cr_expect(reason(l, "var/lib/moult/journal"));
        cr_expect(reason(l, "var/.moult/7/0"));
        cr_expect(not(reason(l, "etc/ssh/sshd_config")));
        cr_expect(not(reason(l, "usr/share/etc/machine-id")));
        cr_expect(not(reason(l, "etc/machine-id.d/x")));
}

Test(release_per_vm_list, the_one_that_comes_with_moult_knows_noise)
{
        g_autoptr(PerVmList) l = per_vm_list_builtin();
        enum per_vm_class class = PER_VM_IDENTITY;

        cr_expect(ne(ptr, (void *)per_vm_list_reason(l, "var/log/nginx/access.log", &class), NULL));
        cr_expect(eq(int, class, PER_VM_NOISE));
        cr_expect(eq(ptr, (void *)per_vm_list_directory_reason(l, "var/log/nginx"),
                     NULL)); /* a service needs it */
        cr_expect(ne(ptr, (void *)per_vm_list_directory_reason(l, "proc"), NULL));
        cr_expect(ne(ptr, (void *)per_vm_list_directory_reason(l, "var/.moult"), NULL));
        cr_expect(not(reason(l, "var/lib/dpkg/status")));
        cr_expect(not(reason(l, "usr/bin/proc")));
}

static PerVmList *parse(const char *text, GError **error)
{
        return per_vm_list_parse(text, strlen(text), "LIST", error);
}

Test(release_per_vm_list, a_line_is_a_pattern_and_a_reason)
{
        g_autoptr(PerVmList) l =
                parse("# comment\n\n[noise]\n  srv/*.tmp\t is  rubbish \nsrv/cache/\n", NULL);

        cr_assert(l != NULL);
        cr_expect(eq(str, (char *)per_vm_list_reason(l, "srv/a/b.tmp", NULL), "is  rubbish"));
        cr_expect(ne(ptr, (void *)per_vm_list_directory_reason(l, "srv/cache"), NULL));
        cr_expect(eq(ptr, (void *)per_vm_list_directory_reason(l, "srv/a/b.tmp"), NULL));
        cr_expect(not(reason(l, "srv/cache")));
}

static void refused(const char *text, const char *why)
{
        g_autoptr(GError) error = NULL;

        cr_expect(eq(ptr, parse(text, &error), NULL));
        cr_assert(error != NULL, "%s was taken", text);
        cr_expect(strstr(error->message, why) != NULL, "%s", error->message);
        cr_expect(eq(int, error->code, MOULT_ERROR_REFUSED));
}

Test(release_per_vm_list, a_bad_line_is_named)
{
        refused("etc/x\n", "LIST, line 1: a pattern before");
        refused("[noise]\n[nosie]\n", "LIST, line 2: no such section");
        refused("[noise]\n/etc/x\n", "without the leading slash");
}

Test(release_per_vm_list, no_pattern_takes_everything_away_by_accident)
{
        refused("[noise]\n/\n", "line 2");
}

Test(release_per_vm_list, a_file_that_was_named_must_be_there)
{
        g_autoptr(GError) error = NULL;

        cr_expect(eq(ptr, per_vm_list_load("/nonexistent/list", &error), NULL));
        cr_assert(error != NULL);
        cr_expect(strstr(error->message, "/nonexistent/list") != NULL, "%s", error->message);
}
