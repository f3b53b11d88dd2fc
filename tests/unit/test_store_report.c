/* tests/unit/test_store_report.c - what findings come to. */
#include "host-service/store/report.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "common/error.h"
#include "host-service/catalogue/json.h"

TestSuite(store_report, .timeout = 60);

static char app[] = "app", one[] = "1";
static const ReleaseRecord release = {.id = 7, .name = app, .version = one};

static GPtrArray *list(void)
{
        return g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
}

Test(store_report, every_kind_has_a_name_and_something_to_do)
{
        for (guint i = 0; i < FINDING_MAX; i++) {
                g_autoptr(Finding) f = finding_new((FindingKind)i, NULL, NULL, "text");
                g_autoptr(JsonObject) o = finding_to_json(f, NULL);

                cr_expect(gt(sz, strlen(finding_name((FindingKind)i)), 0));
                cr_expect(gt(sz, strlen(json_object_get_string_member(o, "action")), 20), "%u", i);
        }
        cr_expect(eq(str, (char *)finding_name(FINDING_MAX), "unknown"));
}

Test(store_report, left_over_files_are_no_error_and_a_lost_signer_is_the_lesser_one)
{
        g_autoptr(GPtrArray) l = list();

        cr_expect(eq(ptr, findings_error(l), NULL));
        g_ptr_array_add(l, finding_new(FINDING_LEFT_OVER, NULL, "x", "text"));
        cr_expect(eq(ptr, findings_error(l), NULL));
        g_ptr_array_add(l, finding_new(FINDING_PACK_UNTRUSTED, &release, "f", "unknown key"));
        g_autoptr(GError) lesser = findings_error(l);
        cr_expect(g_error_matches(lesser, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
        g_ptr_array_add(l, finding_new(FINDING_PACK_MISSING, &release, "f", "no file"));
        g_autoptr(GError) worse = findings_error(l);
        cr_expect(g_error_matches(worse, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        cr_expect(eq(str, worse->message, "the store is not sound: 2 findings; the first: app 1: no file"));
}

Test(store_report, a_finding_names_the_vms_of_its_release_only)
{
        char web[] = "web-1", db[] = "db-1";
        ReleaseUser on = {7, RELEASE_USE_ON, web}, other = {8, RELEASE_USE_ON, db};
        g_autoptr(GPtrArray) users = g_ptr_array_new();
        g_autoptr(Finding) f = finding_new(FINDING_PACK_DAMAGED, &release, "f", "a byte"),
                           none = finding_new(FINDING_LEFT_OVER, NULL, "x", "text");

        g_ptr_array_add(users, &on);
        g_ptr_array_add(users, &other);
        g_autoptr(JsonObject) o = finding_to_json(f, users), n = finding_to_json(none, users);
        JsonArray *vms = json_object_get_array_member(o, "vms");
        cr_assert(eq(u32, json_array_get_length(vms), 1));
        cr_expect(eq(str, (char *)json_object_get_string_member(json_array_get_object_element(vms, 0), "vm"),
                     "web-1"));
        cr_expect(eq(u32, json_array_get_length(json_object_get_array_member(n, "vms")), 0));
}
