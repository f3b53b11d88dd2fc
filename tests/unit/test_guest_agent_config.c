/* tests/unit/test_guest_agent_config.c - one table of settings, read from a file and a command line. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "common/error.h"
#include "guest-agent/config.h"
#include "tests/support/tempdir.h"

TestSuite(agent_config, .timeout = 20);

static struct agent_config *load(const char *text, const char *option, GError **error)
{
        g_autoptr(TempDir) dir = tempdir_new();
        g_autofree char *path = tempdir_path(dir, "agent.conf");
        char *args[] = {(char *)"run", (char *)option, NULL}, **argv = args;
        int argc = option ? 2 : 1;

        if (text)
                tempdir_put(dir, "agent.conf", text, strlen(text));
        return agent_config_load(&argc, &argv, path, error);
}

Test(agent_config, has_defaults_without_a_file)
{
        g_autoptr(AgentConfig) c = load(NULL, NULL, NULL);

        cr_assert(ne(ptr, c, NULL));
        cr_expect(eq(str, c->root, (char *)"/"));
        cr_expect(eq(str, c->channel, (char *)"auto"));
        cr_expect(eq(str, c->tls, (char *)"/var/lib/moult/tls"));
        cr_expect(eq(uint, c->keep_generations, 2));
        cr_expect(c->idle_io);
}

Test(agent_config, the_command_line_wins_over_the_file)
{
        g_autoptr(AgentConfig) c =
                load("[upgrade]\nworkers=3\nsync = gentle\n[agent]\nstate=/s\n", "--workers=5", NULL);

        cr_assert(ne(ptr, c, NULL));
        cr_expect(eq(uint, c->workers, 5));
        cr_expect(eq(uint, c->sync_mode, MOULT__SYNC_MODE__SYNC_GENTLE));
        cr_expect(eq(str, c->tls, (char *)"/s/tls"));
}

struct refusal {
        char text[80], option[40], why[60];
};

ParameterizedTestParameters(agent_config, refuses)
{
        static struct refusal cases[] = {
                {"[upgrade]\nworker=3\n", "", "has no setting \"worker\""},
                {"[agent]\nworkers=3\n", "", "has no setting \"workers\""},
                {"[nonsense]\na=b\n", "", "has no setting \"a\""},
                {"[upgrade]\nworkers=65\n", "", "not a number from 0 to 64"},
                {"[upgrade]\nworkers=-1\n", "", "not a number from 0 to 64"},
                {"[upgrade]\nkeep-generations=0\n", "", "not a number from 1 to 100"},
                {"[upgrade]\nsync=faster\n", "", "fast or gentle"},
                {"[upgrade]\nidle-io=yes\n", "", "neither true nor false"},
                {"not a key file", "", "configuration"},
                {"", "--workers=many", "--workers"},
                {"", "--wrong=1", "--wrong"},
                {"", "--config=/nonexistent/x.conf", "/nonexistent/x.conf"},
        };
        return cr_make_param_array(struct refusal, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct refusal *c, agent_config, refuses)
{
        g_autoptr(GError) error = NULL;

        cr_assert(eq(ptr, load(c->text, c->option[0] ? c->option : NULL, &error), NULL));
        cr_expect(ne(ptr, strstr(error->message, c->why), NULL), "%s", error->message);
}

Test(agent_config, the_shipped_file_is_valid_and_says_the_defaults)
{
        g_autofree char *shipped = NULL;
        g_autoptr(GString) uncommented = g_string_new(NULL);
        g_autoptr(GError) error = NULL;

        cr_assert(
                g_file_get_contents(MOULT_SOURCE_DIR "/guest-agent/moult-agent.conf", &shipped, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(shipped, "\n", -1);
        for (char **l = lines; *l; l++) {
                gboolean setting = (*l)[0] == '#' && (*l)[1] != ' ' && strchr(*l, '=') &&
                                   !strstr(*l, "192.0.2.1") && !strstr(*l, "FINGERPRINT") &&
                                   !strstr(*l, "init-command");
                g_string_append_printf(uncommented, "%s\n", setting ? *l + 1 : *l);
        }
        g_autoptr(AgentConfig) c = load(uncommented->str, NULL, &error);
        g_autoptr(AgentConfig) d = NULL;
        cr_assert(ne(ptr, c, NULL), "%s", error ? error->message : "");
        d = load(NULL, NULL, NULL);
        cr_expect(eq(str, c->tls, d->tls));
        cr_expect(eq(uint, c->patience_s, d->patience_s));
        cr_expect(eq(uint, c->confirm_timeout_ms, d->confirm_timeout_ms));
        cr_expect(eq(uint, c->idle_timeout_s, d->idle_timeout_s));
}
