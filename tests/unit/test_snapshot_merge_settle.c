/* tests/unit/test_snapshot_merge_settle.c - the table of docs/snapshots.md: how far a merge has come. */
#include "host-service/snapshot/merge_settle.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(merge_settle, .timeout = 10);

/* H, S and R over the base; T is the top, w the path. */
static MergeRecord row(void)
{
        return (MergeRecord){.path = (char *)"/d/w",
                             .top = (char *)"/d/T",
                             .upper_file = (char *)"/d/S",
                             .lower_file = (char *)"/d/H",
                             .file = (char *)"/d/R",
                             .below = (char *)"/base"};
}

/* @files: of what QEMU has, the top first; NULL: there is no QEMU. @header: what the top's names. */
static MergeSettle decide_row(const MergeRecord *r, const char *const *files, const char *header,
                              gboolean has_result)
{
        struct vm_image images[4] = {0};
        gpointer below[4], all[1];
        GPtrArray chain = {.pdata = below}, disks = {.pdata = all, .len = 1};
        struct vm_disk d = {.file = (char *)(files ? files[0] : NULL), .below = &chain};
        struct merge_look look = {.is_top = TRUE, .has_result = has_result, .backing = (char *)header};

        for (guint i = 1; files && files[i]; i++) {
                images[i - 1].file = (char *)files[i];
                below[chain.len++] = &images[i - 1];
        }
        all[0] = &d;
        return merge_settle(r, files ? &disks : NULL, &look);
}

static MergeSettle decide(const char *const *files, const char *header)
{
        MergeRecord r = row();

        return decide_row(&r, files, header, TRUE);
}

static const char *const on_layer[] = {"/d/T", "/d/S", "/d/H", "/base", NULL};
static const char *const on_layer_by_path[] = {"/d/w", "/d/S", "/d/H", "/base", NULL};
static const char *const on_result[] = {"/d/T", "/d/R", "/base", NULL};
static const char *const on_result_by_path[] = {"/d/w", "/d/R", "/base", NULL};

Test(merge_settle, each_row_of_the_table)
{
        cr_expect(eq(int, decide(on_layer, "/d/S"), MERGE_APART));
        cr_expect(eq(int, decide(on_layer_by_path, "/d/S"), MERGE_APART));
        cr_expect(eq(int, decide(on_result, "/d/S"), MERGE_HALF));
        cr_expect(eq(int, decide(on_result_by_path, "/d/S"), MERGE_HALF));
        cr_expect(eq(int, decide(on_result, "/d/R"), MERGE_TOGETHER));
        cr_expect(eq(int, decide(on_result_by_path, "/d/R"), MERGE_TOGETHER), "started from it since");
        cr_expect(eq(int, decide(NULL, "/d/R"), MERGE_TOGETHER));
        cr_expect(eq(int, decide(NULL, "/d/S"), MERGE_APART));
}

Test(merge_settle, a_chain_that_is_neither_is_left_alone)
{
        static const char *const another_top[] = {"/d/theirs", "/d/T", "/d/S", "/d/H", NULL};
        static const char *const committed[] = {"/d/T", "/d/H", "/base", NULL};
        static const char *const another_history[] = {"/d/T", "/d/S", "/d/other", "/base", NULL};
        static const char *const another_base[] = {"/d/T", "/d/R", "/other", NULL};
        static const char *const no_base[] = {"/d/T", "/d/R", NULL};
        static const char *const alone[] = {"/d/T", NULL};
        static const char *const *const all[] = {another_top,  committed, another_history,
                                                 another_base, no_base,   alone};

        for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
                cr_expect(eq(int, decide(all[i], "/d/S"), MERGE_STRANGE));
                cr_expect(eq(int, decide(all[i], "/d/R"), MERGE_STRANGE));
        }
        cr_expect(eq(int, decide(on_result, "/d/other"), MERGE_STRANGE));
        cr_expect(eq(int, decide(NULL, ""), MERGE_STRANGE));
        cr_expect(eq(int, decide(on_layer, "/d/R"), MERGE_STRANGE), "not in this order");
}

Test(merge_settle, a_path_that_is_another_file_s_or_a_result_that_is_gone_is_strange)
{
        MergeRecord r = row();
        struct merge_look look = {.is_top = FALSE, .has_result = TRUE, .backing = (char *)"/d/S"};

        cr_expect(eq(int, merge_settle(&r, NULL, &look), MERGE_STRANGE));
        cr_expect(eq(int, decide_row(&r, on_result, "/d/R", FALSE), MERGE_STRANGE));
        cr_expect(eq(int, decide_row(&r, NULL, "/d/R", FALSE), MERGE_STRANGE));
        cr_expect(eq(int, decide_row(&r, on_layer, "/d/S", FALSE), MERGE_APART), "then it goes back");
}

Test(merge_settle, without_a_base_nothing_may_lie_below)
{
        MergeRecord r = row();

        r.below = NULL;
        static const char *const right[] = {"/d/T", "/d/R", NULL};
        cr_expect(eq(int, decide_row(&r, right, "/d/R", TRUE), MERGE_TOGETHER));
        cr_expect(eq(int, decide_row(&r, on_result, "/d/R", TRUE), MERGE_STRANGE));
}

/* ---- domains: N is the new top ---- */

struct domain_case {
        MergeState state;
        const char *const *files; /* of QEMU; NULL: there is none */
        const char *defined;
        gboolean next_at_path;
        const char *header; /* of what is at the path */
        MergeSettle want;
};

static MergeSettle decide_domain(const struct domain_case *t)
{
        MergeRecord r = row();
        struct vm_image images[4] = {0};
        gpointer below[4], all[1];
        GPtrArray chain = {.pdata = below}, disks = {.pdata = all, .len = 1};
        struct vm_disk d = {.file = (char *)(t->files ? t->files[0] : NULL), .below = &chain};
        struct merge_look look = {.is_top = !t->next_at_path,
                                  .is_next = t->next_at_path,
                                  .has_result = TRUE,
                                  .backing = (char *)t->header};

        r.state = t->state;
        for (guint i = 1; t->files && t->files[i]; i++) {
                images[i - 1].file = (char *)t->files[i];
                below[chain.len++] = &images[i - 1];
        }
        all[0] = &d;
        return merge_settle_domain(&r, "/d/N", t->files ? &disks : NULL, t->defined, &look);
}

static const char *const new_top[] = {"/d/N", "/d/R", "/base", NULL};
static const char *const new_top_elsewhere[] = {"/d/N", "/d/S", "/d/H", "/base", NULL};

Test(merge_settle, a_domain_has_the_old_top_or_the_new_one)
{
        const struct domain_case all[] = {
                {MERGE_COMPARED, on_layer, "/d/T", FALSE, "/d/S", MERGE_APART},
                {MERGE_STOPPED, on_layer, "/d/T", FALSE, "/d/S", MERGE_APART},
                {MERGE_COMPARED, on_layer_by_path, "/d/w", FALSE, "/d/S", MERGE_APART},
                {MERGE_COMPARED, on_layer, NULL, FALSE, "/d/S", MERGE_APART},
                {MERGE_STOPPED, new_top, "/d/T", FALSE, "/d/S", MERGE_HALF},
                {MERGE_STOPPED, new_top, "/d/N", FALSE, "/d/S", MERGE_HALF},
                {MERGE_STOPPED, new_top, "/d/N", TRUE, "/d/R", MERGE_HALF},
                {MERGE_COMPARED, new_top, "/d/N", FALSE, "/d/S", MERGE_HALF},
                {MERGE_COMPARED, new_top, "/d/T", TRUE, "/d/R", MERGE_HALF},
                {MERGE_COMPARED, new_top, "/d/N", TRUE, "/d/R", MERGE_TOGETHER},
                {MERGE_COMPARED, new_top, "/d/w", TRUE, "/d/R", MERGE_TOGETHER},
                {MERGE_COMPARED, new_top, NULL, TRUE, "/d/R", MERGE_TOGETHER},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
                cr_expect(eq(int, decide_domain(&all[i]), all[i].want), "case %zu", i);
}

Test(merge_settle, of_a_domain_that_is_off_the_definition_decides)
{
        const struct domain_case all[] = {
                {MERGE_STOPPED, NULL, "/d/T", FALSE, "/d/S", MERGE_APART},
                {MERGE_COMPARED, NULL, "/d/w", FALSE, "/d/S", MERGE_APART},
                {MERGE_COMPARED, NULL, NULL, FALSE, "/d/S", MERGE_APART},
                {MERGE_COMPARED, NULL, "/d/T", FALSE, "/d/R", MERGE_TOGETHER}, /* by its header */
                {MERGE_STOPPED, NULL, "/d/N", FALSE, "/d/S", MERGE_HALF},
                {MERGE_COMPARED, NULL, "/d/N", FALSE, "/d/S", MERGE_HALF},
                {MERGE_COMPARED, NULL, "/d/N", TRUE, "/d/R", MERGE_TOGETHER},
                {MERGE_COMPARED, NULL, "/d/w", TRUE, "/d/R", MERGE_TOGETHER},
                {MERGE_COMPARED, NULL, NULL, TRUE, "/d/R", MERGE_TOGETHER},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
                cr_expect(eq(int, decide_domain(&all[i]), all[i].want), "case %zu", i);
}

Test(merge_settle, a_domain_that_somebody_else_has_changed_is_left_alone)
{
        const struct domain_case all[] = {
                {MERGE_COMPARED, on_layer, "/d/other", FALSE, "/d/S", MERGE_STRANGE},
                {MERGE_COMPARED, on_layer, "/d/N", FALSE, "/d/S",
                 MERGE_STRANGE}, /* the top is not what is defined */
                {MERGE_COMPARED, on_layer, "/d/T", TRUE, "/d/R", MERGE_STRANGE},
                {MERGE_COMPARED, on_result, "/d/T", FALSE, "/d/S",
                 MERGE_STRANGE}, /* nobody of us does that here */
                {MERGE_COMPARED, new_top, "/d/other", TRUE, "/d/R", MERGE_STRANGE},
                {MERGE_COMPARED, new_top, "/d/N", TRUE, "/d/S", MERGE_STRANGE},
                {MERGE_COMPARED, new_top_elsewhere, "/d/N", TRUE, "/d/R", MERGE_STRANGE},
                {MERGE_COMPARED, NULL, "/d/other", FALSE, "/d/S", MERGE_STRANGE},
                {MERGE_COMPARED, NULL, "/d/T", TRUE, "/d/R", MERGE_STRANGE},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
                cr_expect(eq(int, decide_domain(&all[i]), all[i].want), "case %zu", i);
}
