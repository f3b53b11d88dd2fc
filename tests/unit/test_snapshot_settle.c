/* tests/unit/test_snapshot_settle.c - the table of docs/snapshots.md: what has become of a snapshot. */
#include "host-service/snapshot/settle.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(settle, .timeout = 10);

static const struct snapshot_disk disk = {
        .path = (char *)"/d/w", .layer = (char *)"l", .next = (char *)"n", .format = (char *)"qcow2"};

/* @top: the file that QEMU has on top; NULL: there is no QEMU. */
static Settle decide(const char *top, WellKnown well_known, gboolean has_next)
{
        struct vm_disk other = {.file = (char *)"/d/other"}, d = {.file = (char *)top};
        gpointer all[] = {&other, &d};
        GPtrArray disks = {.pdata = all, .len = 2};
        struct layer_look look = {.well_known = well_known, .has_top = TRUE, .has_next = has_next};

        return settle_disk(&disk, top ? &disks : NULL, &look);
}

Test(settle, each_row_of_the_table)
{
        cr_expect(eq(int, decide("/d/l", WELL_KNOWN_TOP, FALSE), SETTLE_BACK));
        cr_expect(eq(int, decide("/d/l", WELL_KNOWN_TOP, TRUE), SETTLE_BACK));
        cr_expect(eq(int, decide("/d/l", WELL_KNOWN_NEXT, TRUE), SETTLE_BACK));
        cr_expect(eq(int, decide("/d/n", WELL_KNOWN_NEXT, TRUE), SETTLE_TAKEN));
        cr_expect(eq(int, decide("/d/n", WELL_KNOWN_TOP, TRUE), SETTLE_TAKEN));
        cr_expect(eq(int, decide("/d/n", WELL_KNOWN_TOP, FALSE), SETTLE_FOREIGN), "its file is gone");
        cr_expect(eq(int, decide(NULL, WELL_KNOWN_TOP, TRUE), SETTLE_BACK));
        cr_expect(eq(int, decide(NULL, WELL_KNOWN_NEXT, TRUE), SETTLE_TAKEN));
        cr_expect(eq(int, decide("/d/w", WELL_KNOWN_TOP, TRUE), SETTLE_BACK));
        cr_expect(eq(int, decide("/d/w", WELL_KNOWN_NEXT, TRUE), SETTLE_TAKEN), "started from it since");
        cr_expect(eq(int, decide("/d/x", WELL_KNOWN_TOP, TRUE), SETTLE_FOREIGN));
}

/* A domain that is off: what counts is which file it is started from. */
static Settle decide_defined(const char *file, WellKnown well_known)
{
        struct layer_look look = {.well_known = well_known, .has_top = TRUE, .has_next = TRUE};

        return settle_disk_defined(&disk, file, &look);
}

Test(settle, a_domain_that_is_off_goes_on_from_what_its_definition_names)
{
        cr_expect(eq(int, decide_defined("/d/l", WELL_KNOWN_TOP), SETTLE_BACK));
        cr_expect(eq(int, decide_defined("/d/l", WELL_KNOWN_NEXT), SETTLE_BACK), "nothing was written to it");
        cr_expect(eq(int, decide_defined("/d/n", WELL_KNOWN_NEXT), SETTLE_TAKEN));
        cr_expect(eq(int, decide_defined("/d/w", WELL_KNOWN_TOP), SETTLE_BACK));
        cr_expect(eq(int, decide_defined("/d/w", WELL_KNOWN_NEXT), SETTLE_TAKEN));
        cr_expect(eq(int, decide_defined("/d/x", WELL_KNOWN_NEXT), SETTLE_FOREIGN));
        cr_expect(eq(int, decide_defined("/d/n", WELL_KNOWN_OTHER), SETTLE_FOREIGN));
}

Test(settle, a_path_that_is_somebody_else_s_is_left_alone_whatever_qemu_has)
{
        static const char *const tops[] = {NULL, "/d/w", "/d/l", "/d/n", "/d/x"};

        for (gsize i = 0; i < G_N_ELEMENTS(tops); i++)
                cr_expect(eq(int, decide(tops[i], WELL_KNOWN_OTHER, TRUE), SETTLE_FOREIGN));
}

Test(settle, a_snapshot_is_taken_if_each_of_its_disks_is)
{
        const Settle taken[] = {SETTLE_TAKEN, SETTLE_TAKEN}, mixed[] = {SETTLE_TAKEN, SETTLE_BACK};
        const Settle foreign[] = {SETTLE_FOREIGN, SETTLE_TAKEN};
        gboolean is_foreign;

        cr_expect(settle_is_taken(taken, 2, &is_foreign) && !is_foreign);
        cr_expect(not(settle_is_taken(mixed, 2, &is_foreign)));
        cr_expect(not(is_foreign));
        cr_expect(not(settle_is_taken(foreign, 2, &is_foreign)));
        cr_expect(is_foreign);
        cr_expect(not(settle_is_taken(NULL, 0, &is_foreign)));
}
