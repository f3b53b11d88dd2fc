/* tests/unit/test_layers_snapshot_manifest.c - manifests of restore points: there and back, what is refused,
 * and that one is put only when its layers are there. */
#include "host-service/layers/snapshot_manifest.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <utime.h>

#include "common/error.h"
#include "tests/support/layer_lab.h"

TestSuite(snapshot_manifest, .timeout = 60);

#define ID "01JDX7000000000000000000AB"

static SnapshotManifest *sample(void)
{
        SnapshotManifest *m = snapshot_manifest_new();
        const uint8_t digest[DIGEST_SIZE] = {1, 2, 3}, other[DIGEST_SIZE] = {4};
        struct manifest_disk *d;

        m->vm = g_strdup("web-1");
        m->id = g_strdup(ID);
        m->name = g_strdup("before-upgrade");
        m->taken_us = G_GINT64_CONSTANT(1700000000123456);
        m->grade = GRADE_FILESYSTEM;
        m->why = g_strdup("there are no \"hooks\"\n");
        m->frozen_us = 12345;
        d = snapshot_manifest_add_disk(m, 0, "virtio0", "/vms/web-1.qcow2", 1 << 30);
        manifest_disk_add_layer(d, "base_1", digest);
        manifest_disk_add_layer(d, ID "-0", other);
        d = snapshot_manifest_add_disk(m, 2, "virtio2",
                                       "/vms/w\xc3\xa9"
                                       "b.qcow2",
                                       512);
        manifest_disk_add_layer(d, ID "-2", digest);
        return m;
}

static char *text_of(const SnapshotManifest *m)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) bytes = snapshot_manifest_encode(m, &error);
        gsize len;

        cr_assert(ne(ptr, bytes, NULL), "%s", error ? error->message : "");
        const char *text = g_bytes_get_data(bytes, &len);
        return g_strndup(text, len);
}

Test(snapshot_manifest, a_manifest_comes_back_as_it_was)
{
        g_autoptr(SnapshotManifest) m = sample(), back = NULL;
        g_autofree char *text = text_of(m), *why = snapshot_manifest_parse(text, strlen(text), &back),
                        *again = NULL;

        cr_assert(eq(ptr, why, NULL), "%s", why ? why : "");
        again = text_of(back);
        cr_expect(eq(str, text, again));
        cr_expect(eq(i64, back->taken_us, m->taken_us));
        cr_expect(eq(str, back->why, m->why));
        cr_assert(eq(u32, back->disks->len, 2));
        const struct manifest_disk *d = back->disks->pdata[0];
        cr_assert(eq(u32, d->layers->len, 2));
        cr_expect(eq(str, g_array_index(d->layers, struct manifest_layer, 1).id, ID "-0"));
        cr_expect(eq(u8, g_array_index(d->layers, struct manifest_layer, 0).map_digest[2], 3));
}

/* @find is replaced once; the result is refused. */
static void refuses(const char *find, const char *with)
{
        g_autoptr(SnapshotManifest) m = sample();
        g_autofree char *text = text_of(m), *changed = NULL, *why = NULL;
        char *at = strstr(text, find);
        SnapshotManifest *back = NULL;

        cr_assert(ne(ptr, at, NULL), "%s", find);
        *at = 0;
        changed = g_strconcat(text, with, at + strlen(find), NULL);
        why = snapshot_manifest_parse(changed, strlen(changed), &back);
        cr_expect(ne(ptr, why, NULL), "%s", changed);
        snapshot_manifest_free(back);
}

Test(snapshot_manifest, what_moult_does_not_write_is_refused)
{
        refuses("\"format\":1", "\"format\":2");
        refuses("\"format\":1", "\"format\":1,\"more\":1");
        refuses("\"hooks\":0,", "");
        refuses("\"web-1\"", "\"../web-1\"");
        refuses("\"web-1\"", "\"..\"");
        refuses("\"web-1\"", "1");
        refuses("\"before-upgrade\"", "\"before/upgrade\"");
        refuses(ID "\"", "../../x\"");
        refuses("\"filesystem\"", "\"best\"");
        refuses("2023-11-14T22:13:20.123456Z", "yesterday");
        refuses("\"frozen_us\":12345", "\"frozen_us\":-1");
        refuses("\"number\":2", "\"number\":0");
        refuses("\"number\":2", "\"number\":64");
        refuses("\"/vms/web-1.qcow2\"", "\"vms/web-1.qcow2\"");
        refuses("\"size_bytes\":512", "\"size_bytes\":513");
        refuses("\"size_bytes\":512", "\"size_bytes\":0");
        refuses("\"base_1\"", "\"../base\"");
        refuses("\"map\":\"0102", "\"map\":\"01");
        refuses("\"map\":\"0102", "\"map\":\"010g");
        refuses("{\"format\"", "[{\"format\"");
        refuses("\"layers\":[{", "\"layers\":[7,{");
        refuses("\"layers\":[{", "\"layers\":[],\"x\":[{");
}

Test(snapshot_manifest, what_would_be_refused_is_not_written)
{
        g_autoptr(SnapshotManifest) m = sample();
        g_autoptr(GError) error = NULL;

        g_ptr_array_set_size(m->disks, 0);
        cr_expect(eq(ptr, snapshot_manifest_encode(m, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(snapshot_manifest, a_key_has_a_vm_and_an_id_or_is_none)
{
        static const char *const bad[] = {"snapshots/web-1/x.json",        "snapshots/../" ID ".json",
                                          "snapshots/web-1/a/" ID ".json", "snapshots/" ID ".json",
                                          "snapshots/web-1/" ID,           "layers/web-1/" ID ".json",
                                          "snapshots//" ID ".json"};
        g_autofree char *key = snapshot_key("web-1", ID), *vm = NULL, *id = NULL;

        cr_expect(eq(str, key, "snapshots/web-1/" ID ".json"));
        cr_assert(snapshot_key_parse(key, &vm, &id));
        cr_expect(eq(str, vm, "web-1"));
        cr_expect(eq(str, id, ID));
        for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
                cr_expect(not(snapshot_key_parse(bad[i], &vm, &id)), "%s", bad[i]);
}

static void put_layer(LayerLab *l, const char *id, gboolean old)
{
        g_autofree char *key = layer_key(id), *path = g_build_filename(l->dir, key, NULL);
        g_autoptr(GBytes) bytes = g_bytes_new_static("map", 3);
        const struct utimbuf then = {1000000000, 1000000000};

        cr_assert(l->store->inner->ops->put(l->store->inner, key, bytes, NULL, NULL));
        if (old)
                cr_assert(eq(int, utime(path, &then), 0));
}

Test(snapshot_manifest, it_is_put_only_when_all_its_layers_are_there_and_makes_them_young)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(SnapshotManifest) m = sample(), back = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(l->dir, "layers/base_1.layer", NULL);
        struct stat st;

        put_layer(l, "base_1", TRUE);
        put_layer(l, ID "-0", FALSE);
        cr_expect(not(snapshot_manifest_put(&l->store->base, m, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        g_autoptr(GPtrArray) none = layer_lab_keys(l, "snapshots/");
        cr_expect(eq(u32, none->len, 0));

        put_layer(l, ID "-2", FALSE);
        g_clear_error(&error);
        cr_assert(snapshot_manifest_put(&l->store->base, m, NULL, &error), "%s", error ? error->message : "");
        cr_assert(eq(int, stat(path, &st), 0));
        cr_expect(ne(i64, st.st_mtime, 1000000000));
        back = snapshot_manifest_get(&l->store->base, "web-1", ID, NULL, &error);
        cr_assert(ne(ptr, back, NULL), "%s", error ? error->message : "");
        cr_expect(eq(str, back->name, "before-upgrade"));
}

Test(snapshot_manifest, what_does_not_come_back_as_it_was_is_no_success)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(SnapshotManifest) m = sample();
        g_autoptr(GError) error = NULL;

        put_layer(l, "base_1", FALSE);
        put_layer(l, ID "-0", FALSE);
        put_layer(l, ID "-2", FALSE);
        l->store->garble = "snapshots/";
        cr_expect(not(snapshot_manifest_put(&l->store->base, m, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
}

Test(snapshot_manifest, one_that_lies_under_another_name_is_refused)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(SnapshotManifest) m = sample();
        g_autoptr(GBytes) bytes = snapshot_manifest_encode(m, NULL);
        g_autoptr(GError) error = NULL;

        cr_assert(
                l->store->inner->ops->put(l->store->inner, "snapshots/web-2/" ID ".json", bytes, NULL, NULL));
        cr_expect(eq(ptr, snapshot_manifest_get(&l->store->base, "web-2", ID, NULL, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
}
