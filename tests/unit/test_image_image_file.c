/* tests/unit/test_image_image_file.c - images as files: formats, locks, layers, what a header names. */
#include "host-service/image/image_file.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "tests/support/tempdir.h"

TestSuite(image_image_file, .timeout = 300);

static void run(const char *const *argv)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GSubprocess) p = g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &error);

        cr_assert(p != NULL, "%s", error ? error->message : "");
        cr_assert(g_subprocess_wait_check(p, NULL, &error), "%s", error ? error->message : "");
}

/* The caller frees. @backing may be NULL. */
static char *make_qcow2(const char *dir, const char *name, const char *backing)
{
        char *path = g_build_filename(dir, name, NULL);

        if (backing)
                run((const char *const[]){"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b",
                                          backing, path, "8M", NULL});
        else
                run((const char *const[]){"qemu-img", "create", "-q", "-f", "qcow2", path, "8M", NULL});
        return path;
}

static void named(const char *word, struct image_name *ret)
{
        g_autoptr(GError) error = NULL;

        cr_assert(image_name_parse(word, ret, &error), "%s", error ? error->message : "");
}

static void expect_refusal(const struct image_name *n, const struct image_name *backing, gboolean write,
                           int code, const char *word)
{
        g_autoptr(GError) error = NULL;

        cr_assert(not(image_file_check(n, backing, write, &error)), "%s was taken", n->path);
        cr_expect(g_error_matches(error, MOULT_ERROR, code), "%s", error->message);
        cr_expect(strstr(error->message, word) != NULL, "%s", error->message);
}

Test(image_image_file, the_format_is_in_the_name)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *q = make_qcow2(dir, "a.qcow2", NULL);
        g_autofree char *as_raw = g_strconcat("raw:", q, NULL);
        g_autoptr(GError) error = NULL;
        struct image_name n = {0};

        cr_expect(image_word_is("x.img"));
        cr_expect(image_word_is("qcow2:/x"));
        cr_expect(not(image_word_is("/srv/golden")));
        named(q, &n);
        cr_expect(eq(int, n.format, IMAGE_QCOW2));
        image_name_clear(&n);
        /* The same bytes: what the operator says counts, not what the first block says. */
        named(as_raw, &n);
        cr_expect(eq(int, n.format, IMAGE_RAW));
        image_name_clear(&n);
        cr_expect(not(image_name_parse("/etc/passwd", &n, &error)));
        cr_expect(strstr(error->message, "not guessed") != NULL);
        g_clear_error(&error);
        cr_expect(not(image_name_parse("/nonexistent.qcow2", &n, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
}

Test(image_image_file, a_backing_file_is_the_one_that_was_given_or_none)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *base = make_qcow2(dir, "base.qcow2", NULL),
                        *other = make_qcow2(dir, "o.qcow2", NULL);
        g_autofree char *layer = make_qcow2(dir, "layer.qcow2", "base.qcow2");
        g_autofree char *evil = make_qcow2(dir, "evil.qcow2", "/etc/passwd");
        struct image_name b = {0}, o = {0}, l = {0}, e = {0};
        g_autoptr(GError) error = NULL;

        named(base, &b);
        named(other, &o);
        named(layer, &l);
        named(evil, &e);
        cr_expect(image_file_check(&l, &b, FALSE, &error), "%s", error ? error->message : "");
        expect_refusal(&l, NULL, FALSE, MOULT_ERROR_REFUSED, "base.qcow2");
        expect_refusal(&l, &o, FALSE, MOULT_ERROR_REFUSED, "base.qcow2");
        expect_refusal(&e, NULL, FALSE, MOULT_ERROR_REFUSED, "/etc/passwd");
        expect_refusal(&e, &b, FALSE, MOULT_ERROR_REFUSED, "/etc/passwd");
        image_name_clear(&b);
        image_name_clear(&o);
        image_name_clear(&l);
        image_name_clear(&e);
}

/* Even if the check had not been made: the name in the header is not where QEMU reads. */
Test(image_image_file, a_layer_over_it_does_not_follow_its_header)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *evil = make_qcow2(dir, "evil.qcow2", "/etc/passwd");
        g_autofree char *over = g_build_filename(dir, "over.qcow2", NULL);
        g_autoptr(GError) error = NULL;
        struct image_name e = {0};

        named(evil, &e);
        cr_assert(image_file_overlay(&e, NULL, over, &error), "%s", error ? error->message : "");
        g_autoptr(GSubprocess) p = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error, "qemu-io", "-f",
                                                    "qcow2", "-c", "read -P 0 0 64", over, NULL);
        g_autofree char *out = NULL;
        cr_assert(g_subprocess_communicate_utf8(p, NULL, NULL, &out, NULL, &error));
        cr_expect(strstr(out, "Pattern verification failed") == NULL, "%s", out);
        image_name_clear(&e);
}

/* The locks that a QEMU takes (tests/vm has a real one): shared ones on what it does. */
static int lock_as_qemu(const char *path, off_t at)
{
        struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
        int fd = open(path, O_RDWR | O_CLOEXEC);

        cr_assert(fd >= 0 && fcntl(fd, F_OFD_SETLK, &l) == 0);
        return fd;
}

Test(image_image_file, what_a_running_qemu_has_is_in_use)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *q = make_qcow2(dir, "a.qcow2", NULL);
        g_autoptr(GError) error = NULL;
        struct image_name n = {0};

        named(q, &n);
        cr_expect(image_file_check(&n, NULL, TRUE, &error), "%s", error ? error->message : "");
        scoped_fd int reads = lock_as_qemu(q, 100);
        cr_expect(image_file_check(&n, NULL, FALSE, &error), "%s", error ? error->message : "");
        expect_refusal(&n, NULL, TRUE, MOULT_ERROR_BUSY, "backing file of running VMs");
        scoped_fd int writes = lock_as_qemu(q, 101);
        expect_refusal(&n, NULL, FALSE, MOULT_ERROR_BUSY, "writes to it");
        image_name_clear(&n);
}

Test(image_image_file, damage_and_sizes_are_seen)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *q = make_qcow2(dir, "a.qcow2", NULL), *raw = g_build_filename(dir, "tiny.raw", NULL);
        struct image_name n = {0};
        guint8 garbage[4096];

        cr_assert(g_file_set_contents(raw, "too small", -1, NULL));
        named(raw, &n);
        expect_refusal(&n, NULL, FALSE, MOULT_ERROR_REFUSED, "from 1 MiB");
        image_name_clear(&n);
        cr_assert(g_file_set_contents(q, "no image at all", -1, NULL));
        named(q, &n);
        expect_refusal(&n, NULL, FALSE, MOULT_ERROR_REFUSED, "no qcow2");
        image_name_clear(&n);

        g_autofree char *broken = make_qcow2(dir, "b.qcow2", NULL);
        run((const char *const[]){"qemu-io", "-f", "qcow2", "-c", "write 0 1M", broken, NULL});
        scoped_fd int fd = open(broken, O_RDWR | O_CLOEXEC);
        memset(garbage, 0x7e, sizeof garbage);
        cr_assert(fd >= 0 &&
                  pwrite(fd, garbage, sizeof garbage, 0x10000) == sizeof garbage); /* the reference counts */
        named(broken, &n);
        expect_refusal(&n, NULL, FALSE, MOULT_ERROR_CORRUPT, "qemu-img check");
        image_name_clear(&n);
}
