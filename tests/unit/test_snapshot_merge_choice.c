/* tests/unit/test_snapshot_merge_choice.c - which two files of a VM's disks become one, and which never. */
#include "host-service/snapshot/merge_choice.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/layers.h"
#include "tests/support/host_world.h"

TestSuite(merge_choice, .timeout = 60);

#define A           "01HF7YBKBWB2NZVZDMR1TRA8XA"
#define B           "01HF7YBKBWB2NZVZDMR1TRA8XB"
#define T           "01HF7YBKBWB2NZVZDMR1TRA8XC"
#define NEW         "01HF7YBKBWB2NZVZDMR1TRA8XD"
#define FILE_OF(id) "/d/w.qcow2.moult-" id "-0.layer"

static void add_layer(Catalogue *c, const char *id, const char *on, const char *file)
{
        LayerRecord r = {.id = (char *)id,
                         .vm = g_str_has_prefix(id, "base") ? NULL : (char *)"web",
                         .parent = (char *)on,
                         .file = (char *)file,
                         .file_on = (char *)on,
                         .format = (char *)"qcow2",
                         .sealed_us = 1};

        cr_assert(catalogue_layer_add(c, &r, NULL));
}

static void image_free(gpointer data)
{
        struct vm_image *i = data;

        g_free(i->file);
        g_free(i->format);
        g_free(i);
}

/* The last one is NULL. */
static struct vm_disk *add_disk(GPtrArray *all, const char *const *files)
{
        struct vm_disk *d = g_new0(struct vm_disk, 1);

        d->device = g_strdup("disk0");
        d->format = g_strdup("qcow2");
        d->file = g_strdup(files[0]);
        d->writable = TRUE;
        d->below = g_ptr_array_new_with_free_func(image_free);
        for (guint i = 1; files[i]; i++) {
                struct vm_image *image = g_new0(struct vm_image, 1);

                image->file = g_strdup(files[i]);
                image->format = g_strdup("qcow2");
                g_ptr_array_add(d->below, image);
        }
        g_ptr_array_add(all, d);
        return d;
}

static const char *const usual[] = {FILE_OF(T), FILE_OF(B), FILE_OF(A), "/golden", NULL};

static void add_usual(Catalogue *c)
{
        add_layer(c, "base-1", NULL, "/golden");
        add_layer(c, A "-0", "base-1", FILE_OF(A));
        add_layer(c, B "-0", A "-0", FILE_OF(B));
}

static MergeRecord *choose(Catalogue *c, const char *vm, const char *const *files, MergeWhich which,
                           GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)vm_disk_free);
        const struct vm_disk *d;

        add_disk(all, files);
        return merge_choice_make(c, vm, all, which, NEW, &d, error);
}

Test(merge_choice, the_two_below_the_top_become_one_over_what_is_below)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_usual(c);
        g_autoptr(MergeRecord) r = choose(c, "web", usual, MERGE_FULL, NULL);
        cr_assert(r != NULL);
        cr_expect(eq(str, r->id, (char *)NEW "-0"));
        cr_expect(eq(str, r->file, (char *)FILE_OF(NEW)));
        cr_expect(eq(str, r->path, (char *)"/d/w.qcow2"));
        cr_expect(eq(str, r->top, (char *)FILE_OF(T)));
        cr_expect(eq(str, r->upper, (char *)B "-0"));
        cr_expect(eq(str, r->lower_file, (char *)FILE_OF(A)));
        cr_expect(eq(str, r->below, (char *)"/golden"));
}

Test(merge_choice, a_top_that_qemu_has_by_the_path_is_the_same)
{
        static const char *const started[] = {"/d/w.qcow2", FILE_OF(B), FILE_OF(A), "/golden", NULL};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_usual(c);
        g_autoptr(MergeRecord) r = choose(c, "web", started, MERGE_FULL, NULL);
        cr_assert(r != NULL);
        cr_expect(eq(str, r->path, (char *)"/d/w.qcow2"));
        cr_expect(eq(str, r->file, (char *)FILE_OF(NEW)));
}

Test(merge_choice, where_there_is_room_or_one_layer_only_nothing_is_merged)
{
        static const char *const one[] = {FILE_OF(T), FILE_OF(A), "/golden", NULL};
        static const char *const short_chain[] = {FILE_OF(T), FILE_OF(B), FILE_OF(A), NULL};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;

        add_usual(c);
        cr_expect(choose(c, "web", one, MERGE_ALL, &error) == NULL && !error);
        cr_expect(choose(c, "web", short_chain, MERGE_FULL, &error) == NULL && !error);
        cr_expect(choose(c, "another", usual, MERGE_FULL, &error) == NULL && !error, "not its layers");
}

/* Its files stay for the branch (merges.h): the chain of the VM is cut short all the same. */
Test(merge_choice, a_branch_above_the_two_does_not_keep_them_from_being_merged)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_usual(c);
        add_layer(c, "branch-0", B "-0", "/d/branch");
        g_autoptr(MergeRecord) r = choose(c, "web", usual, MERGE_FULL, NULL);
        cr_assert(r != NULL);
        cr_expect(eq(str, r->upper, (char *)B "-0"));
}

Test(merge_choice, a_chain_that_the_catalogue_does_not_know_is_refused)
{
        static const char *const other_base[] = {FILE_OF(T), FILE_OF(B), FILE_OF(A), "/other", NULL};
        static const char *const no_base[] = {FILE_OF(T), FILE_OF(B), FILE_OF(A), NULL};
        static const char *const *const all[] = {other_base, no_base};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_usual(c);
        for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
                g_autoptr(GError) error = NULL;

                cr_expect(choose(c, "web", all[i], MERGE_ALL, &error) == NULL);
                cr_expect(error && strstr(error->message, "nothing was touched"), "%zu", i);
        }
}

/* A snapshot of B, taken of the disk whose chain is `usual`. */
static SnapshotRecord *add_snapshot(Catalogue *c)
{
        SnapshotRecord *s = snapshot_record_new();
        struct snapshot_disk *d = snapshot_record_add_disk(s);

        s->id = g_strdup("01HF7YBKBWB2NZVZDMR1TRA8XE");
        s->vm = g_strdup("web");
        s->name = g_strdup("b");
        d->device = g_strdup("disk0");
        d->path = g_strdup("/d/w.qcow2");
        d->layer = g_path_get_basename(FILE_OF(B));
        d->next = g_path_get_basename(FILE_OF(T));
        d->format = g_strdup("qcow2");
        cr_assert(catalogue_snapshot_add(c, s, NULL));
        s->state = SNAPSHOT_TAKEN;
        s->taken_us = 1;
        cr_assert(catalogue_snapshot_update(c, s, NULL));
        return s;
}

static void expect_due(Catalogue *c, const SnapshotRecord *s, gboolean due, const char *when)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(MergeRecord) r = choose(c, "web", usual, MERGE_STORED, &error);

        cr_expect(eq(ptr, error, NULL));
        cr_expect(eq(int, r != NULL, due), "%s", when);
        cr_expect(eq(int, merge_choice_is_due(c, s), due), "%s", when);
}

Test(merge_choice, what_is_merged_by_itself_is_in_the_store_and_needed_by_nobody)
{
        static const guint8 digest[DIGEST_SIZE] = {1};
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "web");
        add_usual(c);
        g_autoptr(SnapshotRecord) s = add_snapshot(c);
        expect_due(c, s, FALSE, "none is in the store");
        cr_assert(catalogue_layer_set_uploaded(c, A "-0", 5, digest, 1, NULL));
        expect_due(c, s, FALSE, "the upper one is not");
        cr_assert(catalogue_layer_set_uploaded(c, B "-0", 5, digest, 1, NULL));
        expect_due(c, s, FALSE, "its manifest is not");
        cr_assert(catalogue_snapshot_set_uploaded(c, s->id, 6, NULL));
        expect_due(c, s, TRUE, "all is");
        add_layer(c, "branch-0", A "-0", "/d/branch");
        expect_due(c, s, FALSE, "another one stands on the lower file");
        cr_assert(catalogue_layer_set_file(c, "branch-0", NULL, NULL, "qcow2", NULL));
        expect_due(c, s, TRUE, "none does any more");
        cr_assert(catalogue_layer_set_file(c, A "-0", NULL, NULL, "qcow2", NULL));
        cr_expect(not(merge_choice_is_due(c, s)));
}
