/* tests/unit/test_common_fs_beneath.c - what a path from a pack may reach, and what it may not. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "tests/support/tempdir.h"

TestSuite(fs_beneath, .timeout = 20);

struct refusal {
        char path[32];
        size_t len;
        char why[48];
};

ParameterizedTestParameters(fs_beneath, refuses_bad_path)
{
        static struct refusal cases[] = {
                {"", 0, "path is empty"},
                {"/etc", 4, "path is absolute"},
                {"etc/", 4, "path ends in '/'"},
                {"etc//a", 6, "path has an empty component"},
                {".", 1, "path has a '.' component"},
                {"a/.", 3, "path has a '.' component"},
                {"a/./b", 5, "path has a '.' component"},
                {"..", 2, "path has a '..' component"},
                {"a/..", 4, "path has a '..' component"},
                {"../a", 4, "path has a '..' component"},
                {"a/../b", 6, "path has a '..' component"},
                {"a\0b", 3, "path holds a NUL byte"},
        };
        return cr_make_param_array(struct refusal, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct refusal *c, fs_beneath, refuses_bad_path)
{
        const char *why = fs_path_refusal((const guint8 *)c->path, c->len);
        cr_assert(ne(ptr, (void *)why, NULL));
        cr_expect(eq(str, (char *)why, c->why));
}

Test(fs_beneath, accepts_odd_but_clean_paths)
{
        static const char *const paths[] = {"a", "...", ".a", "a/..b", "a/b..", "a b/\n", "\xff\xfe/-x"};
        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                const char *why = fs_path_refusal((const guint8 *)paths[i], strlen(paths[i]));
                cr_expect(eq(ptr, (void *)why, NULL));
        }
}

Test(fs_beneath, lengths_are_bounded_to_the_byte)
{
        guint8 path[4097];
        memset(path, 'x', sizeof path);
        cr_expect(eq(ptr, (void *)fs_path_refusal(path, 255), NULL));
        cr_expect(ne(ptr, (void *)fs_path_refusal(path, 256), NULL));
        for (size_t i = 200; i < sizeof path; i += 200)
                path[i] = '/';
        cr_expect(eq(ptr, (void *)fs_path_refusal(path, 4095), NULL));
        cr_expect(ne(ptr, (void *)fs_path_refusal(path, 4096), NULL));
}

static void in_root_is(int root, const char *path, const char *content)
{
        g_autoptr(GError) error = NULL;
        char buf[16] = {0};
        scoped_fd int fd = fs_beneath_open(root, path, O_RDONLY, 0, &error);
        cr_assert(ge(int, fd, 0), "%s: %s", path, error != NULL ? error->message : "");
        cr_assert(ge(int, (int)read(fd, buf, sizeof buf - 1), 0));
        cr_expect(eq(str, buf, (char *)content));
}

Test(fs_beneath, links_are_followed_as_the_guest_would_and_never_out_of_the_root)
{
        g_autoptr(TempDir) t = tempdir_new();
        cr_assert(eq(int, mkdirat(t->fd, "root", 0755), 0));
        scoped_fd int root = openat(t->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        cr_assert(eq(int, mkdirat(root, "usr", 0755), 0));
        cr_assert(eq(int, mkdirat(root, "usr/lib", 0755), 0));
        tempdir_put(t, "root/usr/lib/f", "inside", 6);
        tempdir_put(t, "f", "outside", 7);
        cr_assert(eq(int, symlinkat("usr/lib", root, "lib"), 0));
        cr_assert(eq(int, symlinkat("/usr", root, "absolute"), 0));
        cr_assert(eq(int, symlinkat("../../../../..", root, "up"), 0));

        in_root_is(root, "lib/f", "inside");
        in_root_is(root, "absolute/lib/f", "inside");
        in_root_is(root, "up/lib/f", "inside");
        in_root_is(root, "../../lib/f", "inside");
        g_autoptr(GError) error = NULL;
        cr_expect(eq(int, fs_beneath_open(root, "up/f", O_RDONLY, 0, &error), -1));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_NOT_FOUND));
}

static void leads_to(int root, const char *path, const char *directory, const char *link)
{
        g_autoptr(GError) error = NULL;
        struct fs_detour detour;
        struct stat a, b;
        scoped_fd int fd = fs_beneath_open_directory(root, path, &detour, &error);
        g_autofree char *found = detour.link;
        cr_assert(ge(int, fd, 0), "%s: %s", path, error != NULL ? error->message : "");
        scoped_fd int want = fs_beneath_open(root, directory, O_PATH | O_DIRECTORY, 0, NULL);
        cr_assert(eq(int, fstat(fd, &a), 0));
        cr_assert(eq(int, fstat(want, &b), 0));
        cr_expect(eq(u64, a.st_ino, b.st_ino), "%s", path);
        cr_expect(eq(str, found != NULL ? found : (char *)"", (char *)link), "%s", path);
        cr_expect(link[0] == '\0' || detour.owner == 1000, "%s", path);
}

static void link_of(int root, uid_t owner, const char *target, const char *path)
{
        cr_assert(eq(int, symlinkat(target, root, path), 0));
        cr_assert(eq(int, fchownat(root, path, owner, owner, AT_SYMLINK_NOFOLLOW), 0));
}

Test(fs_beneath, whose_links_lead_to_whose_directories)
{
        if (geteuid() != 0)
                cr_skip_test("only root can give files away");
        g_autoptr(TempDir) t = tempdir_new();
        static const char *const directories[] = {"root", "root/etc", "root/etc/deep", "root/app",
                                                  "root/app/own"};
        for (guint i = 0; i < G_N_ELEMENTS(directories); i++)
                cr_assert(eq(int, mkdirat(t->fd, directories[i], 0755), 0));
        scoped_fd int root = openat(t->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        cr_assert(eq(int, fchownat(root, "app", 1000, 1000, 0), 0));
        cr_assert(eq(int, fchownat(root, "app/own", 1000, 1000, 0), 0));
        link_of(root, 0, "etc", "lib");
        link_of(root, 0, "/app/evil", "through");
        link_of(root, 1000, "../../../etc", "app/evil");
        link_of(root, 1000, "/lib/deep", "app/evil2");
        link_of(root, 1000, "own", "app/good");
        link_of(root, 1000, "loop", "app/loop");
        link_of(root, 0, "app/evil/deep", "hidden");

        leads_to(root, ".", ".", "");
        leads_to(root, "etc/deep", "etc/deep", "");
        leads_to(root, "lib/deep", "etc/deep", "");
        leads_to(root, "app/good", "app/own", "");
        leads_to(root, "app/evil", "etc", "evil");
        leads_to(root, "app/evil/deep", "etc/deep", "evil");
        leads_to(root, "app/evil2", "etc/deep", "evil2");
        leads_to(root, "through/deep", "etc/deep", "evil");
        leads_to(root, "hidden", "etc/deep", "evil");
        static const struct {
                const char *path;
                int error;
        } failing[] = {{"app/loop", ELOOP}, {"app/evil/no", ENOENT}, {"no", ENOENT}};
        for (guint i = 0; i < G_N_ELEMENTS(failing); i++) {
                struct fs_detour detour;
                g_autoptr(GError) error = NULL;
                cr_expect(eq(int, fs_beneath_open_directory(root, failing[i].path, &detour, &error), -1));
                cr_expect(eq(int, errno, failing[i].error), "%s", failing[i].path);
                cr_expect(eq(ptr, detour.link, NULL));
        }
}

Test(fs_beneath, magic_links_are_refused)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        cr_expect(eq(int, fs_beneath_open(root, "proc/self/root/etc", O_RDONLY, 0, &error), -1));
        cr_expect(ne(ptr, error, NULL));
}

Test(fs_beneath, the_parent_is_resolved_and_the_last_component_is_not)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        const char *name = NULL;
        struct stat st;
        cr_assert(eq(int, mkdirat(t->fd, "usr", 0755), 0));
        cr_assert(eq(int, symlinkat("usr", t->fd, "lib"), 0));
        cr_assert(eq(int, symlinkat("/nowhere", t->fd, "usr/last"), 0));
        scoped_fd int parent = fs_beneath_open_parent(t->fd, "lib/last", &name, &error);
        cr_assert(ge(int, parent, 0));
        cr_expect(eq(str, (char *)name, "last"));
        cr_assert(eq(int, fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW), 0));
        cr_expect(eq(u32, st.st_mode & S_IFMT, S_IFLNK));
        scoped_fd int top = fs_beneath_open_parent(t->fd, "lib", &name, &error);
        cr_assert(ge(int, top, 0));
        cr_expect(eq(str, (char *)name, "lib"));
}
