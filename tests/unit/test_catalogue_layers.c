/* tests/unit/test_catalogue_layers.c - layers: rows that say what stands on what, and where its content is.
 */
#include "host-service/catalogue/layers.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/host_world.h"

TestSuite(catalogue_layers, .timeout = 60);

static void add(Catalogue *c, const char *id, const char *parent, const char *file)
{
        LayerRecord r = {.id = (char *)id,
                         .vm = g_str_has_prefix(id, "base") ? NULL : (char *)"web",
                         .parent = (char *)parent,
                         .file = (char *)file,
                         .file_on = (char *)parent,
                         .format = (char *)"qcow2",
                         .size_bytes = 7,
                         .below = g_str_has_prefix(id, "base") ? (char *)"[]" : NULL,
                         .identity = g_str_has_prefix(id, "base") ? (char *)"1:2" : NULL};
        g_autoptr(GError) error = NULL;

        cr_assert(catalogue_layer_add(c, &r, &error), "%s", error ? error->message : "");
}

static char *line(Catalogue *c, const char *id)
{
        g_autoptr(GPtrArray) all = catalogue_layer_line(c, id, NULL);
        GString *s = g_string_new(NULL);

        for (guint i = 0; all && i < all->len; i++)
                g_string_append_printf(s, "%s%s", i ? " " : "", ((LayerRecord *)all->pdata[i])->id);
        return g_string_free(s, FALSE);
}

Test(catalogue_layers, a_line_goes_down_to_the_base)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add(c, "base-1", NULL, "/golden");
        add(c, "A-0", "base-1", "/d/a");
        add(c, "B-0", "A-0", "/d/b");
        add(c, "C-0", "A-0", "/d/c");
        g_autofree char *b = line(c, "B-0");
        cr_expect(eq(str, b, (char *)"B-0 A-0 base-1"));
        add(c, "D-0", "nowhere", "/d/d");
        g_autoptr(GError) error = NULL;
        cr_expect(eq(ptr, catalogue_layer_line(c, "D-0", &error), NULL));
        cr_expect(eq(int, error->code, MOULT_ERROR_NOT_FOUND));
}

Test(catalogue_layers, a_file_is_found_by_its_newest_layer_once_that_is_sealed)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add(c, "base-1", NULL, "/golden");
        add(c, "A-0", "base-1", "/d/a");
        cr_expect(eq(ptr, catalogue_layer_of_file(c, "/d/a", NULL), NULL));
        cr_assert(catalogue_layer_seal(c, "A-0", 5, NULL));
        g_autoptr(LayerRecord) a = catalogue_layer_of_file(c, "/d/a", NULL);
        cr_assert(ne(ptr, a, NULL));
        cr_expect(eq(str, a->id, (char *)"A-0"));
        cr_expect(eq(ptr, catalogue_layer_of_file(c, "/golden", NULL), NULL), "a base is no layer");
        g_autoptr(LayerRecord) base = catalogue_layer_base(c, "/golden", "[]", "1:2", NULL);
        cr_assert(ne(ptr, base, NULL));
        cr_expect(layer_record_is_base(base));
        cr_expect(eq(ptr, catalogue_layer_base(c, "/golden", "[]", "1:3", NULL), NULL));
        cr_assert(catalogue_layer_set_file(c, "A-0", NULL, NULL, "qcow2", NULL));
        cr_expect(eq(ptr, catalogue_layer_of_file(c, "/d/a", NULL), NULL));
}

Test(catalogue_layers, what_is_over_is_not_changed)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add(c, "A-0", NULL, "/d/a");
        add(c, "B-0", "A-0", "/d/b");
        cr_expect(catalogue_layer_drop(c, "B-0", NULL));
        cr_expect(catalogue_layer_seal(c, "A-0", 5, NULL));
        cr_expect(not(catalogue_layer_seal(c, "A-0", 6, NULL)));
        cr_expect(not(catalogue_layer_drop(c, "A-0", NULL)), "a sealed layer stays");
        add(c, "B-0", "A-0", "/d/b");
        static const guint8 digest[DIGEST_SIZE] = {9};
        cr_expect(catalogue_layer_set_uploaded(c, "A-0", 7, digest, 100, NULL));
        cr_expect(not(catalogue_layer_fold(c, "A-0", "B-0", NULL)), "it is in the store by itself");
        cr_expect(catalogue_layer_seal(c, "B-0", 8, NULL));
        cr_expect(catalogue_layer_fold(c, "B-0", "C-0", NULL));
        g_autoptr(GPtrArray) all = catalogue_layer_list(c, "web", NULL);
        cr_assert(eq(u32, all->len, 2));
        cr_expect(eq(i64, ((LayerRecord *)all->pdata[0])->uploaded_us, 7));
        cr_expect(eq(u8, ((LayerRecord *)all->pdata[0])->map_digest[0], 9));
        cr_expect(eq(str, ((LayerRecord *)all->pdata[1])->folded_into, (char *)"C-0"));
        cr_expect(catalogue_layer_set_uploaded(c, "B-0", 9, digest, 1, NULL), "by itself, too");
        g_autoptr(LayerRecord) b = catalogue_layer_get(c, "B-0", NULL);
        cr_assert(b != NULL);
        cr_expect(eq(i64, b->uploaded_us, 9));
        cr_expect(eq(ptr, b->folded_into, NULL));
}
