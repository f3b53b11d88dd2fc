/* tests/unit/test_disk_disk.c - disks opened, read and written; images and processes that do not behave. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "tests/support/disk_images.h"

TestSuite(disk_disk, .timeout = 120);

#define COMMANDS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define MUST(call) cr_assert(call, "%s", error ? error->message : "no error")

static void expect_error(const GError *error, int code, const char *word)
{
        cr_assert(error != NULL);
        cr_expect(error->domain == MOULT_ERROR && error->code == code, "%d: %s", error->code, error->message);
        cr_expect(strstr(error->message, word) != NULL, "%s", error->message);
}

static void expect_no_open(const struct disk_image *chain, guint n, const struct disk_options *options,
                           int code, const char *word)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Disk) d = disk_open(chain, n, options, NULL, &error);

        cr_assert(d == NULL, "it was opened");
        expect_error(error, code, word);
}

static gboolean filled_with(Disk *d, guint64 offset, gsize len, guint8 byte)
{
        g_autofree guint8 *buf = g_malloc(len);
        g_autoptr(GError) error = NULL;

        memset(buf, ~byte, len);
        MUST(disk_read(d, offset, buf, len, NULL, &error));
        for (gsize i = 0; i < len; i++)
                if (buf[i] != byte)
                        return FALSE;
        return TRUE;
}

/* ---- what it is for ---- */

Test(disk_disk, reads_through_the_chain_as_it_was_given)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below \"quoted\", {x}: y.qcow2", "32M", NULL);
        g_autofree char *top = image_make(t, "top.qcow2", "32M", NULL);
        g_autoptr(GError) error = NULL;

        image_io(below, "qcow2", COMMANDS("write -P 1 0 32M"));
        image_io(top, "qcow2", COMMANDS("write -P 2 1M 64k", "write -z 2M 64k"));
        Disk *d = disk_must_open(top, below, FALSE);
        cr_expect(eq(u64, disk_size(d), 32u << 20));
        cr_expect(eq(str, (char *)disk_name(d), top));
        cr_expect(filled_with(d, 1 << 20, 65536, 2));
        cr_expect(filled_with(d, 2 << 20, 65536, 0));
        /* More than what is sent for at once. */
        cr_expect(filled_with(d, 3 << 20, 29 << 20, 1));
        MUST(disk_close(d, &error));
}

Test(disk_disk, what_was_written_is_there_after_closing)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "64M", NULL);
        g_autofree char *bytes = g_strnfill(20 << 20, 'x');
        g_autoptr(GError) error = NULL;

        Disk *d = disk_must_open(path, NULL, TRUE);
        MUST(disk_write(d, 1000, bytes, 20 << 20, NULL, &error));
        MUST(disk_zero(d, 10 << 20, 1 << 20, NULL, &error));
        MUST(disk_close(d, &error));
        d = disk_must_open(path, NULL, FALSE);
        cr_expect(filled_with(d, 0, 1000, 0));
        cr_expect(filled_with(d, 1000, (10 << 20) - 1000, 'x'));
        cr_expect(filled_with(d, 10 << 20, 1 << 20, 0));
        cr_expect(filled_with(d, 11 << 20, (9 << 20) + 1000, 'x'));
        MUST(disk_close(d, &error));
        tool_run((const char *const[]){"qemu-img", "check", "-q", path, NULL});
}

Test(disk_disk, zeros_hide_what_lies_below_also_in_old_images)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *below = image_make(t, "below.qcow2", "1M", NULL);
        g_autofree char *top = image_make(t, "top.qcow2", "1M", "compat=0.10");
        g_autoptr(GError) error = NULL;

        image_io(below, "qcow2", COMMANDS("write -P 1 0 1M"));
        Disk *d = disk_must_open(top, below, TRUE);
        MUST(disk_zero(d, 0, 512 << 10, NULL, &error));
        MUST(disk_write(d, 768 << 10, "y", 1, NULL, &error));
        MUST(disk_close(d, &error));
        d = disk_must_open(top, below, FALSE);
        cr_expect(filled_with(d, 0, 512 << 10, 0));
        /* The rest of the cluster came from below. */
        cr_expect(filled_with(d, (768 << 10) + 1, 65535, 1));
        disk_free(d);
}

Test(disk_disk, refuses_ranges_that_leave_it_and_writing_where_it_reads)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        g_autoptr(GError) past = NULL, wraps = NULL, write = NULL, error = NULL;
        char buf[512];

        cr_expect(not(disk_read(d, (1 << 20) - 511, buf, 512, NULL, &past)));
        expect_error(past, MOULT_ERROR_REFUSED, "leaves the disk");
        cr_expect(not(disk_read(d, G_MAXUINT64 - 10, buf, 512, NULL, &wraps)));
        expect_error(wraps, MOULT_ERROR_REFUSED, "leaves the disk");
        cr_expect(not(disk_write(d, 0, buf, 512, NULL, &write)));
        expect_error(write, MOULT_ERROR_REFUSED, "for reading only");
        /* These were questions only: it goes on. */
        MUST(disk_read(d, (1 << 20) - 512, buf, 512, NULL, &error));
        MUST(disk_read(d, 1 << 20, buf, 0, NULL, &error));
}

Test(disk_disk, a_raw_image_of_any_length_is_read)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "a.raw");
        g_autofree char *bytes = g_strnfill(5000, 'r');
        const struct disk_image chain[] = {{path, "raw"}};
        const struct disk_options options = {.size = 5000};
        g_autoptr(GError) error = NULL;

        tempdir_put(t, "a.raw", bytes, 5000);
        g_autoptr(Disk) d = disk_open(chain, 1, &options, NULL, &error);
        MUST(d != NULL);
        cr_expect(eq(u64, disk_size(d), 5120));
        cr_expect(filled_with(d, 0, 5000, 'r'));
        cr_expect(filled_with(d, 5000, 120, 0));
}

/* ---- images that are not opened ---- */

Test(disk_disk, refuses_what_cannot_be_a_chain)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autofree char *none = tempdir_path(t, "none");
        const struct disk_image raw_on_top[] = {{path, "raw"}, {path, "qcow2"}};
        const struct disk_options larger = {.size = 2 << 20};

        expect_no_open(raw_on_top, 0, NULL, MOULT_ERROR_REFUSED, "from 1 to 64 images");
        expect_no_open(raw_on_top, 2, NULL, MOULT_ERROR_REFUSED, "nothing below it");
        expect_no_open(&(struct disk_image){"a.qcow2", "qcow2"}, 1, NULL, MOULT_ERROR_REFUSED,
                       "no absolute path");
        expect_no_open(&(struct disk_image){path, "vmdk"}, 1, NULL, MOULT_ERROR_REFUSED, "has a format");
        expect_no_open(&(struct disk_image){none, "qcow2"}, 1, NULL, MOULT_ERROR_NOT_FOUND, none);
        expect_no_open(&(struct disk_image){"/dev/zero", "raw"}, 1, NULL, MOULT_ERROR_REFUSED,
                       "not a regular file");
        expect_no_open(&(struct disk_image){path, "qcow2"}, 1, &larger, MOULT_ERROR_REFUSED,
                       "not of 2097152");
}

static gboolean process_has(GPid pid, const char *path)
{
        g_autofree char *dir = g_strdup_printf("/proc/%d/fd", pid);
        g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);

        cr_assert(d != NULL);
        for (const char *name; (name = g_dir_read_name(d));) {
                g_autofree char *link = g_build_filename(dir, name, NULL);
                g_autofree char *to = g_file_read_link(link, NULL);
                if (g_strcmp0(to, path) == 0)
                        return TRUE;
        }
        return FALSE;
}

Test(disk_disk, a_backing_file_that_a_header_names_is_not_opened)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *secret = tempdir_path(t, "secret"), *fifo = tempdir_path(t, "fifo");
        g_autofree char *a = tempdir_path(t, "a.qcow2"), *b = tempdir_path(t, "b.qcow2");
        g_autofree char *below = image_make(t, "below.qcow2", "1M", NULL);
        g_autofree char *bytes = g_strnfill(1 << 20, 's');

        tempdir_put(t, "secret", bytes, 1 << 20);
        cr_assert(eq(int, mkfifo(fifo, 0600), 0));
        tool_run((const char *const[]){"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b",
                                       secret, a, "1M", NULL});
        tool_run((const char *const[]){"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b",
                                       fifo, b, "1M", NULL});
        /* As the last image, and between others. The pipe would be waited for without an end. */
        g_autoptr(Disk) last = disk_must_open(a, NULL, FALSE);
        g_autoptr(Disk) middle = disk_must_open(b, below, FALSE);
        g_autoptr(Disk) bottom = disk_must_open(below, a, FALSE);
        cr_expect(filled_with(last, 0, 1 << 20, 0));
        cr_expect(filled_with(middle, 0, 1 << 20, 0));
        cr_expect(filled_with(bottom, 0, 1 << 20, 0));
        cr_expect(process_has(disk_process(last), a));
        cr_expect(not(process_has(disk_process(last), secret)));
        cr_expect(not(process_has(disk_process(bottom), secret)));
        cr_expect(not(process_has(disk_process(middle), fifo)));
        /* Its unwritten rest would be filled up with zeros that are not there. */
        expect_no_open(&(struct disk_image){a, "qcow2"}, 1, &(struct disk_options){.writable = TRUE},
                       MOULT_ERROR_REFUSED, "would hide what lies there");
}

static void patch(const char *path, off_t at, const void *bytes, size_t len)
{
        scoped_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

        cr_assert(fd >= 0 && pwrite(fd, bytes, len, at) == (ssize_t)len);
}

Test(disk_disk, an_image_whose_data_are_elsewhere_or_with_unknown_features_is_not_opened)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *data = tempdir_path(t, "data"), *option = g_strconcat("data_file=", data, NULL);
        g_autofree char *a = image_make(t, "a.qcow2", "1M", option);
        g_autofree char *b = image_make(t, "b.qcow2", "1M", NULL);
        const struct disk_image chain[] = {{b, "qcow2"}, {a, "qcow2"}};

        expect_no_open(chain, 2, NULL, MOULT_ERROR_REFUSED, "in another file");
        patch(b, 74, "\x80", 1);
        expect_no_open(chain, 1, NULL, MOULT_ERROR_REFUSED, "not known here");
}

Test(disk_disk, damage_is_told_as_such)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *cut = tempdir_path(t, "cut.qcow2");
        g_autofree char *tables = image_make(t, "tables.qcow2", "1M", NULL);
        g_autofree char *entry = image_make(t, "entry.qcow2", "1M", NULL);
        g_autoptr(GError) error = NULL, again = NULL;
        guint64 l1 = 0;
        char buf[512];

        tempdir_put(t, "cut.qcow2", "QFI\xfb", 4);
        expect_no_open(&(struct disk_image){cut, "qcow2"}, 1, NULL, MOULT_ERROR_CORRUPT, "cut off");
        /* The number of entries of the first table: more than there can be. */
        patch(tables, 36, "\xff\xff\xff\xff", 4);
        expect_no_open(&(struct disk_image){tables, "qcow2"}, 1, NULL, MOULT_ERROR_CORRUPT, "qemu-nbd says");
        /* A table that begins in the middle of a cluster. */
        image_io(entry, "qcow2", COMMANDS("write -P 1 0 64k"));
        scoped_fd int fd = open(entry, O_RDONLY | O_CLOEXEC);
        MUST(fd_pread_all(fd, &l1, sizeof l1, 40, entry, &error));
        patch(entry, (off_t)GUINT64_FROM_BE(l1), "\x80\0\0\0\0\0\x02\0", 8);
        g_autoptr(Disk) d = disk_must_open(entry, NULL, FALSE);
        cr_expect(not(disk_read(d, 0, buf, sizeof buf, NULL, &error)));
        expect_error(error, MOULT_ERROR_CORRUPT, "orrupt");
        /* And it stays so. */
        cr_expect(not(disk_read(d, 0, buf, sizeof buf, NULL, &again)));
        cr_expect(eq(str, again->message, error->message));
}

/* ---- others ---- */

Test(disk_disk, an_image_that_a_QEMU_has_is_busy)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        const struct disk_options writable = {.writable = TRUE};
        const struct disk_image image = {path, "qcow2"};
        g_autoptr(GError) error = NULL;

        g_autoptr(Disk) writes = disk_must_open(path, NULL, TRUE);
        expect_no_open(&image, 1, NULL, MOULT_ERROR_BUSY, "writes to it");
        MUST(disk_close(g_steal_pointer(&writes), &error));
        g_autoptr(Disk) reads = disk_must_open(path, NULL, FALSE);
        g_autoptr(Disk) too = disk_must_open(path, NULL, FALSE);
        expect_no_open(&image, 1, &writable, MOULT_ERROR_BUSY, "reads it");
}

Test(disk_disk, a_lock_that_only_qemu_nbd_sees_is_busy_too)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        const struct disk_image twice[] = {{path, "qcow2"}, {path, "qcow2"}};

        /* One file in two places of a chain that is written: nobody has it yet when it is looked at. */
        expect_no_open(twice, 2, &(struct disk_options){.writable = TRUE}, MOULT_ERROR_BUSY, "qemu-nbd says");
}

Test(disk_disk, a_full_file_system_is_told_as_such)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL, closing = NULL;
        g_autofree char *bytes = g_strnfill(16 << 20, 'x');

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", t->path, "tmpfs", 0, "size=8m") < 0)
                cr_skip_test("no right to mount");
        g_autofree char *path = image_make(t, "a.qcow2", "64M", NULL);
        Disk *d = disk_must_open(path, NULL, TRUE);
        cr_expect(not(disk_write(d, 0, bytes, 16 << 20, NULL, &error)));
        expect_error(error, MOULT_ERROR_NO_SPACE, path);
        cr_expect(not(disk_close(d, &closing)));
        expect_error(closing, MOULT_ERROR_NO_SPACE, path);
        cr_assert(eq(int, umount(t->path), 0));
}

/* ---- the process ---- */

Test(disk_disk, a_qemu_nbd_that_is_killed_is_an_error)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        g_autoptr(GError) error = NULL;
        char buf[512];

        cr_assert(eq(int, kill(disk_process(d), SIGKILL), 0));
        cr_expect(not(disk_read(d, 0, buf, sizeof buf, NULL, &error)));
        expect_error(error, MOULT_ERROR_IO, "killed by signal 9");
        expect_error(error, MOULT_ERROR_IO, path);
}

Test(disk_disk, one_that_does_not_answer_is_given_up_and_ended)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        const struct disk_image image = {path, "qcow2"};
        const struct disk_options impatient = {.answer_seconds = 1};
        g_autoptr(GError) error = NULL;
        char buf[512];

        g_autoptr(Disk) d = disk_open(&image, 1, &impatient, NULL, &error);
        MUST(d != NULL);
        cr_assert(eq(int, kill(disk_process(d), SIGSTOP), 0));
        cr_expect(not(disk_read(d, 0, buf, sizeof buf, NULL, &error)));
        expect_error(error, MOULT_ERROR_TIMEOUT, "has not answered for 1 seconds");
}

/* In place of the real one: @script. */
static void fake_qemu_nbd(TempDir *t, const char *script)
{
        g_autofree char *path = tempdir_path(t, "qemu-nbd");

        tempdir_put(t, "qemu-nbd", script, strlen(script));
        cr_assert(eq(int, chmod(path, 0755), 0));
        g_autofree char *search = g_strconcat(t->path, ":", g_getenv("PATH"), NULL);
        g_setenv("PATH", search, TRUE);
}

Test(disk_disk, one_that_never_says_hello_is_given_up)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);

        fake_qemu_nbd(t, "#!/bin/sh\nexec sleep 1000\n");
        expect_no_open(&(struct disk_image){path, "qcow2"}, 1, &(struct disk_options){.answer_seconds = 1},
                       MOULT_ERROR_TIMEOUT, "opening");
}

Test(disk_disk, its_last_words_are_in_the_error)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);

        fake_qemu_nbd(t, "#!/bin/sh\necho first words >&2; echo the last words >&2; exit 1\n");
        expect_no_open(&(struct disk_image){path, "qcow2"}, 1, NULL, MOULT_ERROR_CORRUPT,
                       "qemu-nbd says: the last words");
        fake_qemu_nbd(t, "#!/bin/sh\nexit 3\n");
        expect_no_open(&(struct disk_image){path, "qcow2"}, 1, NULL, MOULT_ERROR_IO, "qemu-nbd ended with 3");
        g_setenv("PATH", "/nowhere", TRUE);
        expect_no_open(&(struct disk_image){path, "qcow2"}, 1, NULL, MOULT_ERROR_UNSUPPORTED, "qemu-utils");
}

Test(disk_disk, a_call_that_waits_is_cancelled_at_once)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        g_autoptr(GCancellable) c = g_cancellable_new();
        g_autoptr(GError) error = NULL;
        char buf[512];

        /* It will not answer, so the call can end by this only; the test's deadline is shorter than its own.
         */
        cr_assert(eq(int, kill(disk_process(d), SIGSTOP), 0));
        g_autoptr(GThread) thread =
                g_thread_new("cancel", (GThreadFunc)(void (*)(void))g_cancellable_cancel, c);
        cr_expect(not(disk_read(d, 0, buf, sizeof buf, c, &error)));
        expect_error(error, MOULT_ERROR_CANCELLED, "reading");
        g_thread_join(g_steal_pointer(&thread));
}

/* Waits for the end of a process that is not our child. */
static void expect_end(GPid pid)
{
        scoped_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        struct pollfd p = {fd, POLLIN, 0};

        cr_expect(fd < 0 || poll(&p, 1, 60000) == 1, "qemu-nbd %d is still there", pid);
}

static void open_and_wait(const char *path, int to)
{
        const struct disk_image image = {path, "qcow2"};
        Disk *d = disk_open(&image, 1, NULL, NULL, NULL);
        GPid pid = d ? disk_process(d) : 0;

        (void)!write(to, &pid, sizeof pid);
        for (;;)
                pause();
}

Test(disk_disk, none_survives_us_however_we_end)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        int pipe_fds[2], status;
        GPid pid = 0;

        cr_assert(eq(int, pipe(pipe_fds), 0));
        pid_t child = fork();
        if (child == 0)
                open_and_wait(path, pipe_fds[1]);
        cr_assert(eq(sz, (size_t)read(pipe_fds[0], &pid, sizeof pid), sizeof pid));
        cr_assert(pid > 0);
        /* It could not end because it was told to: it stands still. */
        cr_assert(eq(int, kill(pid, SIGSTOP), 0));
        cr_assert(eq(int, kill(child, SIGKILL), 0));
        cr_assert(eq(int, waitpid(child, &status, 0), child));
        expect_end(pid);
}

static gpointer open_in_thread(gpointer path)
{
        return disk_must_open(path, NULL, FALSE);
}

Test(disk_disk, the_thread_that_opened_it_may_end_before_it)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autoptr(GError) error = NULL;

        Disk *d = g_thread_join(g_thread_new("opens", open_in_thread, path));
        cr_expect(filled_with(d, 0, 1 << 20, 0));
        GPid pid = disk_process(d);
        MUST(disk_close(d, &error));
        cr_expect(kill(pid, 0) < 0 && errno == ESRCH);
}

Test(disk_disk, it_is_bounded)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = image_make(t, "a.qcow2", "1M", NULL);
        g_autoptr(Disk) d = disk_must_open(path, NULL, FALSE);
        g_autofree char *name = g_strdup_printf("/proc/%d/limits", disk_process(d)), *text = NULL;

        cr_assert(g_file_get_contents(name, &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        guint found = 0;
        for (guint i = 0; lines[i]; i++)
                found += (g_str_has_prefix(lines[i], "Max address space") &&
                          strstr(lines[i], " 4294967296 ")) ||
                         (g_str_has_prefix(lines[i], "Max core file size") && strstr(lines[i], " 0 ")) ||
                         (g_str_has_prefix(lines[i], "Max open files") && strstr(lines[i], " 256 "));
        cr_expect(eq(u32, found, 3), "%s", text);
}
