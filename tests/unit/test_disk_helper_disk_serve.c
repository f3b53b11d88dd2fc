/* tests/unit/test_disk_helper_disk_serve.c - moult-disks over a socket pair: a whole snapshot of a disk's
 * files, and all that it refuses. Nothing outside of the listed directory may change in any of it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_lock.h"
#include "host-service/disk-helper/disk_message.h"
#include "host-service/disk-helper/disk_packet.h"
#include "host-service/disk-helper/disk_serve.h"
#include "tests/support/tempdir.h"

TestSuite(disk_serve, .timeout = 60);

#define TOP  "d.moult-01HF7YBKBWB2NZVZDMR1TRA8XA-0.layer"
#define NEXT "d.moult-01HF7YBKBWB2NZVZDMR1TRA8XB-0.layer"
#define MIB  (UINT64_C(1) << 20)

/* "vms" is listed, "other" is not; both have a disk "d". */
typedef struct {
        TempDir *t;
        DiskDirs *dirs;
        GSocket *here;
        GThread *thread;
        struct disk_service service;
        GSocket *there;
} Rig;

static void run(const Rig *r, const char *command)
{
        g_autofree char *line = g_strdup_printf("cd %s && %s", r->t->path, command);

        cr_assert(eq(int, system(line), 0), "%s", command);
}

static gpointer serve(gpointer data)
{
        Rig *r = data;

        disk_serve(r->there, &r->service, NULL);
        g_socket_close(r->there, NULL);
        return NULL;
}

static void rig_connect(Rig *r)
{
        int pair[2];

        cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0));
        r->here = g_socket_new_from_fd(pair[0], NULL);
        r->there = g_socket_new_from_fd(pair[1], NULL);
        r->thread = g_thread_new("serve", serve, r);
}

static Rig *rig_new(void)
{
        Rig *r = g_new0(Rig, 1);
        g_autofree char *config = NULL, *text = NULL;
        g_autoptr(GError) error = NULL;

        r->t = tempdir_new();
        r->service = (struct disk_service){.run_dir = r->t->path, .user = getuid()};
        run(r, "mkdir -p vms/below other && for d in vms vms/below other; do qemu-img create -q -f qcow2 "
               "$d/d 8M && "
               "chmod 640 $d/d; done && ln -s ../other vms/link && ln -s other led");
        text = g_strdup_printf("[moult-disks]\ndirectories = %s/vms/ ; %s/led/deeper\n", r->t->path,
                               r->t->path);
        tempdir_put(r->t, "disks.conf", text, strlen(text));
        config = tempdir_path(r->t, "disks.conf");
        r->dirs = disk_dirs_read(config, &error);
        cr_assert(r->dirs != NULL, "%s", error ? error->message : "");
        r->service.dirs = r->dirs;
        rig_connect(r);
        return r;
}

static void rig_hang_up(Rig *r)
{
        g_socket_close(r->here, NULL);
        g_thread_join(r->thread);
        g_clear_object(&r->here);
        g_clear_object(&r->there);
}

static void rig_free(Rig *r)
{
        rig_hang_up(r);
        disk_dirs_free(r->dirs);
        tempdir_free(r->t);
        g_free(r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

static gboolean ask_packet(Rig *r, GBytes *request, int fd, struct layer_look *ret, GError **error)
{
        g_autoptr(GBytes) answer = NULL;
        int none = -1;

        cr_assert(disk_packet_send(r->here, request, fd, NULL, error));
        answer = disk_packet_receive(r->here, &none, NULL, error);
        cr_assert(answer != NULL);
        cr_expect(eq(int, none, -1));
        return disk_answer_read(answer, ret, error);
}

static gboolean ask(Rig *r, const char *dir, enum layer_operation operation, int fd, struct layer_look *ret,
                    GError **error)
{
        g_autofree char *path = tempdir_path(r->t, dir), *top = g_build_filename(path, TOP, NULL);
        LayerLinks l = {.dir = path,
                        .well_known = (char *)"d",
                        .top = (char *)TOP,
                        .next = (char *)NEXT,
                        .below = top,
                        .size = 8 * MIB};
        g_autoptr(GBytes) request = disk_request_write(&l, operation);

        return ask_packet(r, request, fd, ret, error);
}

static void expect_refused(Rig *r, const char *dir, enum layer_operation operation, int fd, MoultError code,
                           const char *text)
{
        g_autoptr(GError) error = NULL;

        cr_assert(not(ask(r, dir, operation, fd, NULL, &error)), "%s", dir);
        cr_expect(g_error_matches(error, MOULT_ERROR, (gint)code), "%s: %s", dir, error->message);
        cr_expect(strstr(error->message, text) != NULL, "%s: %s", dir, error->message);
}

/* An image that stands on @below. */
static int new_image(Rig *r, const char *below, const char *options)
{
        g_autofree char *line = g_strdup_printf(
                "rm -f image && qemu-img create -q -u -f qcow2 %s -b '%s' -F qcow2 image 8M", options, below);

        run(r, line);
        return openat(r->t->fd, "image", O_RDONLY | O_CLOEXEC);
}

Test(disk_serve, a_snapshot_is_made_and_goes_back)
{
        g_autoptr(Rig) r = rig_new();
        g_autofree char *below = tempdir_path(r->t, "vms/below/" TOP);
        scoped_fd int image = new_image(r, below, "");
        static const enum layer_operation back[] = {LAYER_PLACE_TOP, LAYER_REMOVE_NEXT, LAYER_UNNAME_TOP};
        g_autoptr(GError) error = NULL;
        struct layer_look look;
        struct stat st;

        for (int again = 0; again < 2; again++) {
                cr_assert(ask(r, "vms/below", LAYER_NAME_TOP, -1, NULL, NULL));
                cr_assert(ask(r, "vms/below", LAYER_MAKE_NEXT, image, NULL, &error), "%s", error->message);
        }
        cr_assert(ask(r, "vms/below", LAYER_PLACE_NEXT, -1, NULL, NULL));
        cr_assert(ask(r, "vms/below", LAYER_LOOK, -1, &look, NULL));
        cr_expect(eq(int, look.well_known, WELL_KNOWN_NEXT));
        cr_expect(look.has_top && look.has_next && look.disk_use == IMAGE_FREE);
        cr_assert(eq(int, fstatat(r->t->fd, "vms/below/d", &st, 0), 0));
        cr_expect(eq(int, (int)(st.st_mode & 07777), 0640));
        cr_expect(eq(u64, (guint64)st.st_nlink, 2));
        run(r, "qemu-img check -q -f qcow2 vms/below/d");
        for (gsize i = 0; i < G_N_ELEMENTS(back); i++)
                cr_assert(ask(r, "vms/below", back[i], -1, NULL, NULL));
        run(r, "test \"$(ls vms/below)\" = d");
}

Test(disk_serve, the_locks_of_a_qemu_are_seen)
{
        g_autoptr(Rig) r = rig_new();
        struct layer_look look;
        scoped_fd int fd = openat(r->t->fd, "vms/d", O_RDWR | O_CLOEXEC);
        struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};

        cr_assert(eq(int, fcntl(fd, F_OFD_SETLK, &lock), 0));
        cr_assert(ask(r, "vms", LAYER_LOOK, -1, &look, NULL));
        cr_expect(eq(int, look.disk_use, IMAGE_WRITTEN));
}

Test(disk_serve, what_is_not_listed_is_not_touched)
{
        g_autoptr(Rig) r = rig_new();

        run(r, "find vms other -printf '%p %i %n %T@\\n' | sort >before");
        for (int op = 0; op < LAYER_OPERATIONS; op++) {
                int image = op == LAYER_MAKE_NEXT ? r->t->fd : -1;

                expect_refused(r, "other", (enum layer_operation)op, image, MOULT_ERROR_REFUSED,
                               "disks.conf");
                expect_refused(r, "vmsx", (enum layer_operation)op, image, MOULT_ERROR_REFUSED, "disks.conf");
                expect_refused(r, "", (enum layer_operation)op, image, MOULT_ERROR_REFUSED, "disks.conf");
                expect_refused(r, "vms/../other", (enum layer_operation)op, image, MOULT_ERROR_REFUSED,
                               "no plain path");
                expect_refused(r, "vms/link", (enum layer_operation)op, image, MOULT_ERROR_REFUSED,
                               "symbolic link");
                expect_refused(r, "vms/none", (enum layer_operation)op, image, MOULT_ERROR_NOT_FOUND, "none");
        }
        run(r, "find vms other -printf '%p %i %n %T@\\n' | sort | cmp - before");
}

Test(disk_serve, only_a_regular_file_is_a_disk)
{
        g_autoptr(Rig) r = rig_new();

        run(r, "rm vms/d && ln -s ../other/d vms/d");
        expect_refused(r, "vms", LAYER_NAME_TOP, -1, MOULT_ERROR_REFUSED, "no regular file");
        run(r, "rm vms/d && mkfifo vms/d");
        expect_refused(r, "vms", LAYER_LOOK, -1, MOULT_ERROR_REFUSED, "no regular file");
        run(r, "rm vms/d");
        expect_refused(r, "vms", LAYER_LOOK, -1, MOULT_ERROR_NOT_FOUND, "there is no");
}

Test(disk_serve, only_an_empty_image_over_the_present_top_is_made_a_layer)
{
        g_autoptr(Rig) r = rig_new();
        g_autofree char *below = tempdir_path(r->t, "vms/" TOP);
        int pipe_ends[2];
        g_autoptr(GError) error = NULL;

        cr_assert(ask(r, "vms", LAYER_NAME_TOP, -1, NULL, NULL));
        expect_refused(r, "vms", LAYER_MAKE_NEXT, -1, MOULT_ERROR_MALFORMED, "is made of an image");
        {
                scoped_fd int image = new_image(r, "/etc/shadow", "");

                expect_refused(r, "vms", LAYER_MAKE_NEXT, image, MOULT_ERROR_REFUSED, "another file");
                expect_refused(r, "vms", LAYER_NAME_TOP, image, MOULT_ERROR_MALFORMED, "nothing else is");
        }
        {
                scoped_fd int image = new_image(r, below, "-o data_file=elsewhere");

                expect_refused(r, "vms", LAYER_MAKE_NEXT, image, MOULT_ERROR_REFUSED, "another file");
        }
        {
                scoped_fd int image = new_image(r, below, "");

                run(r, "qemu-img resize -q image 9M");
                expect_refused(r, "vms", LAYER_MAKE_NEXT, image, MOULT_ERROR_REFUSED, "another size");
        }
        {
                scoped_fd int image = openat(r->t->fd, "large", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

                cr_assert(eq(int, ftruncate(image, LAYER_IMAGE_MAX + 1), 0));
                expect_refused(r, "vms", LAYER_MAKE_NEXT, image, MOULT_ERROR_REFUSED, "no empty image");
                cr_assert(eq(int, ftruncate(image, 0), 0));
                expect_refused(r, "vms", LAYER_MAKE_NEXT, image, MOULT_ERROR_REFUSED, "no qcow2");
        }
        cr_assert(eq(int, pipe2(pipe_ends, O_CLOEXEC), 0));
        expect_refused(r, "vms", LAYER_MAKE_NEXT, pipe_ends[0], MOULT_ERROR_REFUSED, "no empty image");
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        run(r, "test ! -e vms/" NEXT);
}

static gboolean make_over(Rig *r, const char *below, int image, GError **error)
{
        g_autofree char *path = tempdir_path(r->t, "vms");
        LayerLinks l = {.dir = path,
                        .well_known = (char *)"d",
                        .top = (char *)TOP,
                        .next = (char *)NEXT,
                        .below = (char *)below,
                        .size = 8 * MIB};
        g_autoptr(GBytes) request = disk_request_write(&l, LAYER_MAKE_NEXT);

        return ask_packet(r, request, image, NULL, error);
}

Test(disk_serve, a_new_file_stands_on_an_image_that_is_there_or_on_nothing)
{
        g_autoptr(Rig) r = rig_new();
        g_autofree char *base = tempdir_path(r->t, "vms/below/d"), *outside = tempdir_path(r->t, "other/d"),
                        *led = tempdir_path(r->t, "vms/file-link");
        scoped_fd int over = new_image(r, base, ""), alone = -1, away = -1, link = -1;
        g_autoptr(GError) error = NULL;

        cr_assert(make_over(r, base, over, &error), "%s", error ? error->message : "");
        run(r, "qemu-img info vms/" NEXT " | grep -q 'backing file: .*vms/below/d'");
        run(r, "rm image && qemu-img create -q -f qcow2 image 8M");
        alone = openat(r->t->fd, "image", O_RDONLY | O_CLOEXEC);
        cr_assert(make_over(r, NULL, alone, NULL));
        run(r, "! qemu-img info vms/" NEXT " | grep 'backing file:'");
        cr_expect(not(make_over(r, base, alone, &error)), "it stands on nothing");
        g_clear_error(&error);
        cr_expect(not(make_over(r, NULL, over, &error)), "it stands on something");
        g_clear_error(&error);
        away = new_image(r, outside, "");
        cr_expect(not(make_over(r, outside, away, &error)));
        cr_expect(strstr(error->message, "disks.conf") != NULL, "%s", error->message);
        g_clear_error(&error);
        run(r, "ln -s ../other/d vms/file-link");
        link = new_image(r, led, "");
        cr_expect(not(make_over(r, led, link, &error)));
        cr_expect(strstr(error->message, "no regular file") != NULL, "%s", error->message);
}

Test(disk_serve, somebody_else_is_told_no_and_nothing_is_read)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GBytes) answer = NULL;
        g_autoptr(GError) error = NULL;
        int none;

        rig_hang_up(r);
        r->service.user = getuid() + 1;
        /* The kernel notes who makes the pair; root may always ask. */
        cr_assert(getuid() != 0 || seteuid(65534) == 0);
        rig_connect(r);
        cr_assert(getuid() != 0 || seteuid(0) == 0);
        answer = disk_packet_receive(r->here, &none, NULL, NULL);
        cr_assert(answer != NULL);
        cr_expect(not(disk_answer_read(answer, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(disk_serve, what_is_no_request_ends_nothing_but_is_answered)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GBytes) noise = g_bytes_new_static("\x01noise", 6);
        g_autoptr(GError) error = NULL;

        cr_expect(not(ask_packet(r, noise, -1, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED));
        cr_expect(ask(r, "vms", LAYER_LOOK, -1, &(struct layer_look){0}, NULL));
}

Test(disk_serve, a_packet_that_is_too_long_is_the_last)
{
        g_autoptr(Rig) r = rig_new();
        g_autofree char *text = g_strnfill(DISK_PACKET_MAX + 1, 'x');
        g_autoptr(GBytes) large = g_bytes_new(text, DISK_PACKET_MAX + 1), end = NULL;
        g_autoptr(GError) error = NULL;
        int none;

        cr_expect(not(ask_packet(r, large, -1, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED));
        end = disk_packet_receive(r->here, &none, NULL, NULL);
        cr_expect(end == NULL);
}

Test(disk_serve, two_descriptors_are_one_too_many)
{
        g_autoptr(Rig) r = rig_new();
        char byte = DISK_PROTOCOL;
        struct iovec v = {&byte, 1};
        union {
                char space[CMSG_SPACE(2 * sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct msghdr m = {.msg_iov = &v,
                           .msg_iovlen = 1,
                           .msg_control = control.space,
                           .msg_controllen = sizeof control.space};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        int fds[2] = {0, 1}, none;
        g_autoptr(GBytes) answer = NULL;
        g_autoptr(GError) error = NULL;

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(c), fds, sizeof fds);
        cr_assert(eq(int, (int)sendmsg(g_socket_get_fd(r->here), &m, 0), 1));
        answer = disk_packet_receive(r->here, &none, NULL, NULL);
        cr_assert(answer != NULL);
        cr_expect(not(disk_answer_read(answer, NULL, &error)));
        cr_expect(strstr(error->message, "more than one descriptor") != NULL);
}

Test(disk_serve, nothing_is_done_for_a_moultd_that_has_gone_meanwhile)
{
        g_autoptr(Rig) r = rig_new();
        g_autofree char *path = tempdir_path(r->t, "vms");
        LayerLinks l = {.dir = path, .well_known = (char *)"d", .top = (char *)TOP, .next = (char *)NEXT};
        g_autoptr(GBytes) request = disk_request_write(&l, LAYER_NAME_TOP);
        scoped_fd int dir = openat(r->t->fd, "vms", O_RDONLY | O_CLOEXEC), lock = -1;

        lock = disk_lock_take(r->t->path, dir, "d", NULL);
        cr_assert(lock >= 0);
        cr_assert(disk_packet_send(r->here, request, -1, NULL, NULL));
        g_socket_close(r->here, NULL);
        close(g_steal_fd(&lock));
        rig_hang_up(r);
        run(r, "test ! -e vms/" TOP);
        /* The same of one that is there. */
        rig_connect(r);
        cr_assert(ask(r, "vms", LAYER_NAME_TOP, -1, NULL, NULL));
        run(r, "test -e vms/" TOP);
}
