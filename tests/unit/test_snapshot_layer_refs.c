/* tests/unit/test_snapshot_layer_refs.c - a layer is told to be unused when its last reader has ended. */
#include "host-service/snapshot/layer_refs.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(layer_refs, .timeout = 10);

static void note(const char *id, gpointer user)
{
        g_string_append_printf(user, "%s ", id);
}

Test(layer_refs, each_layer_is_told_once_when_its_last_reader_ends)
{
        g_autoptr(GString) told = g_string_new(NULL);
        g_autoptr(LayerRefs) r = layer_refs_new(note, told);

        cr_expect(eq(u32, layer_refs_count(r, "a"), 0));
        layer_refs_take(r, "a");
        layer_refs_take(r, "a");
        layer_refs_take(r, "b");
        cr_expect(eq(u32, layer_refs_count(r, "a"), 2));
        layer_refs_drop(r, "a");
        cr_expect(eq(str, told->str, (char *)""));
        layer_refs_drop(r, "b");
        layer_refs_drop(r, "a");
        cr_expect(eq(str, told->str, (char *)"b a "));
        cr_expect(eq(u32, layer_refs_count(r, "a"), 0));
        layer_refs_take(r, "a");
        layer_refs_drop(r, "a");
        cr_expect(eq(str, told->str, (char *)"b a a "));
}
