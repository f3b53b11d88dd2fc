/* tests/unit/test_release_build_tree.c - a tree is walked as it is: nothing followed, nothing missed, always
 * alike. */
#include "host-service/release/build_tree.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/release/build_digest.h"
#include "host-service/release/build_xattr.h"
#include "tests/support/tempdir.h"

TestSuite(release_build_tree, .timeout = 60);

static const struct build_tree_options no_options = {0};

static BuildTree *scan(const TempDir *t, const struct build_tree_options *options)
{
        g_autoptr(GError) error = NULL;
        BuildTree *tree = build_tree_scan(t->path, options, NULL, &error);

        cr_assert(ne(ptr, tree, NULL), "%s", error ? error->message : "");
        return tree;
}

static char *paths_of(const BuildTree *t)
{
        GString *s = g_string_new(NULL);

        for (unsigned i = 0; i < build_tree_count(t); i++)
                g_string_append_printf(s, "%s ", build_tree_node(t, i)->path);
        return g_string_free(s, FALSE);
}

static const struct tree_node *node(const BuildTree *t, const char *path)
{
        gssize i = build_tree_find(t, path);

        cr_assert(ge(i64, i, 0), "%s", path);
        return build_tree_node(t, (unsigned)i);
}

Test(release_build_tree, nodes_come_in_byte_order)
{
        g_autoptr(TempDir) t = tempdir_new();

        cr_assert(eq(int, mkdirat(t->fd, "a", 0755), 0));
        tempdir_put(t, "a/x", "1", 1);
        tempdir_put(t, "a-b", "1", 1);
        tempdir_put(t, "\xff", "1", 1);
        tempdir_put(t, "B", "1", 1);
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        g_autofree char *paths = paths_of(tree);
        cr_expect(eq(str, paths, "B a a-b a/x \xff "));
        cr_expect(eq(i64, build_tree_find(tree, "nothing"), -1));
}

Test(release_build_tree, links_are_kept_and_never_followed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(TempDir) outside = tempdir_new();

        tempdir_put(outside, "secret", "x", 1);
        cr_assert(eq(int, symlinkat(outside->path, t->fd, "link"), 0));
        cr_assert(eq(int, symlinkat("/nowhere", t->fd, "dangling"), 0));
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        g_autofree char *paths = paths_of(tree);
        cr_expect(eq(str, paths, "dangling link "));
        cr_expect(eq(str, node(tree, "link")->link_text, outside->path));
}

Test(release_build_tree, a_file_that_became_a_link_is_not_opened)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;

        tempdir_put(t, "f", "1", 1);
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        cr_assert(eq(int, unlinkat(t->fd, "f", 0), 0));
        cr_assert(eq(int, symlinkat("/etc/passwd", t->fd, "f"), 0));
        cr_expect(eq(int, build_tree_open(tree, 0, &error), -1));
        cr_expect(ne(ptr, error, NULL));
}

Test(release_build_tree, a_file_that_was_changed_is_noticed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;

        tempdir_put(t, "f", "1", 1);
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        tempdir_put(t, "f", "22", 2);
        cr_expect(eq(int, build_tree_open(tree, 0, &error), -1));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY));
}

Test(release_build_tree, sockets_are_refused_by_name)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *path = tempdir_path(t, "s");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        g_autoptr(GError) error = NULL;

        g_strlcpy(address.sun_path, path, sizeof address.sun_path);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(eq(int, bind(fd, (struct sockaddr *)&address, sizeof address), 0));
        cr_expect(eq(ptr, build_tree_scan(t->path, &no_options, NULL, &error), NULL));
        cr_assert(ne(ptr, error, NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        cr_expect(g_str_has_prefix(error->message, "s is a socket"));

        const char *globs[] = {"s", NULL};
        const struct build_tree_options without = {.exclude = globs};
        g_autoptr(BuildTree) tree = scan(t, &without);
        cr_expect(eq(u32, build_tree_count(tree), 0));
        close(fd);
}

Test(release_build_tree, names_of_one_file_are_led_by_the_first)
{
        g_autoptr(TempDir) t = tempdir_new();

        tempdir_put(t, "m", "1", 1);
        cr_assert(eq(int, linkat(t->fd, "m", t->fd, "z", 0), 0));
        cr_assert(eq(int, linkat(t->fd, "m", t->fd, "a", 0), 0));
        tempdir_put(t, "n", "1", 1);
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        cr_expect(eq(u32, node(tree, "a")->leader, 0));
        cr_expect(eq(u32, node(tree, "m")->leader, 0));
        cr_expect(eq(u32, node(tree, "z")->leader, 0));
        cr_expect(eq(u32, node(tree, "z")->n_names, 3));
        cr_expect(eq(u32, node(tree, "n")->n_names, 1));
        cr_expect(eq(str, build_tree_node(tree, node(tree, "n")->leader)->path, "n"));
}

Test(release_build_tree, excluded_directories_take_their_contents_along)
{
        g_autoptr(TempDir) t = tempdir_new();

        cr_assert(eq(int, mkdirat(t->fd, "cache", 0755), 0));
        cr_assert(eq(int, mkdirat(t->fd, "d", 0755), 0));
        tempdir_put(t, "cache/x", "1", 1);
        tempdir_put(t, "d/x.o", "1", 1);
        tempdir_put(t, "d/x.c", "1", 1);
        const char *globs[] = {"/cache", "*.o", NULL};
        const struct build_tree_options options = {.exclude = globs};
        g_autoptr(BuildTree) tree = scan(t, &options);
        g_autofree char *paths = paths_of(tree);
        cr_expect(eq(str, paths, "d d/x.c "));
}

Test(release_build_tree, globs_match_the_path_or_its_last_part)
{
        static const char *const whole[] = {"usr/share/doc", NULL}, *const last[] = {"*.pyc", NULL};
        static const char *const one_level[] = {"usr/*/x", NULL};

        cr_expect(build_tree_excludes(whole, "usr/share/doc"));
        cr_expect(not(build_tree_excludes(whole, "opt/usr/share/doc")));
        cr_expect(build_tree_excludes(last, "a/b/c.pyc"));
        cr_expect(not(build_tree_excludes(last, "a.pyc/b")));
        cr_expect(build_tree_excludes(one_level, "usr/lib/x"));
        cr_expect(not(build_tree_excludes(one_level, "usr/lib/y/x")));
        cr_expect(not(build_tree_excludes(NULL, "anything")));
}

Test(release_build_tree, attributes_of_one_machine_stay_behind)
{
        cr_expect(build_xattr_is_carried("security.capability"));
        cr_expect(build_xattr_is_carried("security.selinux"));
        cr_expect(build_xattr_is_carried("system.posix_acl_access"));
        cr_expect(build_xattr_is_carried("user.mine"));
        cr_expect(not(build_xattr_is_carried("trusted.overlay.opaque")));
        cr_expect(not(build_xattr_is_carried("security.evm")));
        cr_expect(not(build_xattr_is_carried("system.nfs4_acl")));
}

Test(release_build_tree, digests_of_many_files_are_each_their_own)
{
        enum { FILES = 200 };
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GArray) wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GError) error = NULL;

        for (guint i = 0; i < FILES; i++) {
                g_autofree char *name = g_strdup_printf("f%03u", i);

                tempdir_put(t, name, name, i % 5);
                g_array_append_val(wanted, i);
        }
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        cr_assert(build_digest_run(tree, wanted, 8, NULL, NULL, NULL, &error), "%s",
                  error ? error->message : "");
        for (guint i = 0; i < FILES; i++) {
                const struct tree_node *n = build_tree_node(tree, i);
                uint8_t want[DIGEST_SIZE];

                verity_digest_buffer(h, n->path, i % 5, want);
                cr_assert(n->has_digest);
                cr_expect(eq(int, memcmp(want, n->digest, DIGEST_SIZE), 0));
        }
}

Test(release_build_tree, one_bad_file_fails_the_digests_and_is_named)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GArray) wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GError) error = NULL;

        for (guint i = 0; i < 20; i++) {
                g_autofree char *name = g_strdup_printf("f%03u", i);

                tempdir_put(t, name, name, 4);
                g_array_append_val(wanted, i);
        }
        g_autoptr(BuildTree) tree = scan(t, &no_options);
        cr_assert(eq(int, unlinkat(t->fd, "f007", 0), 0));
        cr_expect(not(build_digest_run(tree, wanted, 4, NULL, NULL, NULL, &error)));
        cr_assert(ne(ptr, error, NULL));
        cr_expect(ne(ptr, strstr(error->message, "f007"), NULL));
}
