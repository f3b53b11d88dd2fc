/* tests/unit/test_guest_agent_stale.c - what the kernel's texts about processes and mounts say of who runs
 * old code. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <unistd.h>

#include "guest-agent/stale_init.h"
#include "guest-agent/stale_mounts.h"
#include "guest-agent/stale_parse.h"
#include "guest-agent/stale_report.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/refusal.h"
#include "tests/support/tempdir.h"

TestSuite(stale, .timeout = 30);

/* Names of all mappings, "|" between them, ranges before. */
static char *mappings(const char *text)
{
        GString *s = g_string_new(NULL);
        struct stale_mapping m;

        while (stale_mapping_next(&text, &m)) {
                g_autofree char *name = stale_mapping_name(&m), *link = stale_mapping_link(&m);
                g_string_append_printf(s, "%s %s|", link, name);
        }
        return g_string_free(s, FALSE);
}

Test(stale, maps_are_read_for_files_only)
{
        g_autofree char *found =
                mappings("00400000-0040b000 r-xp 00000000 08:01 1234                       /usr/bin/x\n"
                         "7f00-7f10 rw-p 00000000 00:00 0 \n"
                         "7f10-7f20 rw-p 00000000 00:00 0                          [heap]\n"
                         "7f20-7f30 r--s 00000000 08:01 77   /lib/with blank (deleted)\n"
                         "7f30-7f40 r--s 00000000 08:01 78   /lib/a\\012b\n"
                         "no line at all\n\n"
                         "7f40-7f50 r--s 00000000 08:01 79   /last");

        cr_assert(eq(str, found,
                     "map_files/400000-40b000 /usr/bin/x|map_files/7f20-7f30 /lib/with blank "
                     "(deleted)|map_files/7f30-7f40 /lib/a\nb|"
                     "map_files/7f40-7f50 /last|"));
}

Test(stale, maps_that_are_cut_anywhere_are_read_as_far_as_they_go)
{
        static const char text[] = "00400000-0040b000 r-xp 00000000 08:01 1234      /usr/bin/x\n";

        for (gsize n = 0; n < sizeof text; n++) {
                g_autofree char *part = g_strndup(text, n);
                g_autofree char *found = mappings(part);
                cr_expect(eq(int, found[0] != '\0', n > strlen(text) - strlen("/usr/bin/x\n")), "%zu", n);
        }
}

Test(stale, an_object_put_aside_is_known_by_generation_and_entry)
{
        guint64 generation;
        guint32 entry;
        const char *rest;

        cr_assert(stale_aside_parse("/usr/.moult/12/345", &generation, &entry, &rest));
        cr_expect(eq(u64, generation, 12));
        cr_expect(eq(u32, entry, 345));
        cr_expect(eq(str, (char *)rest, ""));
        cr_assert(stale_aside_parse("/.moult/1/2/.moult/3/4/lib/x", &generation, &entry, &rest));
        cr_expect(eq(u64, generation, 3));
        cr_expect(eq(str, (char *)rest, "/lib/x"));
}

Test(stale, names_that_only_look_like_it_are_not)
{
        static const char *const names[] = {
                "/usr/lib/x",
                "/usr/.moult/",
                "/usr/.moult/1",
                "/usr/.moult/1/",
                "/usr/.moult/1/x",
                "/usr/.moult/1/2x",
                "/usr/.moult/-1/2",
                "/usr/.moult/1/+2",
                "/usr/.moult/1//2",
                "/usr/.moult/ 1/2",
                "/usr/.moult/1/99999999999999999999",
                "/usr/.moult/1/4194304",
                "/usr/.moult/18446744073709551615/1",
                "/usr/x.moult/1/2",
        };
        guint64 generation;
        guint32 entry;
        const char *rest;

        for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
                cr_expect(not(stale_aside_parse(names[i], &generation, &entry, &rest)), "%s", names[i]);
}

Test(stale, deleted_is_taken_off_the_end_only)
{
        g_autofree char *a = stale_name_undeleted("/x (deleted)"), *b = stale_name_undeleted("/x"),
                        *c = stale_name_undeleted("/x (deleted) y"),
                        *d = stale_name_undeleted("/x (deleted) (deleted)");

        cr_expect(eq(str, a, "/x"));
        cr_expect(eq(ptr, b, NULL));
        cr_expect(eq(ptr, c, NULL));
        cr_expect(eq(str, d, "/x (deleted)"));
}

static void expect_unit(const char *cgroup, const char *unit)
{
        g_autofree char *found = stale_unit_of_cgroup(cgroup);

        if (unit)
                cr_expect(eq(str, found ? found : (char *)"(none)", (char *)unit), "%s", cgroup);
        else
                cr_expect(eq(ptr, found, NULL), "%s is of %s", cgroup, found);
}

Test(stale, the_unit_is_that_of_the_machines_own_manager)
{
        expect_unit("0::/system.slice/nginx.service\n", "nginx.service");
        expect_unit("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service");
        expect_unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
                    "user@1000.service");
        expect_unit("0::/system.slice/docker-0123.scope/system.slice/nginx.service", "docker-0123.scope");
        expect_unit("0::/system.slice/moult-agent.service/moult-hook.1.2", "moult-agent.service");
        expect_unit("12:cpu:/\n1:name=systemd:/system.slice/cron.service\n0::/\n", "cron.service");
        expect_unit("0::/_cgroup.service", "cgroup.service");
        expect_unit("0::/\n", NULL);
        expect_unit("0::/init.scope", "init.scope");
        expect_unit("0::/system.slice/some directory", NULL);
        expect_unit("0::/system.slice/.service", NULL);
        expect_unit("4:memory:/system.slice/not.service\n", NULL);
        expect_unit("", NULL);
        expect_unit("garbage\n::\n:\n", NULL);
}

Test(stale, a_unit_has_two_names)
{
        cr_expect(stale_unit_is("nginx.service", "nginx"));
        cr_expect(stale_unit_is("nginx", "nginx.service"));
        cr_expect(stale_unit_is("nginx.service", "nginx.service"));
        cr_expect(not(stale_unit_is("nginx.socket", "nginx")));
        cr_expect(not(stale_unit_is("nginx2.service", "nginx")));
        cr_expect(not(stale_unit_is("ngin.service", "nginx")));
        cr_expect(not(stale_unit_is("", "nginx")));
}

Test(stale, a_title_cannot_pretend_other_numbers)
{
        struct stale_stat s;

        cr_assert(stale_stat_parse("77 (a) b) S 1 (c) S 5 77 77 0 -1 4194560 1 2\n", &s));
        cr_assert(stale_stat_parse("77 (x) R 1 2 3 4 5 0) S 5 77 77 0 -1 4194560 1 2\n", &s));
        cr_expect(eq(i64, s.parent, 5));
        cr_expect(not(s.kernel_thread));
        cr_expect(not(s.ended));
        cr_assert(stale_stat_parse("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n", &s));
        cr_expect(s.kernel_thread);
        cr_assert(stale_stat_parse("9 (gone) Z 1 9 9 0 -1 4228108 0 0\n", &s));
        cr_expect(s.ended);
        cr_expect(not(stale_stat_parse("9 (gone", &s)));
        cr_expect(not(stale_stat_parse("9 (gone) S 1 2\n", &s)));
        cr_expect(not(stale_stat_parse("", &s)));
}

Test(stale, a_command_is_its_program_and_script_and_no_more)
{
        static const char secret[] = "mysql\0-pSECRET\0", script[] = "python3\0/usr/bin/app\0--key=SECRET\0";
        g_autofree char *a = stale_command_of(secret, sizeof secret - 1),
                        *b = stale_command_of(script, sizeof script - 1), *none = stale_command_of("", 0),
                        *empty = stale_command_of("\0x", 2), *open_end = stale_command_of("xyz", 2);
        g_autofree char *long_one = g_strnfill(100000, 'a');
        g_autofree char *cut = stale_command_of(long_one, 100000);

        cr_expect(eq(str, a, "mysql"));
        cr_expect(eq(str, b, "python3 /usr/bin/app"));
        cr_expect(eq(ptr, none, NULL));
        cr_expect(eq(ptr, empty, NULL));
        cr_expect(eq(str, open_end, "xy"));
        cr_expect(eq(sz, strlen(cut), LIMIT_STALE_COMMAND));
}

Test(stale, numbers_of_namespaces_and_pid_files)
{
        guint64 inode = 0;

        cr_assert(stale_namespace_parse("mnt:[4026531840]", &inode));
        cr_expect(eq(u64, inode, 4026531840));
        cr_expect(not(stale_namespace_parse("mnt:[]", &inode)));
        cr_expect(not(stale_namespace_parse("mnt:[12", &inode)));
        cr_expect(not(stale_namespace_parse("", &inode)));
        cr_expect(eq(i64, stale_pid_file_parse("123\n"), 123));
        cr_expect(eq(i64, stale_pid_file_parse("  123 x"), 123));
        cr_expect(eq(i64, stale_pid_file_parse("123x"), 0));
        cr_expect(eq(i64, stale_pid_file_parse("-1"), 0));
        cr_expect(eq(i64, stale_pid_file_parse("99999999999"), 0));
        cr_expect(eq(i64, stale_pid_file_parse(""), 0));
}

static char *differ(const char *ours, const char *theirs, const char *root)
{
        g_autoptr(MountTable) a = mount_table_parse(ours), b = mount_table_parse(theirs);
        g_autoptr(GPtrArray) points = stale_mounts_differ(a, b, root);

        g_ptr_array_add(points, NULL);
        return g_strjoinv(" ", (char **)points->pdata);
}

#define ROOT  "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
#define USR   "2 1 7:0 / /usr ro - erofs /dev/loop0 ro\n"
#define ONE   "3 2 0:50 / /usr ro - overlay moult-overlay-1 ro\n"
#define TWO   "4 2 0:51 / /usr ro - overlay moult-overlay-2 ro\n"
#define BIND  "5 1 8:1 /o /etc/x rw - ext4 moult-bind-7 rw\n"
#define CLONE "6 1 0:50 / /run/moult/target/originals/a ro - overlay moult-overlay-1 ro\n"

Test(stale, a_namespace_follows_if_the_same_merges_are_on_top)
{
        static const struct {
                const char *ours, *theirs, *root, *points;
        } cases[] = {
                {ROOT USR ONE, ROOT USR ONE, "/", ""},
                {ROOT USR ONE, ROOT USR, "/", "/usr"},
                {ROOT USR TWO, ROOT USR ONE, "/", "/usr"},
                {ROOT USR, ROOT USR ONE, "/", "/usr"}, /* it still has what was taken back */
                {ROOT USR ONE BIND, ROOT USR, "/", "/etc/x /usr"},
                {ROOT USR ONE BIND, ROOT USR, "/etc", "/etc/x"},
                {ROOT USR ONE, ROOT USR, "/us", ""},
                {ROOT USR ONE CLONE, ROOT USR ONE, "/", ""},
                /* The new one was moved beneath, the old one is still on top. */
                {ROOT USR "4 2 0:51 / /usr ro - overlay moult-overlay-2 ro\n"
                          "3 4 0:50 / /usr ro - overlay moult-overlay-1 ro\n",
                 ROOT USR ONE, "/", ""},
                {ROOT USR, "", "/", ""},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *points = differ(cases[i].ours, cases[i].theirs, cases[i].root);
                cr_expect(eq(str, points, (char *)cases[i].points), "case %zu", i);
        }
}

Test(stale, an_init_script_is_found_by_its_pid_file)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autofree char *run = g_build_filename(t->path, "run", NULL);
        g_autofree char *scripts = g_build_filename(t->path, "init.d", NULL);
        g_autofree char *below = g_build_filename(run, "x", NULL);
        static const struct {
                const char *dir, *name, *text;
        } files[] = {
                {"run", "cron.pid", "100\n"},
                {"run", "sshd.pid", "200\n"},
                {"run/x", "xd.pid", "300"},
                {"run", "nobody.pid", "400\n"},
                {"run", "odd.pid", "x\n"},
                {"run", "one.pid", "1\n"},
                {"init.d", "cron", "#!/bin/sh\n"},
                {"init.d", "one", "#!/bin/sh\n"},
                {"init.d", "ssh", "#!/bin/sh\nPIDFILE=/run/sshd.pid\n"},
                {"init.d", "xx", "start-stop-daemon --pidfile /var/run/x/xd.pid\n"},
                {"init.d", "not", "PIDFILE=/run/nobody.pid2\n"},
        };

        g_mkdir_with_parents(below, 0700);
        g_mkdir_with_parents(scripts, 0700);
        for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
                g_autofree char *path = g_build_filename(t->path, files[i].dir, files[i].name, NULL);
                cr_assert(g_file_set_contents(path, files[i].text, -1, NULL));
        }
        g_autoptr(StaleInit) init = stale_init_new_in(run, scripts);
        cr_expect(eq(str, (char *)stale_init_find(init, 100), "cron"));
        cr_expect(eq(str, (char *)stale_init_find(init, 200), "ssh"));
        cr_expect(eq(str, (char *)stale_init_find(init, 300), "xx"));
        cr_expect(eq(ptr, (void *)stale_init_find(init, 400), NULL));
        cr_expect(eq(ptr, (void *)stale_init_find(init, 1), NULL));
}

/* The largest that a look may find passes the other side's gate. */
Test(stale, a_report_is_always_one_that_is_taken)
{
        StaleScan scan = {.processes_total = 100000, .looked_at = 100001, .denied = 3, .stuck = 7};
        g_autofree char *path = g_strnfill(LIMIT_PATH_BYTES + 100, '/');
        g_autofree char *word = g_strnfill(1000, 'w');
        g_autoptr(GPtrArray) restarts = g_ptr_array_new_with_free_func(g_free), names = g_ptr_array_new();
        Moult__Message m = MOULT__MESSAGE__INIT;

        for (int i = 0; i < 50; i++)
                g_ptr_array_add(names, path);
        scan.processes = g_ptr_array_new_with_free_func(g_free);
        scan.namespaces = g_ptr_array_new_with_free_func(g_free);
        for (int i = 0; i < 1000; i++) {
                struct stale_found *f = g_new0(struct stale_found, 1);
                struct stale_lagging *l = g_new0(struct stale_lagging, 1);
                struct stale_restart *r = g_new0(struct stale_restart, 1);

                *f = (struct stale_found){i, word, word, names, 50};
                *l = (struct stale_lagging){(guint64)i, 1, i, word, word, names};
                *r = (struct stale_restart){word, word};
                g_ptr_array_add(scan.processes, f);
                g_ptr_array_add(scan.namespaces, l);
                g_ptr_array_add(restarts, r);
        }
        m.body_case = MOULT__MESSAGE__BODY_STALE_REPORT;
        m.stale_report = stale_report_new(&scan, restarts);
        m.stale_report->release = message_blob(g_memdup2(word, LIMIT_RELEASE), LIMIT_RELEASE);
        cr_expect(eq(ptr, (void *)message_refusal(&m), NULL), "%s", message_refusal(&m));
        cr_expect(gt(sz, m.stale_report->n_processes, 0));
        cr_expect(gt(sz, m.stale_report->n_namespaces, 0));
        cr_expect(gt(sz, m.stale_report->n_restarts, 0));
        cr_expect(eq(u32, m.stale_report->processes_total, 100000));
        cr_expect(eq(u32, m.stale_report->namespaces_total, 1000));
        moult__stale_report__free_unpacked(m.stale_report, NULL);
        g_ptr_array_unref(scan.processes);
        g_ptr_array_unref(scan.namespaces);
}
