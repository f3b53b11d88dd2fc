/* tests/unit/test_guest_agent_upgrade_process.c - children with a time limit, and what is left of them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest-agent/upgrade/process.h"
#include "proto/limits.h"

TestSuite(process, .timeout = 60);

static struct process_result run(const char *script, guint timeout_ms)
{
        const char *argv[] = {"/bin/sh", "-c", script, NULL};
        static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
        struct process_result r = {0};
        g_autoptr(GError) error = NULL;
        struct process_request q = {
                .argv = argv, .environment = environment, .script_fd = -1, .timeout_ms = timeout_ms};
        cr_assert(process_run(&q, &r, &error), "%s", error->message);
        return r;
}

/* A child that ends at once is the one whose output is easily lost. */
Test(process, the_output_of_the_shortest_child_is_never_lost)
{
        for (int i = 0; i < 300; i++) {
                struct process_result r = run("echo said; exit 3", 30000);
                cr_assert(eq(str, r.output, "said\n"), "run %d", i);
                cr_assert(eq(int, r.exit_status, 3));
                process_result_clear(&r);
        }
}

Test(process, a_child_that_does_not_end_is_killed_with_its_own_children)
{
        struct process_result r = run("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000", 300);
        cr_expect(r.timed_out);
        pid_t grandchild = (pid_t)g_ascii_strtoll(r.output, NULL, 10);
        cr_assert(gt(int, (int)grandchild, 1));
        /* It was sent the signal; when it is gone, its descriptor becomes readable. */
        struct pollfd gone = {.fd = (int)syscall(SYS_pidfd_open, grandchild, 0), .events = POLLIN};
        cr_expect(gone.fd < 0 || poll(&gone, 1, 20000) == 1);
        if (gone.fd >= 0)
                close(gone.fd);
        process_result_clear(&r);
}

/* The number that the first line of @output is. */
static pid_t pid_in(const char *output)
{
        pid_t pid = (pid_t)g_ascii_strtoll(output, NULL, 10);
        cr_assert(gt(int, (int)pid, 1), "%s", output);
        return pid;
}

/* Waits for its end: it was sent the signal. */
static gboolean goes(pid_t pid)
{
        struct pollfd gone = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
        gboolean is = gone.fd < 0 || poll(&gone, 1, 20000) == 1;
        if (gone.fd >= 0)
                close(gone.fd);
        return is;
}

/* Gone, or a zombie that its parent has yet to take away: it does nothing any more. */
static gboolean is_over(pid_t pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid), *stat = NULL;
        if (!g_file_get_contents(path, &stat, NULL, NULL))
                return TRUE;
        const char *state = strrchr(stat, ')');
        return state != NULL && strchr("ZX", state[2]) != NULL;
}

/* On a CPU that is busy with something else they need a while to end when the signal has been sent. */
static void expect_nothing_runs_on(void)
{
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        cr_assert(zero(int, sched_setaffinity(0, sizeof one, &one)));
        pid_t busy = fork();
        if (busy == 0)
                for (;;)
                        ;
        struct process_result r =
                run("for i in $(seq 20); do nice -n 19 sleep 1000 & echo $!; done; exec sleep 1000", 3000);
        g_auto(GStrv) pids = g_strsplit(g_strchomp(r.output), "\n", -1);
        cr_expect(r.timed_out);
        cr_expect(eq(int, (int)g_strv_length(pids), 20));
        for (int i = 0; pids[i] != NULL; i++)
                cr_expect(is_over(pid_in(pids[i])), "%s", pids[i]);
        process_result_clear(&r);
        kill(busy, SIGKILL);
        waitpid(busy, NULL, 0);
}

Test(process, when_it_is_told_nothing_that_was_killed_runs_on)
{
        expect_nothing_runs_on();
}

Test(process, nor_where_there_are_no_control_groups)
{
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL) != 0)
                cr_skip("nothing can be mounted here");
        expect_nothing_runs_on();
}

/* In the kernel's uninterruptible sleep, kill() does nothing either. */
Test(process, one_that_cannot_be_killed_is_given_up)
{
        g_setenv("MOULT_FAULT", "process-kill:*=skip", TRUE);
        const char *argv[] = {"/bin/sh", "-c", "echo $$; exec sleep 1000", NULL};
        static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
        struct process_request q = {.argv = argv,
                                    .environment = environment,
                                    .script_fd = -1,
                                    .timeout_ms = 300,
                                    .kill_within_ms = 300};
        struct process_result r = {0};
        cr_assert(process_run(&q, &r, NULL));
        cr_expect(r.timed_out && r.unkillable);
        g_autofree char *text = process_failure(&r, 300);
        cr_expect(ne(ptr, strstr(text, "cannot be killed"), NULL), "%s", text);
        kill(pid_in(r.output), SIGKILL);
        process_result_clear(&r);
}

Test(process, what_an_init_script_left_running_lives_on_and_may_write)
{
        /* The daemon waits for a line, then writes where its starter wrote. */
        g_autofree char *dir = g_dir_make_tmp("moult-XXXXXX", NULL), *go = g_build_filename(dir, "go", NULL),
                        *written = g_build_filename(dir, "written", NULL);
        cr_assert(zero(int, mkfifo(go, 0600) + mkfifo(written, 0600)));
        g_autofree char *script = g_strdup_printf(
                "{ read x <%s; echo one; echo two; read x <%s; } & echo $!; echo started", go, written);
        const char *argv[] = {"/bin/sh", "-c", script, NULL};
        static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
        struct process_request q = {.argv = argv,
                                    .environment = environment,
                                    .script_fd = -1,
                                    .timeout_ms = 30000,
                                    .leaves_daemons = TRUE};
        struct process_result r = {0};
        cr_assert(process_run(&q, &r, NULL));
        cr_expect(zero(int, r.exit_status));
        cr_expect(g_str_has_suffix(r.output, "started\n"), "%s", r.output);
        pid_t daemon = pid_in(r.output);
        /* Each returns when it reads: it lives. */
        int first = open(go, O_WRONLY);
        cr_assert(eq(int, (int)write(first, "go\n", 3), 3));
        close(first);
        int second = open(written, O_WRONLY);
        cr_expect(ge(int, second, 0));
        cr_expect(zero(int, kill(daemon, SIGKILL)));
        close(second);
        process_result_clear(&r);
        unlink(go);
        unlink(written);
        rmdir(dir);
}

Test(process, of_an_init_script_that_fails_nothing_is_left)
{
        const char *argv[] = {"/bin/sh", "-c", "sleep 1000 & echo $!; exit 1", NULL};
        static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
        struct process_request q = {.argv = argv,
                                    .environment = environment,
                                    .script_fd = -1,
                                    .timeout_ms = 30000,
                                    .leaves_daemons = TRUE};
        struct process_result r = {0};
        cr_assert(process_run(&q, &r, NULL));
        cr_expect(eq(int, r.exit_status, 1));
        cr_expect(goes(pid_in(r.output)));
        process_result_clear(&r);
}

/* Not the child, which has its parent-death signal: what it started. */
Test(process, nothing_is_left_when_we_are_killed)
{
        int ends[2];
        cr_assert(zero(int, pipe(ends)));
        pid_t us = fork();
        cr_assert(ge(int, (int)us, 0));
        if (us == 0) { /* at once, before the script's starter has done anything more */
                g_autofree char *script = g_strdup_printf(
                        "sleep 1000 & echo $! >/proc/%d/fd/%d; kill -9 $PPID; wait", (int)getpid(), ends[1]);
                run(script, 60000);
                _exit(0);
        }
        char text[32] = "";
        cr_assert(gt(int, (int)read(ends[0], text, sizeof text - 1), 0));
        waitpid(us, NULL, 0);
        cr_expect(goes(pid_in(text)));
}

/* A tree of control groups of our own, where ours is the root. */
static gboolean have_cgroup2(void)
{
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("none", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0;
}

Test(process, a_grandchild_with_a_session_of_its_own_does_not_outlive_its_hook)
{
        if (!have_cgroup2())
                cr_skip("control groups cannot be mounted here");
        struct process_result r = run("setsid sleep 1000 & echo $!; exit 0", 30000);
        cr_expect(zero(int, r.exit_status));
        cr_expect(goes(pid_in(r.output)));
        g_autofree char *own = g_strdup_printf("moult-hook.%d.0", (int)getpid()),
                        *path = g_build_filename("/sys/fs/cgroup", own, NULL);
        cr_expect(not(g_file_test(path, G_FILE_TEST_EXISTS)), "its cgroup is gone too");
        process_result_clear(&r);
}

Test(process, of_much_output_the_end_is_kept)
{
        struct process_result r = run("head -c 3000000 /dev/zero | tr '\\0' x; echo end", 60000);
        gsize len = strlen(r.output);
        cr_expect(le(sz, len, (gsize)LIMIT_HOOK_OUTPUT));
        cr_expect(g_str_has_suffix(r.output, "xend\n"));
        process_result_clear(&r);
}

Test(process, output_that_is_no_text_becomes_text)
{
        struct process_result r = run("printf 'a\\377\\376b'", 30000);
        cr_expect(g_utf8_validate(r.output, -1, NULL));
        process_result_clear(&r);
}

Test(process, how_it_ended_is_told)
{
        struct process_result ok = run("exit 0", 30000), failed = run("exit 7", 30000),
                              killed = run("kill -9 $$", 30000);
        g_autofree char *a = process_failure(&ok, 1), *b = process_failure(&failed, 1),
                        *c = process_failure(&killed, 1);
        cr_expect(eq(ptr, a, NULL));
        cr_expect(eq(str, b, "exit status 7"));
        cr_expect(eq(str, c, "it was killed by signal 9"));
        process_result_clear(&ok);
        process_result_clear(&failed);
        process_result_clear(&killed);
}

Test(process, a_program_that_is_not_there_is_an_error)
{
        static const char *const argv[] = {"/nonexistent/program", NULL};
        static const char *const environment[] = {NULL};
        struct process_result r = {0};
        g_autoptr(GError) error = NULL;
        struct process_request q = {
                .argv = argv, .environment = environment, .script_fd = -1, .timeout_ms = 1000};
        cr_expect(process_run(&q, &r, &error) == FALSE);
        cr_expect(ne(ptr, error, NULL));
}
