/* tests/unit/test_snapshot_layer_files.c - the files of a disk through a snapshot, with the real qemu-img: in
 * every order in which one may be left and begun again. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/snapshot/layer_files.h"
#include "tests/support/tempdir.h"

TestSuite(layer_files, .timeout = 60);

#define MIB (UINT64_C(1) << 20)

static void run(const char *command, const char *dir)
{
        g_autofree char *line = g_strdup_printf("cd %s && %s", dir, command);

        cr_assert(eq(int, system(line), 0), "%s", command);
}

static LayerFiles *begin(TempDir *t)
{
        g_autofree char *path = tempdir_path(t, "d.qcow2");
        g_autoptr(GError) error = NULL;
        LayerFiles *f;

        run("qemu-img create -q -f qcow2 d.qcow2 8M && qemu-io -c 'write -q -P 1 0 64k' d.qcow2 && chmod 640 "
            "d.qcow2",
            t->path);
        f = layer_files_open(path, "d.top", "d.next", "qcow2", 8 * MIB, NULL, &error);
        cr_assert(f != NULL, "%s", error ? error->message : "");
        return f;
}

static void expect_look(LayerFiles *f, WellKnown well_known, gboolean has_top, gboolean has_next)
{
        struct layer_look look;

        cr_assert(layer_files_look(f, &look, NULL));
        cr_expect(eq(int, look.well_known, well_known));
        cr_expect(eq(int, look.has_top, has_top));
        cr_expect(eq(int, look.has_next, has_next));
}

static void ok(gboolean done, GError **error)
{
        cr_assert(done, "%s", *error ? (*error)->message : "");
}

Test(layer_files, a_snapshot_gives_the_well_known_path_to_an_empty_image_over_the_old_one)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;
        struct stat before, after;

        expect_look(f, WELL_KNOWN_TOP, FALSE, FALSE);
        cr_assert(eq(int, fstatat(t->fd, "d.qcow2", &before, 0), 0));
        for (int again = 0; again < 2; again++) {
                ok(layer_files_name_top(f, &error), &error);
                expect_look(f, WELL_KNOWN_TOP, TRUE, again > 0);
                ok(layer_files_make_next(f, "qemu-img", NULL, &error), &error);
                expect_look(f, WELL_KNOWN_TOP, TRUE, TRUE);
        }
        for (int again = 0; again < 2; again++) {
                ok(layer_files_place_next(f, &error), &error);
                expect_look(f, WELL_KNOWN_NEXT, TRUE, TRUE);
        }
        /* Started from its well-known path, the disk has what it had, and writes beside it. */
        run("qemu-io -r -c 'read -q -P 1 0 64k' d.qcow2 && qemu-io -c 'write -q -P 2 0 64k' d.qcow2",
            t->path);
        run("qemu-io -r -c 'read -q -P 1 0 64k' d.top && qemu-io -r -c 'read -q -P 2 0 64k' d.next", t->path);
        run("test \"$(ls)\" = \"$(printf 'd.next\\nd.qcow2\\nd.top')\"", t->path);
        cr_assert(eq(int, fstatat(t->fd, "d.top", &after, 0), 0));
        cr_expect(eq(u64, (guint64)after.st_ino, (guint64)before.st_ino));
        cr_assert(eq(int, fstatat(t->fd, "d.qcow2", &after, 0), 0));
        cr_expect(eq(int, (int)(after.st_mode & 07777), 0640));
        cr_expect(eq(u64, (guint64)after.st_size > 0, 1));
}

Test(layer_files, what_was_begun_goes_back)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;

        ok(layer_files_remove_next(f, &error), &error); /* nothing to do */
        ok(layer_files_name_top(f, &error), &error);
        ok(layer_files_make_next(f, "qemu-img", NULL, &error), &error);
        ok(layer_files_place_next(f, &error), &error);
        cr_expect(not(layer_files_remove_next(f, &error)), "the disk itself");
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        g_clear_error(&error);
        ok(layer_files_place_top(f, &error), &error);
        ok(layer_files_place_top(f, &error), &error);
        expect_look(f, WELL_KNOWN_TOP, TRUE, TRUE);
        ok(layer_files_remove_next(f, &error), &error);
        expect_look(f, WELL_KNOWN_TOP, TRUE, FALSE);
        for (int again = 0; again < 2; again++)
                ok(layer_files_unname_top(f, &error), &error);
        expect_look(f, WELL_KNOWN_TOP, FALSE, FALSE);
        run("qemu-io -r -c 'read -q -P 1 0 64k' d.qcow2", t->path);
}

Test(layer_files, a_link_that_was_left_half_way_is_no_obstacle)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;

        ok(layer_files_name_top(f, &error), &error);
        ok(layer_files_make_next(f, "qemu-img", NULL, &error), &error);
        run("ln d.next d.qcow2.moult-placing", t->path);
        ok(layer_files_place_next(f, &error), &error);
        expect_look(f, WELL_KNOWN_NEXT, TRUE, TRUE);
        run("ln d.next d.qcow2.moult-placing", t->path);
        ok(layer_files_place_next(f, &error), &error);
        run("test ! -e d.qcow2.moult-placing", t->path);
        ok(layer_files_place_top(f, &error), &error);
        run("ln d.next d.qcow2.moult-placing", t->path);
        ok(layer_files_remove_next(f, &error), &error);
        run("test ! -e d.qcow2.moult-placing", t->path);
}

Test(layer_files, a_disk_that_somebody_replaced_is_seen)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;

        ok(layer_files_name_top(f, &error), &error);
        run("rm d.qcow2 && qemu-img create -q -f qcow2 d.qcow2 8M", t->path);
        expect_look(f, WELL_KNOWN_OTHER, TRUE, FALSE);
        cr_expect(not(layer_files_unname_top(f, &error)), "its only name");
        g_clear_error(&error);
        run("test -e d.top && rm d.qcow2", t->path);
        struct layer_look look;
        cr_expect(not(layer_files_look(f, &look, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
}

Test(layer_files, only_a_regular_file_is_a_disk)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "link");

        run("touch file && ln -s file link", t->path);
        cr_expect(layer_files_open(path, "a", "b", "qcow2", MIB, NULL, &error) == NULL);
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(layer_files, a_program_that_fails_leaves_the_disk_as_it_was)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;

        ok(layer_files_name_top(f, &error), &error);
        cr_expect(not(layer_files_make_next(f, "/bin/false", NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO));
        expect_look(f, WELL_KNOWN_TOP, TRUE, FALSE);
}

Test(layer_files, a_file_is_made_over_another_or_over_nothing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autofree char *base = tempdir_path(t, "base");
        g_autoptr(GError) error = NULL;

        ok(layer_files_make_over(f, base, "raw", "qemu-img", NULL, &error), &error);
        run("qemu-img info d.next | grep -q 'backing file: .*/base' && qemu-img info d.next | "
            "grep -q 'backing file format: raw'",
            t->path);
        ok(layer_files_make_over(f, NULL, NULL, "qemu-img", NULL, &error), &error);
        run("! qemu-img info d.next | grep 'backing file:'", t->path);
        expect_look(f, WELL_KNOWN_TOP, FALSE, TRUE);
        ok(layer_files_remove_next(f, &error), &error);
}

static void expect_error(gboolean done, GError **error, MoultError code, const char *why)
{
        cr_assert(not(done), "%s", why);
        cr_expect(g_error_matches(*error, MOULT_ERROR, (gint)code), "%s", (*error)->message);
        cr_expect(strstr((*error)->message, why) != NULL, "%s", (*error)->message);
        g_clear_error(error);
}

Test(layer_files, a_copy_is_the_top_byte_for_byte_and_changes_nothing_of_it)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;
        struct layer_look before, after;

        expect_error(layer_files_copy_top(f, NULL, NULL, &error), &error, MOULT_ERROR_WRONG_STATE,
                     "is not the present top");
        ok(layer_files_name_top(f, &error), &error);
        run("truncate -s 32M d.top", t->path); /* a hole, and it ends with one */
        cr_assert(layer_files_look(f, &before, NULL));
        run("echo left-over >d.next", t->path);
        for (int again = 0; again < 2; again++)
                ok(layer_files_copy_top(f, NULL, NULL, &error), &error);
        run("cmp d.top d.next && test $(du -k d.next | cut -f1) -lt 1024 && test $(stat -c %a d.next) = 640",
            t->path);
        cr_assert(layer_files_look(f, &after, NULL));
        cr_expect(eq(i64, after.changed_ns, before.changed_ns));
        cr_expect(eq(int, after.well_known, WELL_KNOWN_TOP));
        cr_expect(eq(int, after.has_next, TRUE));
        /* A change is seen, whichever it is. */
        run("chmod 600 d.qcow2", t->path);
        cr_assert(layer_files_look(f, &after, NULL));
        cr_expect(ne(i64, after.changed_ns, before.changed_ns));
}

Test(layer_files, what_is_copied_stands_on_what_is_known_and_has_its_size)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;
        g_autofree char *base = tempdir_path(t, "base");

        ok(layer_files_name_top(f, &error), &error);
        expect_error(layer_files_copy_top(f, base, NULL, &error), &error, MOULT_ERROR_REFUSED,
                     "stands on another file");
        run("qemu-img create -q -f raw base 8M && qemu-img rebase -q -u -f qcow2 -b $PWD/base -F raw d.top",
            t->path);
        expect_error(layer_files_copy_top(f, NULL, NULL, &error), &error, MOULT_ERROR_REFUSED,
                     "stands on another file");
        ok(layer_files_copy_top(f, base, NULL, &error), &error);
        run("qemu-img resize -q d.top 16M", t->path);
        expect_error(layer_files_copy_top(f, base, NULL, &error), &error, MOULT_ERROR_REFUSED,
                     "another size");
        run("printf broken | dd of=d.top conv=notrunc status=none", t->path);
        expect_error(layer_files_copy_top(f, base, NULL, &error), &error, MOULT_ERROR_CORRUPT,
                     "the image d.top");
}

Test(layer_files, a_copy_can_be_given_up)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(LayerFiles) f = begin(t);
        g_autoptr(GError) error = NULL;
        g_autoptr(GCancellable) c = g_cancellable_new();

        ok(layer_files_name_top(f, &error), &error);
        g_cancellable_cancel(c);
        cr_expect(not(layer_files_copy_top(f, NULL, c, &error)));
        cr_expect(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
        g_clear_error(&error);
        ok(layer_files_remove_next(f, &error), &error);
        expect_look(f, WELL_KNOWN_TOP, TRUE, FALSE);
}
