/* tests/unit/test_hypervisor_backing_files.c - QEMU's list of block nodes, read. */
#include "host-service/hypervisor/backing_files.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(backing_files, .timeout = 30);

static char *read_answer(const char *json)
{
        g_autoptr(JsonNode) node = json_from_string(json, NULL);
        g_auto(GStrv) files = backing_files_of(node);

        return files ? g_strjoinv(",", files) : NULL;
}

/* What QEMU 7.2 says of one disk of three layers, beside a CD-ROM; shortened. */
Test(backing_files, every_layer_but_the_top_is_named_once)
{
        g_autofree char *files = read_answer(
                "[{\"drv\":\"qcow2\",\"file\":\"/i/base.qcow2\",\"backing_file_depth\":0},"
                "{\"drv\":\"file\",\"file\":\"/i/base.qcow2\",\"backing_file_depth\":0},"
                "{\"drv\":\"qcow2\",\"file\":\"/i/mid.qcow2\",\"backing_file\":\"/i/base.qcow2\"},"
                "{\"drv\":\"qcow2\",\"file\":\"/i/top.qcow2\",\"backing_file\":\"/i/mid.qcow2\"},"
                "{\"drv\":\"qcow2\",\"file\":\"/i/two.qcow2\",\"backing_file\":\"/i/base.qcow2\"},"
                "{\"drv\":\"raw\",\"ro\":true,\"file\":\"/i/cd.iso\"}]");

        cr_expect(eq(str, files, "/i/base.qcow2,/i/mid.qcow2"));
}

Test(backing_files, what_is_no_such_answer_is_passed_over)
{
        g_autofree char *none = read_answer("[]");
        g_autofree char *odd = read_answer("[1,null,{},{\"backing_file\":7},{\"backing_file\":\"\"}]");

        cr_expect(eq(str, none, ""));
        cr_expect(eq(str, odd, ""));
        cr_expect(eq(ptr, read_answer("{\"backing_file\":\"x\"}"), NULL));
        cr_expect(eq(ptr, backing_files_of(NULL), NULL));
}

Test(backing_files, the_list_has_an_end)
{
        g_autoptr(GString) s = g_string_new("[");

        for (guint i = 0; i < 2 * BACKING_FILES_MAX; i++)
                g_string_append_printf(s, "%s{\"backing_file\":\"%u\"}", i ? "," : "", i);
        g_string_append_c(s, ']');
        g_autoptr(JsonNode) node = json_from_string(s->str, NULL);
        g_auto(GStrv) files = backing_files_of(node);
        cr_expect(eq(u32, g_strv_length(files), BACKING_FILES_MAX));
}
