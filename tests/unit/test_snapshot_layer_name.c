/* tests/unit/test_snapshot_layer_name.c - layers' names are made and recognised, and nothing else is. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/snapshot/layer_name.h"

TestSuite(layer_name, .timeout = 10);

#define ID "01HF7YBKBWB2NZVZDMR1TRA8XA"

Test(layer_name, is_recognised_as_it_was_made)
{
        for (guint disk = 0; disk < LAYER_DISKS_MAX; disk++) {
                g_autofree char *name = layer_name_new("web-1.qcow2", ID, disk, NULL);
                struct layer_name n;

                cr_assert(layer_name_parse(name, "web-1.qcow2", &n), "%s", name);
                cr_expect(eq(str, n.id, ID));
                cr_expect(eq(u32, n.disk, disk));
                cr_expect(not(layer_name_parse(name, "web-1", &n)), "of another disk");
                g_autofree char *base = layer_name_base(name);
                cr_expect(eq(str, base, "web-1.qcow2"));
                cr_expect(not(layer_name_parse(name, "web-1.qcow2.moult", &n)));
        }
}

Test(layer_name, anything_else_is_none)
{
        static const char *const others[] = {
                "",
                "d",
                "d.moult-",
                "d.moult-" ID,
                "d.moult-" ID "-0",
                "d.moult-" ID "-.layer",
                "d.moult-" ID "-00.layer",
                "d.moult-" ID "-64.layer",
                "d.moult-" ID "-0x.layer",
                "d.moult-" ID "--1.layer",
                "d.moult-" ID "-0.layer.bak",
                "d.moult-" ID "0.layer",
                "d.moult-01HF7YBKBWB2NZVZDMR1TRA8X-0.layer",
                "d.moult-01HF7YBKBWB2NZVZDMR1TRA8XI-0.layer",
                "e.moult-" ID "-0.layer",
        };
        struct layer_name n;

        for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
                cr_expect(not(layer_name_parse(others[i], "d", &n)), "%s", others[i]);
        cr_expect(layer_name_base("d.qcow2") == NULL);
        cr_expect(layer_name_base(".moult-" ID "-0.layer") == NULL);
        cr_expect(layer_name_base("d.moult-" ID "-0.layer.bak") == NULL);
}

Test(layer_name, that_no_file_could_have_is_refused)
{
        g_autofree char *fits = g_strnfill(255 - 7 - 26 - 2 - 6, 'x');
        g_autofree char *long_one = g_strconcat(fits, "x", NULL);
        g_autofree char *name = layer_name_new(fits, ID, 0, NULL);
        g_autoptr(GError) error = NULL;

        cr_assert(name != NULL);
        cr_expect(eq(sz, strlen(name), 255));
        cr_expect(layer_name_new(long_one, ID, 0, &error) == NULL);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(layer_name, of_the_new_top_over_a_merged_file_is_no_operation_s)
{
        static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        g_autofree char *merged = layer_name_new("d", ID, 3, NULL), *top = layer_name_of_top(merged);
        g_autofree char *again = layer_name_of_top(merged);
        struct layer_name n;

        cr_assert(layer_name_parse(top, "d", &n), "%s", top);
        cr_expect(eq(u32, n.disk, 3));
        cr_expect(ne(str, n.id, ID));
        cr_expect(strncmp(n.id, ID, 10) == 0, "of the same time");
        cr_expect(strchr(digits, ID[10]) - digits < 16, "as operations' ids are made");
        cr_expect(strchr(digits, n.id[10]) - digits >= 16);
        cr_expect(eq(str, top, again), "whoever comes back finds it");
        cr_expect(layer_name_of_top("d.qcow2") == NULL);
}
