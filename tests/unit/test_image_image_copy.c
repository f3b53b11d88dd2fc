/* tests/unit/test_image_image_copy.c - a copy takes an image's place whole, or not at all. */
#include "host-service/image/image_copy.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(image_image_copy, .timeout = 60);

struct lab {
        TempDir *dir;
        char *image, *other, *hidden;
        struct image_name name;
};

static void lab_make(struct lab *l)
{
        l->dir = tempdir_new();
        l->image = tempdir_path(l->dir, "a.raw");
        l->other = tempdir_path(l->dir, "b.raw");
        l->hidden = tempdir_path(l->dir, ".a.raw.moult-new");
        tempdir_put(l->dir, "a.raw", "old", 3);
        cr_assert(eq(int, truncate(l->image, 20 << 20), 0)); /* with a hole */
        cr_assert(eq(int, chmod(l->image, 0640), 0));
        cr_assert(image_name_parse(l->image, &l->name, NULL));
}

static void lab_free(struct lab *l)
{
        image_name_clear(&l->name);
        tempdir_free(l->dir);
        g_free(l->image);
        g_free(l->other);
        g_free(l->hidden);
}

static void write_new(const ImageCopy *c)
{
        scoped_fd int fd = open(image_copy_name(c)->path, O_WRONLY | O_CLOEXEC);

        cr_assert(fd >= 0 && pwrite(fd, "new", 3, 0) == 3);
}

static void expect_content(const char *path, const char *want)
{
        char got[4] = "";
        struct stat st;
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

        cr_assert(fd >= 0 && pread(fd, got, 3, 0) == 3 && fstat(fd, &st) == 0);
        cr_expect(eq(str, got, (char *)want));
        cr_expect(eq(i64, st.st_size, 20 << 20));
        cr_expect(st.st_blocks < 2048, "%s", "holes were filled");
}

static ImageCopy *copy(struct lab *l, const char *target)
{
        g_autoptr(GError) error = NULL;
        ImageCopy *c = image_copy_new(&l->name, target, NULL, &error);

        cr_assert(c != NULL, "%s", error ? error->message : "");
        return c;
}

Test(image_image_copy, the_new_one_takes_the_place_with_mode_and_owner)
{
        g_autoptr(GError) error = NULL;
        struct lab l;
        struct stat st;

        lab_make(&l);
        g_autoptr(ImageCopy) c = copy(&l, l.image);
        write_new(c);
        expect_content(l.image, "old");
        cr_assert(image_copy_publish(c, FALSE, &error), "%s", error ? error->message : "");
        expect_content(l.image, "new");
        cr_expect(stat(l.image, &st) == 0 && (st.st_mode & 07777) == 0640);
        cr_expect(access(l.hidden, F_OK) < 0);
        lab_free(&l);
}

Test(image_image_copy, given_up_it_leaves_nothing)
{
        struct lab l;

        lab_make(&l);
        ImageCopy *c = copy(&l, l.image);
        write_new(c);
        image_copy_free(c);
        expect_content(l.image, "old");
        cr_expect(access(l.hidden, F_OK) < 0);
        lab_free(&l);
}

Test(image_image_copy, an_image_that_changed_meanwhile_is_not_replaced)
{
        g_autoptr(GError) error = NULL;
        struct lab l;

        lab_make(&l);
        ImageCopy *c = copy(&l, l.image);
        scoped_fd int fd = open(l.image, O_WRONLY | O_CLOEXEC);
        cr_assert(fd >= 0 && pwrite(fd, "vm!", 3, 0) == 3);
        cr_expect(not(image_copy_publish(c, TRUE, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
        image_copy_free(c);
        expect_content(l.image, "vm!");
        lab_free(&l);
}

Test(image_image_copy, another_file_is_replaced_only_if_that_was_said)
{
        g_autoptr(GError) error = NULL;
        struct lab l;

        lab_make(&l);
        tempdir_put(l.dir, "b.raw", "mine", 4);
        ImageCopy *c = copy(&l, l.other);
        cr_expect(not(image_copy_publish(c, FALSE, &error)));
        cr_expect(strstr(error->message, "--force") != NULL);
        g_clear_error(&error);
        cr_expect(image_copy_publish(c, TRUE, &error), "%s", error ? error->message : "");
        image_copy_free(c);
        expect_content(l.other, "old");
        expect_content(l.image, "old");
        lab_free(&l);
}

Test(image_image_copy, two_do_not_work_on_one_target)
{
        g_autoptr(GError) error = NULL;
        struct lab l;

        lab_make(&l);
        g_autoptr(ImageCopy) first = copy(&l, l.image);
        cr_expect(eq(ptr, (void *)image_copy_new(&l.name, l.image, NULL, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
        cr_expect(access(l.hidden, F_OK) == 0, "%s", "the copy of the first is gone");
        lab_free(&l);
}

Test(image_image_copy, names_that_would_keep_the_old_one_are_told)
{
        g_autoptr(GError) error = NULL;
        struct lab l;

        lab_make(&l);
        cr_assert(eq(int, link(l.image, l.other), 0));
        cr_expect(eq(ptr, (void *)image_copy_new(&l.name, l.image, NULL, &error), NULL));
        cr_expect(strstr(error->message, "hard links") != NULL);
        lab_free(&l);
}

/* Killed at each point: the old image or the new one, and the next one can begin. */
static void killed_at(const char *point, const char *want)
{
        struct lab l;
        int status;

        lab_make(&l);
        pid_t child = fork();
        if (child == 0) {
                g_autofree char *fault = g_strconcat(point, "=kill", NULL);

                g_setenv("MOULT_FAULT", fault, TRUE);
                ImageCopy *c = image_copy_new(&l.name, l.image, NULL, NULL);
                if (c) {
                        write_new(c);
                        image_copy_publish(c, FALSE, NULL);
                }
                _exit(0);
        }
        cr_assert(child > 0 && waitpid(child, &status, 0) == child);
        cr_assert(status == SIGKILL, "%s was not passed", point);
        expect_content(l.image, want);
        g_autoptr(ImageCopy) again = copy(&l, l.image);
        write_new(again);
        cr_expect(image_copy_publish(again, FALSE, NULL));
        expect_content(l.image, "new");
        lab_free(&l);
}

/* One point in a process: which faults there are is read once. */
Test(image_image_copy, killed_when_it_is_copied_it_is_the_old_image)
{
        killed_at("image-copied", "old");
}

Test(image_image_copy, killed_before_the_renaming_it_is_the_old_image)
{
        killed_at("image-ready", "old");
}

Test(image_image_copy, killed_after_the_renaming_it_is_the_new_image)
{
        killed_at("image-renamed", "new");
}
