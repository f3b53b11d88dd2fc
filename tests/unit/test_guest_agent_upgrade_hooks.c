/* tests/unit/test_guest_agent_upgrade_hooks.c - services are restarted by whatever plays systemctl or
 * service. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/upgrade/hooks.h"
#include "tests/support/tempdir.h"

TestSuite(hooks, .timeout = 60);

/* An init command of this name, which is this shell script. */
static char *init_script(TempDir *d, const char *name, const char *text)
{
        g_autofree char *script = g_strdup_printf("#!/bin/sh\ncd %s\n%s\n", d->path, text);
        char *path = tempdir_path(d, name);
        tempdir_put(d, name, script, strlen(script));
        cr_assert(zero(int, chmod(path, 0700)));
        return path;
}

static void expect_content(TempDir *d, const char *name, const char *want)
{
        g_autofree char *path = tempdir_path(d, name), *text = NULL;
        cr_assert(g_file_get_contents(path, &text, NULL, NULL));
        cr_expect(eq(str, text, (char *)want));
}

struct two_units {
        Moult__Manifest manifest;
        ProtobufCBinaryData names[2];
        struct hook_context context;
};

static void two_units(struct two_units *t, const char *init_command)
{
        static const guint8 push_id[16];
        t->manifest = (Moult__Manifest)MOULT__MANIFEST__INIT;
        t->names[0] = (ProtobufCBinaryData){9, (guint8 *)"a.service"};
        t->names[1] = (ProtobufCBinaryData){9, (guint8 *)"b.service"};
        t->manifest.restart_units = t->names;
        t->manifest.n_restart_units = 2;
        t->context = (struct hook_context){
                .manifest = &t->manifest, .root = "/", .push_id = push_id, .init_command = init_command};
}

#define FIRST_FAILS "echo $* >>asked; test $3 != a.service || { echo no a; exit 1; }"

Test(hooks, on_the_way_there_the_first_unit_that_does_not_come_up_ends_it)
{
        g_autoptr(TempDir) d = tempdir_new();
        g_autofree char *init = init_script(d, "systemctl", FIRST_FAILS);
        g_autoptr(GError) error = NULL;
        struct two_units t;
        two_units(&t, init);
        cr_expect(not(units_restart(&t.context, &error)));
        cr_expect(eq(str, error->message, "restarting a.service failed: exit status 1; no a"));
        expect_content(d, "asked", "try-restart -- a.service\n");
}

Test(hooks, on_the_way_back_every_unit_is_tried)
{
        g_autoptr(TempDir) d = tempdir_new();
        g_autofree char *init = init_script(d, "systemctl", FIRST_FAILS);
        g_autoptr(GString) notes = g_string_new(NULL);
        struct two_units t;
        two_units(&t, init);
        units_restart_all(&t.context, notes);
        cr_expect(eq(str, notes->str, "restarting a.service failed: exit status 1; no a\n"));
        expect_content(d, "asked", "try-restart -- a.service\ntry-restart -- b.service\n");
}

static void one_hook(Moult__Hook *h, Moult__HookStage stage, const char *script)
{
        *h = (Moult__Hook)MOULT__HOOK__INIT;
        h->stage = stage;
        h->name = (ProtobufCBinaryData){1, (guint8 *)"h"};
        h->script = (ProtobufCBinaryData){strlen(script), (guint8 *)script};
        h->timeout_ms = 30000;
}

/* A root of its own with a shell that has no libraries, as an image has. */
Test(hooks, of_a_machine_that_does_not_run_run_in_it_and_leave_no_mounts)
{
        g_autoptr(TempDir) d = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *busybox = NULL, *shell = tempdir_path(d, "bin/sh"), *bin = tempdir_path(d, "bin");
        gsize len;
        Moult__Hook hook, *hooks[] = {&hook};
        struct two_units t;

        if (geteuid() != 0 || !g_file_get_contents("/bin/busybox", &busybox, &len, NULL))
                cr_skip_test("needs root and busybox-static");
        cr_assert(zero(int, mkdir(bin, 0755)));
        tempdir_put(d, "bin/sh", busybox, len);
        cr_assert(zero(int, chmod(shell, 0755)));
        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *dir = tempdir_path(d, i ? "proc" : "dev");
                cr_assert(zero(int, mkdir(dir, 0755)));
        }
        two_units(&t, NULL);
        t.manifest.hooks = hooks;
        t.manifest.n_hooks = 1;
        t.context.root = d->path;
        t.context.inside = TRUE;
        one_hook(&hook, MOULT__HOOK_STAGE__HOOK_POST,
                 "#!/bin/sh\ntest -e /proc/self/stat && test -c /dev/null && echo $MOULT_ROOT $MOULT_OFFLINE "
                 ">/seen\n");
        cr_assert(hooks_run(&t.context, MOULT__HOOK_STAGE__HOOK_POST, &error), "%s",
                  error ? error->message : "");
        expect_content(d, "seen", "/ 1\n");
        g_autofree char *stat = tempdir_path(d, "proc/self");
        cr_expect(not(g_file_test(stat, G_FILE_TEST_EXISTS)));

        one_hook(&hook, MOULT__HOOK_STAGE__HOOK_HEALTH, "#!/bin/sh\nexit 1\n");
        cr_expect(hooks_run(&t.context, MOULT__HOOK_STAGE__HOOK_HEALTH, &error));
        t.context.inside = FALSE;
        cr_expect(not(hooks_run(&t.context, MOULT__HOOK_STAGE__HOOK_HEALTH, &error)));
}
