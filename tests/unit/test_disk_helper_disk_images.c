/* tests/unit/test_disk_helper_disk_images.c - images through moult-disks, with the real qemu-nbd: what may be
 * opened, that it can open nothing else, and when it ends. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_confine.h"
#include "host-service/disk-helper/disk_images.h"
#include "host-service/disk-helper/disk_serve.h"
#include "tests/support/tempdir.h"

TestSuite(disk_images, .timeout = 60);

#define LAYER "d.moult-01HF7YBKBWB2NZVZDMR1TRA8XA-0.layer"

/* A moult-disks that listens at "s", for one connection after the other. */
typedef struct {
        TempDir *t;
        DiskDirs *dirs;
        struct disk_service service;
        char *path;
        GSocket *listening;
        GCancellable *end;
        GThread *thread;
} Rig;

static void run(const Rig *r, const char *command)
{
        g_autofree char *line = g_strdup_printf("cd %s && %s", r->t->path, command);

        cr_assert(eq(int, system(line), 0), "%s", command);
}

static gpointer serve(gpointer data)
{
        Rig *r = data;
        GSocket *s;

        while ((s = g_socket_accept(r->listening, r->end, NULL))) {
                disk_serve(s, &r->service, NULL);
                g_socket_close(s, NULL);
                g_object_unref(s);
        }
        return NULL;
}

static Rig *rig_new(void)
{
        Rig *r = g_new0(Rig, 1);
        g_autofree char *config = NULL, *text = NULL;
        g_autoptr(GSocketAddress) address = NULL;

        r->t = tempdir_new();
        run(r, "mkdir vms other && qemu-img create -q -f qcow2 other/base 8M && qemu-io -c 'write -q -P 7 0 "
               "64k' "
               "other/base && for f in vms/d vms/" LAYER " other/" LAYER
               "; do qemu-img create -q -f qcow2 -b $PWD/other/base -F qcow2 $f; done && ln -s ../other/base "
               "vms/link");
        text = g_strdup_printf("[moult-disks]\ndirectories = %s/vms\n", r->t->path);
        tempdir_put(r->t, "disks.conf", text, strlen(text));
        config = tempdir_path(r->t, "disks.conf");
        r->dirs = disk_dirs_read(config, NULL);
        cr_assert(r->dirs != NULL);
        r->service = (struct disk_service){.dirs = r->dirs, .run_dir = r->t->path, .user = getuid()};
        r->path = tempdir_path(r->t, "s");
        r->end = g_cancellable_new();
        r->listening = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_SEQPACKET, 0, NULL);
        address = g_unix_socket_address_new(r->path);
        cr_assert(g_socket_bind(r->listening, address, FALSE, NULL) && g_socket_listen(r->listening, NULL));
        r->thread = g_thread_new("serve", serve, r);
        return r;
}

static void rig_free(Rig *r)
{
        g_cancellable_cancel(r->end);
        g_thread_join(r->thread);
        g_object_unref(r->listening);
        g_object_unref(r->end);
        disk_dirs_free(r->dirs);
        tempdir_free(r->t);
        g_free(r->path);
        g_free(r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

static DiskProcess *open_image(Rig *r, const char *name, const char *format, gboolean writable, int *ret_nbd,
                               GError **error)
{
        g_autofree char *path = tempdir_path(r->t, name);
        const struct disk_image chain[] = {{path, format}};
        const struct disk_options options = {.writable = writable};

        return disk_images_open(r->path, chain, 1, &options, -1, ret_nbd, error);
}

/* What qemu-nbd says first, once it has opened the images; 0: it has ended. */
static gsize greeting(int nbd, char *ret, gsize size)
{
        gsize len = 0;
        gssize n;

        while (len < size && (n = read(nbd, ret + len, size - len)) > 0)
                len += (gsize)n;
        return len;
}

static void expect_refused(Rig *r, const char *name, gboolean writable, MoultError code, const char *text)
{
        g_autoptr(GError) error = NULL;
        int nbd = -1;

        cr_assert(open_image(r, name, "qcow2", writable, &nbd, &error) == NULL, "%s", name);
        cr_expect(g_error_matches(error, MOULT_ERROR, (gint)code), "%s: %s", name, error->message);
        cr_expect(strstr(error->message, text) != NULL, "%s: %s", name, error->message);
        cr_expect(eq(int, nbd, -1));
}

Test(disk_images, an_image_is_served_without_what_its_header_names)
{
        g_autoptr(Rig) r = rig_new();
        g_autoptr(GError) error = NULL;
        scoped_fd int nbd = -1;
        char magic[8], rest[4096];
        DiskProcess *p;
        int status;

        run(r, "rm other/base"); /* which is named there */
        p = open_image(r, "vms/" LAYER, "qcow2", FALSE, &nbd, &error);
        cr_assert(p != NULL, "%s", error ? error->message : "");
        cr_assert(eq(sz, greeting(nbd, magic, sizeof magic), sizeof magic));
        cr_expect(memcmp(magic, "NBDMAGIC", sizeof magic) == 0);
        cr_expect(not(disk_process_wait(p, 0, &status)));
        disk_process_free(p);
        cr_expect(lt(sz, greeting(nbd, rest, sizeof rest), sizeof rest), "it has ended with us");
}

Test(disk_images, the_end_of_the_process_is_told_with_its_words)
{
        g_autoptr(Rig) r = rig_new();
        scoped_fd int nbd = -1;
        g_autofree char *words = NULL;
        DiskProcess *p;
        int status = 0;

        /* A header that passes, and tables that do not. */
        run(r, "printf '\\377\\377\\377\\377\\377\\377\\377\\377' | dd of=vms/" LAYER
               " bs=1 seek=40 conv=notrunc 2>/dev/null");
        p = open_image(r, "vms/" LAYER, "qcow2", FALSE, &nbd, NULL);
        cr_assert(p != NULL);
        cr_assert(disk_process_wait(p, 50, &status));
        cr_expect(eq(int, WIFEXITED(status) ? WEXITSTATUS(status) : -1, 1));
        words = disk_process_last_words(p);
        cr_expect(strstr(words, "L1 table") != NULL, "%s", words);
        disk_process_free(p);
}

Test(disk_images, what_is_not_allowed_is_not_opened)
{
        g_autoptr(Rig) r = rig_new();

        expect_refused(r, "other/base", FALSE, MOULT_ERROR_REFUSED, "disks.conf");
        expect_refused(r, "other/" LAYER, TRUE, MOULT_ERROR_REFUSED, "disks.conf");
        expect_refused(r, "vms/../other/base", FALSE, MOULT_ERROR_REFUSED, "no plain one");
        expect_refused(r, "vms/link", FALSE, MOULT_ERROR_IO, "symbolic link");
        expect_refused(r, "vms", FALSE, MOULT_ERROR_REFUSED, "disks.conf");
        expect_refused(r, "vms/none", FALSE, MOULT_ERROR_NOT_FOUND, "vms/none");
        expect_refused(r, "vms/d", TRUE, MOULT_ERROR_REFUSED, "no layer's name");
        run(r, "mkfifo vms/pipe && cp /bin/true vms/noise");
        expect_refused(r, "vms/pipe", FALSE, MOULT_ERROR_REFUSED, "not a regular file");
        expect_refused(r, "vms/noise", FALSE, MOULT_ERROR_CORRUPT, "no qcow2");
}

/* In a child: how opening ends under the rules for @fd: 0, or a number of errno. */
static int try_open(int fd, gboolean writable, const char *path, int flags)
{
        int ruleset = disk_confine_to(&fd, 1, writable, NULL), status;
        pid_t child = fork();

        if (child == 0) {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if (ruleset < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
                        _exit(255);
                _exit(open(path, flags, 0600) < 0 ? errno : 0);
        }
        close(ruleset);
        waitpid(child, &status, 0);
        return WEXITSTATUS(status);
}

Test(disk_images, a_process_that_is_confined_opens_its_images_and_no_other_file)
{
        g_autoptr(Rig) r = rig_new();
        scoped_fd int fd = openat(r->t->fd, "vms/d", O_RDWR | O_CLOEXEC), probe = -1;
        g_autofree char *own = g_strdup_printf("/proc/self/fd/%d", fd),
                        *other = tempdir_path(r->t, "other/base"), *made = tempdir_path(r->t, "vms/new");

        probe = disk_confine_to(&fd, 1, FALSE, NULL);
        if (probe < 0)
                cr_skip("this kernel has no Landlock");
        cr_expect(eq(int, try_open(fd, FALSE, own, O_RDONLY), 0));
        cr_expect(eq(int, try_open(fd, FALSE, own, O_RDWR), EACCES));
        cr_expect(eq(int, try_open(fd, TRUE, own, O_RDWR), 0));
        cr_expect(eq(int, try_open(fd, TRUE, other, O_RDONLY), EACCES));
        cr_expect(eq(int, try_open(fd, TRUE, made, O_WRONLY | O_CREAT), EACCES));
        cr_expect(eq(int, try_open(fd, TRUE, "/etc/passwd", O_RDONLY), EACCES));
        cr_expect(eq(int, try_open(fd, TRUE, "/usr/bin/env", O_RDONLY), 0));
}
