/* tests/unit/test_guest_agent_freeze_hooks.c - which files are hooks of a freeze, in which order they run,
 * and what a failing one does. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/freeze_hooks.h"
#include "tests/support/tempdir.h"

TestSuite(freeze_hooks, .timeout = 60);

static const guint8 id[16] = {0xab};

static void put(TempDir *d, const char *stage, const char *name, const char *text, mode_t mode)
{
        g_autofree char *dir = tempdir_path(d, stage), *path = g_build_filename(dir, name, NULL);

        g_mkdir_with_parents(dir, 0755);
        cr_assert(g_file_set_contents(path, text, -1, NULL));
        cr_assert(eq(int, chmod(path, mode), 0));
}

static char *names_of(TempDir *d, const char *stage, GError **error)
{
        g_autofree char *top = tempdir_path(d, ".");
        g_auto(GStrv) names = freeze_hooks_list(top, stage, error);

        return names ? g_strjoinv(" ", names) : NULL;
}

Test(freeze_hooks, are_executable_files_by_name_and_no_left_overs)
{
        g_autoptr(TempDir) d = tempdir_new();
        g_autofree char *none = names_of(d, "pre-freeze.d", NULL), *names = NULL;

        cr_expect(eq(str, none, ""));
        put(d, "pre-freeze.d", "20-b", "", 0755);
        put(d, "pre-freeze.d", "10-a.sh", "", 0700);
        put(d, "pre-freeze.d", "README", "", 0644);
        put(d, "pre-freeze.d", "10-a.sh.dpkg-old", "", 0755);
        put(d, "pre-freeze.d", "20-b~", "", 0755);
        put(d, "pre-freeze.d", ".hidden", "", 0755);
        g_autofree char *sub = tempdir_path(d, "pre-freeze.d/30-directory");
        g_mkdir_with_parents(sub, 0755);
        names = names_of(d, "pre-freeze.d", NULL);
        cr_expect(eq(str, names, "10-a.sh 20-b"));
}

Test(freeze_hooks, one_that_others_can_write_is_an_error_as_is_such_a_directory)
{
        g_autoptr(TempDir) d = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *dir = tempdir_path(d, "post-thaw.d");

        put(d, "post-thaw.d", "10-a", "", 0775);
        cr_expect(eq(ptr, names_of(d, "post-thaw.d", &error), NULL));
        cr_assert(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_HOOK));
        cr_expect(ne(ptr, strstr(error->message, "10-a"), NULL));
        g_clear_error(&error);
        put(d, "post-thaw.d", "10-a", "", 0755);
        cr_assert(eq(int, chmod(dir, 0777), 0));
        cr_expect(eq(ptr, names_of(d, "post-thaw.d", &error), NULL));
        cr_expect(ne(ptr, error, NULL));
}

Test(freeze_hooks, those_are_due_whose_namesakes_were_begun_and_those_without_one)
{
        const char *const post[] = {"10-a", "20-b", "30-c", "40-alone", NULL};
        const char *const pre[] = {"10-a", "20-b", "30-c", NULL};
        const char *const begun[] = {"10-a", "20-b", NULL};
        g_auto(GStrv) due = freeze_hooks_due(post, pre, begun);
        g_autofree char *names = g_strjoinv(" ", due);

        cr_expect(eq(str, names, "40-alone 20-b 10-a"));
}

static gboolean until_two(const char *name, gpointer user)
{
        return ++*(int *)user <= 2;
}

static struct freeze_hooks hooks_in(const char *directory, int *count)
{
        return (struct freeze_hooks){
                .directory = directory, .timeout_ms = 20000, .id = id, .begins = until_two, .user = count};
}

#define SAY "#!/bin/sh\necho $MOULT_HOOK $1 $MOULT_STAGE $MOULT_FREEZE_ID >>\"$(dirname \"$0\")/../ran\"\n"

static char *ran(TempDir *d)
{
        g_autofree char *path = tempdir_path(d, "ran");
        char *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

Test(freeze_hooks, no_more_are_run_once_it_is_given_up)
{
        g_autoptr(TempDir) d = tempdir_new();
        int count = 0;
        g_autofree char *top = tempdir_path(d, ".");
        struct freeze_hooks h = hooks_in(top, &count);
        g_autofree char *hook = NULL, *output = NULL, *text = NULL;
        g_autoptr(GError) error = NULL;
        guint run = 0;

        for (const char *const *n = (const char *const[]){"1", "2", "3", NULL}; *n; n++)
                put(d, "pre-freeze.d", *n, SAY, 0755);
        cr_expect(eq(int, freeze_hooks_pre(&h, &run, &hook, &output, &error), FALSE));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CANCELLED));
        cr_expect(eq(uint, run, 2));
        text = ran(d);
        cr_expect(eq(str, text,
                     "1 freeze freeze ab000000000000000000000000000000\n"
                     "2 freeze freeze ab000000000000000000000000000000\n"));
}

Test(freeze_hooks, every_post_hook_runs_and_the_first_failure_is_told)
{
        g_autoptr(TempDir) d = tempdir_new();
        int count = 0;
        g_autofree char *top = tempdir_path(d, ".");
        struct freeze_hooks h = hooks_in(top, &count);
        const char *const begun[] = {NULL};
        g_autofree char *hook = NULL, *output = NULL, *text = NULL;
        g_autoptr(GError) error = NULL;

        put(d, "post-thaw.d", "1", SAY, 0755);
        put(d, "post-thaw.d", "2", SAY "echo two; exit 2\n", 0755);
        put(d, "post-thaw.d", "3", SAY "echo three; exit 3\n", 0755);
        cr_expect(eq(int, freeze_hooks_post(&h, begun, &hook, &output, &error), FALSE));
        cr_expect(eq(str, hook, "3"));
        cr_expect(eq(str, output, "three\n"));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_HOOK));
        cr_expect(ne(ptr, strstr(error->message, "exit status 3"), NULL));
        text = ran(d);
        cr_expect(eq(str, text,
                     "3 thaw thaw ab000000000000000000000000000000\n"
                     "2 thaw thaw ab000000000000000000000000000000\n"
                     "1 thaw thaw ab000000000000000000000000000000\n"));
}
