/* tests/unit/test_hypervisor_vm_disks.c - QEMU's drives, read. */
#include "host-service/hypervisor/vm_disks.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(vm_disks, .timeout = 30);

static GPtrArray *read_answer(const char *json)
{
        g_autoptr(JsonNode) node = json_from_string(json, NULL);

        return vm_disks_of(node);
}

/* What QEMU 7.2 says of a -drive, a -blockdev, an empty CD-ROM and one with an image; shortened. */
static const char drives[] =
        "[{\"device\":\"virtio0\",\"qdev\":\"/machine/peripheral-anon/device[0]/"
        "virtio-backend\",\"removable\":false,"
        "\"inserted\":{\"node-name\":\"#block146\",\"drv\":\"qcow2\",\"ro\":false,"
        "\"image\":"
        "{\"virtual-size\":67108864,\"filename\":\"/i/w.qcow2\",\"format\":\"qcow2\",\"backing-image\":"
        "{\"virtual-size\":67108864,\"filename\":\"/i/base.qcow2\",\"format\":\"qcow2\"}}}},"
        "{\"device\":\"\",\"qdev\":\"v0\",\"removable\":false,\"inserted\":{\"node-name\":\"d0\",\"drv\":"
        "\"raw\",\"ro\":true,"
        "\"image\":{\"virtual-size\":512,\"filename\":\"json:{\\\"driver\\\":\\\"raw\\\",\\\"file\\\":{"
        "\\\"driver\\\":\\\"file\\\","
        "\\\"filename\\\":\\\"/i/r.img\\\"}}\"}}},"
        "{\"device\":\"ide1-cd0\",\"removable\":true},"
        "{\"device\":\"cd\",\"removable\":true,\"inserted\":{\"node-name\":\"c\",\"drv\":\"raw\",\"ro\":true,"
        "\"image\":{\"virtual-size\":512,\"filename\":\"nbd:unix:/x\"}}}]";

Test(vm_disks, each_drive_with_an_image_is_read)
{
        g_autoptr(GPtrArray) all = read_answer(drives);
        const struct vm_disk *d;
        const struct vm_image *base;

        cr_assert(eq(u32, all->len, 3));
        d = all->pdata[0];
        cr_expect(eq(str, d->device, "virtio0"));
        cr_expect(eq(str, d->node, "#block146"));
        cr_expect(eq(str, d->format, "qcow2"));
        cr_expect(eq(str, d->file, "/i/w.qcow2"));
        cr_assert(eq(u32, d->below->len, 1));
        base = d->below->pdata[0];
        cr_expect(eq(str, base->file, "/i/base.qcow2"));
        cr_expect(eq(str, base->format, "qcow2"));
        cr_expect(eq(u64, d->size_bytes, 67108864));
        cr_expect(d->writable && !d->removable);
        d = all->pdata[1];
        cr_expect(eq(str, d->device, "v0"));
        cr_expect(eq(str, d->file, "/i/r.img"));
        cr_expect(eq(u32, d->below->len, 0));
        cr_expect(not(d->writable));
        d = all->pdata[2];
        cr_expect(d->file == NULL && d->removable);
}

Test(vm_disks, what_is_none_is_passed_over)
{
        g_autoptr(GPtrArray) odd = read_answer(
                "[1,null,{},{\"inserted\":7},{\"inserted\":{}},{\"inserted\":{\"node-name\":\"x\",\"image\":["
                "]}},"
                "{\"inserted\":{\"node-name\":\"x\",\"image\":{\"virtual-size\":-1}}},"
                "{\"inserted\":{\"node-name\":\"x\",\"image\":{\"virtual-size\":1,\"filename\":3}}}]");

        const struct vm_disk *d;

        cr_assert(eq(u32, odd->len, 1));
        d = odd->pdata[0];
        cr_expect(d->file == NULL);
        cr_expect(eq(str, d->device, "x"));
        cr_expect(read_answer("{}") == NULL);
        cr_expect(vm_disks_of(NULL) == NULL);
}

static void expect_file(const char *name, const char *want)
{
        g_autofree char *got = vm_disk_file_of(name);

        if (want)
                cr_expect(got && g_str_equal(got, want), "%s: %s", name, got);
        else
                cr_expect(got == NULL, "%s", name);
}

Test(vm_disks, a_name_means_a_file_or_none)
{
        g_autofree char *deep = g_strnfill(100000, '['), *less = g_strnfill(1000, '[');
        g_autofree char *deep_name = g_strconcat("json:", deep, NULL),
                        *less_name = g_strconcat("json:", less, NULL);

        expect_file(NULL, NULL);
        expect_file("relative", NULL);
        expect_file("/a", "/a");
        expect_file("json:{\"driver\":\"file\",\"filename\":\"/b\"}", "/b");
        expect_file("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"/"
                    "c\"},\"backing\":null}",
                    "/c");
        expect_file("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"nbd\",\"filename\":\"/c\"}}", NULL);
        expect_file("json:{\"driver\":\"file\",\"filename\":\"c\"}", NULL);
        expect_file("json:{\"driver\":7}", NULL);
        expect_file(
                "json:{\"driver\":\"raw\",\"offset\":512,\"file\":{\"driver\":\"file\",\"filename\":\"/c\"}}",
                NULL);
        expect_file("json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/"
                    "c\",\"pr-manager\":\"x\"}}",
                    NULL);
        expect_file("json:nonsense", NULL);
        expect_file("json:", NULL);
        expect_file(deep_name, NULL);
        expect_file(less_name, NULL);
}

Test(vm_disks, nodes_are_found_by_file_and_format)
{
        g_autoptr(JsonNode) nodes =
                json_from_string("[{\"node-name\":\"f\",\"drv\":\"file\",\"file\":\"/i/"
                                 "b\"},3,{\"drv\":\"qcow2\",\"file\":\"/i/b\"},"
                                 "{\"node-name\":\"q\",\"drv\":\"qcow2\",\"file\":\"/i/b\"}]",
                                 NULL);
        g_autofree char *any = vm_disk_node_of(nodes, "/i/b", NULL),
                        *raw = vm_disk_node_of(nodes, "/i/b", "raw");
        g_autofree char *file = vm_disk_node_of(nodes, "/i/b", "file"),
                        *none = vm_disk_node_of(NULL, "/i/b", NULL);

        cr_expect(eq(str, any, "q"));
        cr_expect(eq(str, file, "f"));
        cr_expect(raw == NULL && none == NULL);
}
