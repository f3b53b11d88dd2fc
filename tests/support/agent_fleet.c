/* tests/support/agent_fleet.c - many agents in one small process: what a host with a thousand VMs talks to.
 *
 *     agent_fleet DIR COUNT RELEASE PACK [--step-ms N] [--unhealthy N]
 *
 * Agent I is a fake_agent behind DIR/I.sock. Each fetches what it is offered, byte by byte the file PACK, and
 * calls it RELEASE ("NAME VERSION") from then on. It knows what it did as long as this process lives, however
 * often the host dies. --step-ms: so long from one phase to the next; --unhealthy N: every Nth one finds
 * after the switch that it does not work, and goes back. "ready" is printed when all listen; each line on
 * stdin is answered by a line of JSON, an object for each agent; at the end of stdin it ends. */
#include <glib-unix.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <sys/resource.h>

#include "tests/support/fake_agent.h"

struct fleet {
        GPtrArray *log, *agents;
        GMainLoop *loop;
};

/* Two descriptors for each agent: where it listens, and its host. */
static void allow_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

static void print_report(const struct fleet *f)
{
        g_autoptr(JsonArray) all = json_array_new();
        g_autoptr(JsonNode) node = json_node_alloc();
        g_autofree char *text = NULL;

        for (guint i = 0; i < f->agents->len; i++) {
                const FakeAgent *a = f->agents->pdata[i];
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "phase", agent_phase_name(fake_agent_phase(a)));
                json_object_set_string_member(o, "release", fake_agent_release(a));
                json_object_set_int_member(o, "offers", fake_agent_offers(a));
                json_object_set_int_member(o, "commits", fake_agent_commits(a));
                json_object_set_int_member(o, "fetched", (gint64)fake_agent_fetched(a));
                json_array_add_object_element(all, o);
        }
        json_node_init_array(node, all);
        text = json_to_string(node, FALSE);
        puts(text);
        fflush(stdout);
}

static gboolean on_line(GIOChannel *channel, GIOCondition condition, gpointer user)
{
        struct fleet *f = user;
        g_autofree char *line = NULL;

        if (g_io_channel_read_line(channel, &line, NULL, NULL, NULL) == G_IO_STATUS_NORMAL) {
                print_report(f);
                return G_SOURCE_CONTINUE;
        }
        g_main_loop_quit(f->loop);
        return G_SOURCE_REMOVE;
}

/* A test reads the report; the lines are for tests that live in one process with their agents. */
static gboolean forget_lines(gpointer user)
{
        struct fleet *f = user;

        g_ptr_array_set_size(f->log, 0);
        return G_SOURCE_CONTINUE;
}

static FakeAgent *add_agent(struct fleet *f, const char *dir, guint i, const char *release, GBytes *pack)
{
        g_autofree char *name = g_strdup_printf("%u", i);
        g_autofree char *path = g_strdup_printf("%s/%u.sock", dir, i);
        FakeAgent *a = fake_agent_new(name, path, f->log);
        struct fake_agent_script *script = fake_agent_script(a);

        script->fetches = TRUE;
        script->expected = pack;
        script->release = release;
        g_ptr_array_add(f->agents, a);
        return a;
}

int main(int argc, char **argv)
{
        gint step_ms = 0, unhealthy = 0;
        const GOptionEntry entries[] = {
                {"step-ms", 0, 0, G_OPTION_ARG_INT, &step_ms, "from one phase to the next", "N"},
                {"unhealthy", 0, 0, G_OPTION_ARG_INT, &unhealthy, "every Nth goes back", "N"},
                {0},
        };
        g_autoptr(GOptionContext) context = g_option_context_new("DIR COUNT RELEASE PACK");
        g_autoptr(GIOChannel) in = g_io_channel_unix_new(0);
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) pack = NULL;
        struct fleet f = {0};
        gsize size;
        char *data;

        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 5 ||
            !g_file_get_contents(argv[4], &data, &size, &error)) {
                g_printerr("agent_fleet: %s\n", error ? error->message : "see --help");
                return 2;
        }
        pack = g_bytes_new_take(data, size);
        allow_descriptors();
        f.loop = g_main_loop_new(NULL, FALSE);
        f.log = g_ptr_array_new_with_free_func(g_free);
        f.agents = g_ptr_array_new_with_free_func((GDestroyNotify)fake_agent_free);
        for (guint i = 0; i < (guint)atoi(argv[2]); i++) {
                struct fake_agent_script *script =
                        fake_agent_script(add_agent(&f, argv[1], i, argv[3], pack));

                script->step_ms = (guint)step_ms;
                if (unhealthy > 0 && i % (guint)unhealthy == (guint)unhealthy - 1)
                        script->end = MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK;
        }
        g_timeout_add_seconds(10, forget_lines, &f);
        g_io_add_watch(in, G_IO_IN | G_IO_HUP, on_line, &f);
        puts("ready");
        fflush(stdout);
        g_main_loop_run(f.loop);
        g_ptr_array_unref(f.agents);
        g_ptr_array_unref(f.log);
        g_main_loop_unref(f.loop);
        return 0;
}
