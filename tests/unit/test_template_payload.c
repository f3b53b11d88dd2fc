/* tests/unit/test_template_payload.c - packages and archives that may be put into a template, and others. */
#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/template/payload.h"
#include "tests/support/tempdir.h"

TestSuite(payload, .timeout = 30);

struct made {
        const char *path;
        int type; /* of the mode */
        const char *text;
};

static char *make(TempDir *dir, const char *name, const struct made *files)
{
        char *file = tempdir_path(dir, name);
        struct archive *a = archive_write_new();

        archive_write_add_filter_gzip(a);
        archive_write_set_format_ustar(a);
        cr_assert(eq(int, archive_write_open_filename(a, file), ARCHIVE_OK));
        for (; files->path; files++) {
                struct archive_entry *e = archive_entry_new();

                archive_entry_set_pathname(e, files->path);
                archive_entry_set_mode(e, (mode_t)files->type | 0755);
                if (files->type == S_IFLNK)
                        archive_entry_set_symlink(e, files->text);
                else
                        archive_entry_set_size(e, (la_int64_t)strlen(files->text));
                cr_assert(eq(int, archive_write_header(a, e), ARCHIVE_OK));
                if (files->type == S_IFREG)
                        archive_write_data(a, files->text, strlen(files->text));
                archive_entry_free(e);
        }
        archive_write_close(a);
        archive_write_free(a);
        return file;
}

#define AGENT                                                                                                \
        {"./usr/sbin/moult-agent", S_IFREG, "program"},                                                      \
        {                                                                                                    \
                "./etc/moult/moult-agent.conf", S_IFREG, "[agent]\n"                                         \
        }

Test(payload, is_read_with_modes_links_and_sorted)
{
        TempDir *dir = tempdir_new();
        const struct made files[] = {{"./usr/bin/moult-agent", S_IFLNK, "../sbin/moult-agent"},
                                     AGENT,
                                     {"./etc/", S_IFDIR, ""},
                                     {0}};
        g_autofree char *file = make(dir, "a.tar.gz", files);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) p = payload_read(file, &error);

        cr_assert(p != NULL, "%s", error ? error->message : "");
        cr_assert(eq(uint, p->len, 4));
        cr_expect(eq(str, ((struct payload_file *)p->pdata[0])->path, (char *)"/etc"));
        cr_expect(eq(str, payload_find(p, "/usr/bin/moult-agent")->link, (char *)"../sbin/moult-agent"));
        cr_expect(eq(uint, payload_find(p, PAYLOAD_AGENT)->mode, 0755));
        cr_expect(eq(sz, g_bytes_get_size(payload_find(p, PAYLOAD_AGENT)->data), 7));
        tempdir_free(dir);
}

static void expect_refused(const struct made *files, const char *says)
{
        TempDir *dir = tempdir_new();
        g_autofree char *file = make(dir, "a.tar", files);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) p = payload_read(file, &error);

        cr_expect(p == NULL && strstr(error->message, says), "%s", error ? error->message : "(taken)");
        tempdir_free(dir);
}

Test(payload, what_is_not_the_agents_is_refused)
{
        expect_refused((const struct made[]){AGENT, {"../../etc/passwd", S_IFREG, "x"}, {0}},
                       "leads out of it");
        expect_refused((const struct made[]){AGENT, {"./dev/null", S_IFCHR, ""}, {0}}, "do not have");
        expect_refused((const struct made[]){{"./usr/bin/ls", S_IFREG, "x"}, {0}},
                       "does not hold /usr/sbin/moult-agent");
}

/* As dpkg-deb -b makes it of these files. Owned by the caller. */
static char *make_package(TempDir *dir, const char *name, const char *const *files)
{
        g_autofree char *tree = tempdir_path(dir, "tree"), *control = g_build_filename(tree, "DEBIAN", NULL);
        g_autofree char *text = g_build_filename(control, "control", NULL);
        g_autofree char *script = g_build_filename(control, "prerm", NULL),
                        *package = tempdir_path(dir, name);
        const char *const argv[] = {"dpkg-deb", "--root-owner-group", "-b", tree, package, NULL};
        int status = -1;

        for (; *files; files++) {
                g_autofree char *file = g_build_filename(tree, *files, NULL);
                g_autofree char *parent = g_path_get_dirname(file);

                cr_assert(eq(int, g_mkdir_with_parents(parent, 0755), 0));
                cr_assert(g_file_set_contents(file, "text", -1, NULL));
                cr_assert(eq(int, chmod(file, g_str_has_prefix(*files, "usr/sbin/") ? 0755 : 0644), 0));
        }
        cr_assert(eq(int, g_mkdir_with_parents(control, 0755), 0));
        cr_assert(g_file_set_contents(
                text,
                "Package: moult-agent\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\n"
                "Description: d\n",
                -1, NULL));
        cr_assert(g_file_set_contents(script, "#!/bin/sh\n", -1, NULL));
        cr_assert(eq(int, chmod(script, 0755), 0));
        cr_assert(g_spawn_sync(NULL, (char **)(gpointer)argv, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                               &status, NULL));
        cr_assert(eq(int, status, 0));
        return g_steal_pointer(&package);
}

Test(payload, of_a_package_its_files_are_taken_and_nothing_for_dpkg)
{
        static const char *const files[] = {"usr/sbin/moult-agent", "usr/sbin/moult-targetfs",
                                            "etc/moult/moult-agent.conf",
                                            "lib/systemd/system/moult-agent.service", NULL};
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *file = make_package(dir, "moult-agent_1_all.deb", files);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) p = payload_read(file, &error);

        cr_assert(p != NULL, "%s", error ? error->message : "");
        for (size_t i = 0; files[i]; i++) {
                g_autofree char *path = g_strconcat("/", files[i], NULL);
                const struct payload_file *f = payload_find(p, path);

                cr_assert(f != NULL && f->data != NULL, "%s", path);
                cr_expect(eq(uint, f->mode, i < 2 ? 0755 : 0644), "%s", path);
        }
        cr_expect(eq(ptr, (void *)payload_find(p, "/DEBIAN/prerm"), NULL));
        cr_expect(eq(ptr, (void *)payload_find(p, "/prerm"), NULL));
}

Test(payload, a_package_that_is_not_the_agents_or_is_cut_off_is_refused)
{
        static const char *const other[] = {"usr/bin/moult", NULL};
        static const char *const agent[] = {"usr/sbin/moult-agent", "etc/moult/moult-agent.conf", NULL};
        g_autoptr(TempDir) dir = tempdir_new(), second = tempdir_new();
        g_autofree char *foreign = make_package(dir, "moult-agent_1_all.deb", other);
        g_autofree char *cut = make_package(second, "moult-agent_1_all.deb", agent);
        g_autoptr(GError) error = NULL;
        struct stat st;

        cr_expect(eq(ptr, (void *)payload_read(foreign, &error), NULL));
        cr_expect(error && strstr(error->message, "does not hold /usr/sbin/moult-agent"));
        g_clear_error(&error);
        cr_assert(eq(int, stat(cut, &st), 0));
        cr_assert(eq(int, truncate(cut, st.st_size - 40), 0));
        cr_expect(eq(ptr, (void *)payload_read(cut, &error), NULL));
        cr_expect(error && strstr(error->message, "cannot be put into a template"), "%s",
                  error ? error->message : "taken");
}

Test(payload, damaged_foreign_and_missing_files_are_refused)
{
        TempDir *dir = tempdir_new();
        const char *const names[] = {"text.tar", "text.deb", "missing.tar"};

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *file = tempdir_path(dir, names[i]);
                g_autoptr(GError) error = NULL;

                if (i < 2)
                        cr_assert(g_file_set_contents(file, "this is text\n", -1, NULL));
                cr_expect(eq(ptr, (void *)payload_read(file, &error), NULL));
                cr_expect(error != NULL, "%s", names[i]);
        }
        tempdir_free(dir);
}

Test(payload, the_static_archive_is_taken_before_a_package)
{
        TempDir *dir = tempdir_new();
        const char *const names[] = {"moult-agent_2_amd64.deb", "moult-agent-static_1_amd64.tar.xz",
                                     "moult_2_amd64.deb", "moult-agent.txt"};
        g_autoptr(GError) error = NULL;

        cr_expect(eq(ptr, payload_find_file(dir->path, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *file = tempdir_path(dir, names[i]);
                cr_assert(g_file_set_contents(file, "", 0, NULL));
        }
        g_autofree char *found = payload_find_file(dir->path, NULL);
        cr_expect(found && g_str_has_suffix(found, names[1]), "%s", found);
        tempdir_free(dir);
}
