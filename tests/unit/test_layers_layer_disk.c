/* tests/unit/test_layers_layer_disk.c - layers of real images, through qemu-nbd, into the store and back. */
#include "host-service/layers/layer_disk.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/libcrypto.h"
#include "tests/support/disk_images.h"
#include "tests/support/layer_lab.h"

TestSuite(layer_disk, .init = libcrypto_start, .timeout = 110);

#define COMMANDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void upload(LayerLab *l, const char *id, struct layer_disk_reader *r, struct layer_disk_reader *parent)
{
        l->over = FALSE;
        layer_upload_start(&l->world->env, &l->store->base, id, &r->reader, parent ? &parent->reader : NULL,
                           NULL, layer_lab_uploaded, l);
        layer_lab_wait(l);
        cr_assert(l->error == NULL, "%s", l->error ? l->error->message : "");
}

static void on_restored(const struct layer_restore_result *result, const GError *error, gpointer lab)
{
        LayerLab *l = lab;

        l->over = TRUE;
        if (error)
                l->error = g_error_copy(error);
}

static void restore(LayerLab *l, const struct layer_ref *refs, guint n, Disk *to)
{
        struct layer_disk_writer w;

        layer_disk_writer_init(&w, to);
        l->over = FALSE;
        layer_restore_start(&l->world->env, &l->store->base, refs, n, &w.writer, NULL, on_restored, l);
        layer_lab_wait(l);
        cr_assert(l->error == NULL, "%s", l->error ? l->error->message : "");
}

Test(layer_disk, a_chain_of_images_comes_back_as_one_image)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *base = image_make(t, "base.qcow2", "8M", NULL),
                        *layer = image_make(t, "layer.qcow2", "8M", NULL),
                        *out = image_make(t, "out.qcow2", "8M", NULL);
        const struct layer_ref refs[] = {{"layer", NULL}, {"base", NULL}};
        struct layer_disk_reader of_layer, of_base, parent;
        guint64 difference = 0;

        image_io(base, "qcow2", COMMANDS("write -P 1 0 1M", "write -P 2 1M 1M", "write -P 3 6M 300k"));
        /* one cluster as QEMU copies it, with 4 KiB that are new; a discard; something behind */
        image_io(layer, "qcow2",
                 COMMANDS("write -P 1 0 64k", "write -P 9 8k 4k", "write -z 1M 128k", "write -P 4 7M 64k"));
        g_autoptr(Disk) d = disk_must_open(layer, base, FALSE), below = disk_must_open(base, NULL, FALSE),
                        again = disk_must_open(base, NULL, FALSE);
        layer_disk_reader_init(&of_layer, d, 1);
        layer_disk_reader_init(&of_base, below, DISK_ALL);
        layer_disk_reader_init(&parent, again, DISK_ALL);
        upload(l, "base", &of_base, NULL);
        upload(l, "layer", &of_layer, &parent);
        cr_expect(eq(u64, l->up.data_bytes, 4096 + 65536), "the rest of the copied cluster is the parent's");

        Disk *to = disk_must_open(out, NULL, TRUE);
        restore(l, refs, 2, to);
        cr_assert(disk_close(to, NULL));
        g_autoptr(Disk) back = disk_must_open(out, NULL, FALSE);
        cr_assert(disk_compare(d, back, NULL, &difference, NULL, NULL, NULL));
        cr_expect(eq(u64, difference, DISK_SAME));
        layer_disk_reader_clear(&of_layer);
        layer_disk_reader_clear(&of_base);
        layer_disk_reader_clear(&parent);
}
