/* tests/unit/test_snapshot_upload_plan.c - which layers go to the store for a snapshot, from which files. */
#include "host-service/snapshot/upload_plan.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "tests/support/host_world.h"

TestSuite(snapshot_upload_plan, .timeout = 60);

#define A  "01ARZ3NDEKTSV4RRFFQ69G5FA1"
#define B  "01ARZ3NDEKTSV4RRFFQ69G5FA2"
#define C_ "01ARZ3NDEKTSV4RRFFQ69G5FA3"

static const guint8 digest[DIGEST_SIZE] = {1};

static void add(Catalogue *c, const char *id, const char *parent, const char *file, const char *file_on)
{
        gboolean is_base = g_str_has_prefix(id, "base");
        LayerRecord r = {.id = (char *)id,
                         .vm = is_base ? NULL : (char *)"web",
                         .parent = (char *)parent,
                         .file = (char *)file,
                         .file_on = (char *)file_on,
                         .format = (char *)"qcow2",
                         .size_bytes = 7,
                         .sealed_us = 1,
                         .below = is_base ? (char *)"[{\"file\":\"/deep\",\"format\":\"raw\"}]" : NULL,
                         .identity = is_base ? (char *)"1:2" : NULL};

        cr_assert(catalogue_layer_add(c, &r, NULL));
}

static SnapshotRecord *snapshot_of(const char *id)
{
        SnapshotRecord *r = snapshot_record_new();
        struct snapshot_disk *d = snapshot_record_add_disk(r);

        r->id = g_strdup(id);
        d->layer = g_strdup_printf("web.qcow2.moult-%s-0.layer", id);
        return r;
}

/* "LAYER: FILES / FILES OF THE PARENT / FOLDED; ..." or the error. */
static char *plan_text(Catalogue *c, const char *snapshot)
{
        g_autoptr(SnapshotRecord) s = snapshot_of(snapshot);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) plan = upload_plan_make(c, s, &error);
        GString *t = g_string_new(error ? error->message : NULL);

        for (guint i = 0; plan && i < plan->len; i++) {
                const struct upload_step *step = plan->pdata[i];
                const FileChain *chains[] = {step->files, step->parent};

                g_string_append_printf(t, "%s%c", i ? "; " : "", step->layer[strlen(step->layer) - 3]);
                for (guint k = 0; k < 2; k++) {
                        g_string_append(t, k ? " /" : ":");
                        for (guint f = 0; chains[k] && f < chains[k]->images->len; f++)
                                g_string_append_printf(
                                        t, " %s",
                                        g_array_index(chains[k]->images, struct disk_image, f).path);
                }
                g_string_append(t, " /");
                for (guint f = 0; f < step->folds->len; f++)
                        g_string_append_printf(t, " %c", ((char *)step->folds->pdata[f])[strlen(A) - 1]);
        }
        return g_string_free(t, FALSE);
}

static void world_of_three(Catalogue *c)
{
        add(c, "base-1", NULL, "/gold", NULL);
        add(c, A "-0", "base-1", "/a", "base-1");
        add(c, B "-0", A "-0", "/b", A "-0");
        add(c, C_ "-0", B "-0", "/c", B "-0");
}

Test(snapshot_upload_plan, the_base_comes_first_and_once_then_each_layer_against_what_it_stands_on)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        world_of_three(c);
        g_autofree char *first = plan_text(c, A);
        cr_expect(eq(str, first, (char *)"e: /gold /deep / /; 1: /a / /gold /deep /"), "%s", first);
        cr_assert(catalogue_layer_set_uploaded(c, "base-1", 5, digest, 1, NULL));
        cr_assert(catalogue_layer_set_uploaded(c, A "-0", 5, digest, 1, NULL));
        g_autofree char *second = plan_text(c, B), *again = plan_text(c, A);
        cr_expect(eq(str, second, (char *)"2: /b / /a /gold /deep /"), "%s", second);
        cr_expect(eq(str, again, (char *)""));
}

Test(snapshot_upload_plan, what_was_never_uploaded_is_folded_into_the_next)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        world_of_three(c);
        cr_assert(catalogue_layer_set_uploaded(c, "base-1", 5, digest, 1, NULL));
        cr_assert(catalogue_layer_set_uploaded(c, A "-0", 5, digest, 1, NULL));
        g_autofree char *both = plan_text(c, C_);
        cr_expect(eq(str, both, (char *)"3: /c /b / /a /gold /deep / 2"), "%s", both);
        cr_assert(catalogue_layer_set_uploaded(c, C_ "-0", 5, digest, 1, NULL));
        cr_assert(catalogue_layer_fold(c, B "-0", C_ "-0", NULL));
        g_autofree char *by_itself = plan_text(c, B);
        cr_expect(eq(str, by_itself, (char *)"2: /b / /a /gold /deep /"), "%s", by_itself);
        cr_assert(catalogue_layer_set_file(c, B "-0", NULL, NULL, "qcow2", NULL));
        g_autofree char *late = plan_text(c, B);
        cr_expect(ne(ptr, strstr(late, "as a part of layer"), NULL), "%s", late);
}

Test(snapshot_upload_plan, a_merged_file_has_more_than_is_missing_and_the_parent_may_be_gone)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        world_of_three(c);
        cr_assert(catalogue_layer_set_uploaded(c, "base-1", 5, digest, 1, NULL));
        cr_assert(catalogue_layer_set_uploaded(c, A "-0", 5, digest, 1, NULL));
        /* /a and /b became /ab. */
        cr_assert(catalogue_layer_set_file(c, A "-0", NULL, NULL, "qcow2", NULL));
        cr_assert(catalogue_layer_set_file(c, B "-0", "/ab", "base-1", "qcow2", NULL));
        g_autofree char *both = plan_text(c, C_);
        cr_expect(eq(str, both, (char *)"3: /c /ab / / 2"), "%s", both);
        cr_assert(catalogue_layer_set_file(c, C_ "-0", NULL, NULL, "qcow2", NULL));
        g_autofree char *lost = plan_text(c, C_);
        cr_expect(ne(ptr, strstr(lost, "not on this host any more"), NULL), "%s", lost);
}
