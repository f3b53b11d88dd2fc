/* guest-agent/cli/run.c - `moult-agent run`: the daemon's process: signals, readiness, memory. */
#include <glib-unix.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "guest-agent/agent.h"
#include "guest-agent/cli/command.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/memory.h"
#include "guest-agent/own_program.h"
#include "guest-agent/version.h"

/* A stop waits so long for a switch that runs (exchanges take milliseconds, hooks may take longer); after
 * that the journal makes it safe to go. systemd's TimeoutStopSec is longer. */
#define STOP_WITHIN_S 20u

struct run {
        GMainLoop *loop;
        Agent *agent;
        char **argv; /* as given: SIGHUP reads it again */
        int argc;
        int status;
        gboolean stopping, successor;
};

/* sd_notify(3) is one datagram; libsystemd is not needed for that. */
static void notify(const char *text)
{
        const char *path = g_getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        scoped_fd int fd = -1;
        size_t len = path ? strlen(path) : 0;

        if (len < 2 || len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
                return;
        memcpy(address.sun_path, path, len);
        if (path[0] == '@')
                address.sun_path[0] = 0;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
                event_log(EVENT_DEBUG, "agent-notify", "the service manager could not be told", NULL);
}

static void on_ready(gpointer user)
{
        g_autofree char *said = g_strdup_printf("%s serves", agent_software());

        event_log(EVENT_INFO, "agent-ready", said, NULL);
        notify("READY=1");
        memory_trim();
}

static void on_failed(const GError *error, gpointer user)
{
        struct run *r = user;

        r->status = command_fail(error);
        g_main_loop_quit(r->loop);
}

static void on_stopped(gpointer user)
{
        g_main_loop_quit(((struct run *)user)->loop);
}

static void on_successor(gpointer user)
{
        struct run *r = user;

        event_log(EVENT_NOTICE, "agent-successor", "gives way to the agent that a release has brought", NULL);
        r->successor = TRUE;
        g_main_loop_quit(r->loop);
}

static gboolean on_stop_deadline(gpointer user)
{
        event_log(EVENT_WARNING, "agent-stop-forced",
                  "a switch is still running; the next start finishes it or takes it back from the journal",
                  NULL);
        g_main_loop_quit(((struct run *)user)->loop);
        return G_SOURCE_REMOVE;
}

static gboolean on_terminate(gpointer user)
{
        struct run *r = user;

        if (r->stopping) {
                g_main_loop_quit(r->loop);
                return G_SOURCE_CONTINUE;
        }
        r->stopping = TRUE;
        event_log(EVENT_INFO, "agent-stopping", "asked to stop", NULL);
        notify("STOPPING=1");
        g_timeout_add_seconds(STOP_WITHIN_S, on_stop_deadline, r);
        agent_stop(r->agent);
        return G_SOURCE_CONTINUE;
}

static struct agent_config *load(const struct run *r, GError **error)
{
        g_auto(GStrv) copy = g_new0(char *, r->argc + 1);
        g_autofree char **args = g_new0(char *, r->argc + 1);
        int n = r->argc;
        char **v = args;

        for (int i = 0; i < r->argc; i++)
                args[i] = copy[i] = g_strdup(r->argv[i]);
        struct agent_config *c = agent_config_load(&n, &v, AGENT_CONFIG_FILE, error);
        if (c && n > 1) {
                g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION, "\"%s\" is not an option",
                            args[1]);
                g_clear_pointer(&c, agent_config_free);
        }
        return c;
}

static gboolean on_hangup(gpointer user)
{
        struct run *r = user;
        g_autoptr(GError) error = NULL;
        struct agent_config *config = load(r, &error);

        if (config)
                agent_reload(r->agent, config);
        else
                event_log(EVENT_ERROR, "agent-reload-failed", error->message, NULL);
        return G_SOURCE_CONTINUE;
}

static int fail_config(const GError *error)
{
        g_printerr("moult-agent run: %s\n", error->message);
        return error->domain == G_OPTION_ERROR || error->code == MOULT_ERROR_MALFORMED ? AGENT_EXIT_USAGE
                                                                                       : AGENT_EXIT_FAILED;
}

int command_run(int argc, char **argv)
{
        static const struct agent_events events = {on_ready, on_failed, on_stopped, on_successor};
        g_autoptr(OwnProgram) own = own_program_new(argc, argv);
        struct run r = {.argc = argc, .argv = argv, .status = AGENT_EXIT_OK};
        g_autoptr(GError) error = NULL;
        struct agent_config *config;

        g_set_prgname("moult-agent run");
        /* Each arena keeps megabytes that an idle agent should give back; staging threads allocate little. */
        mallopt(M_ARENA_MAX, 2);
        config = load(&r, &error);
        if (!config)
                return fail_config(error);
        r.loop = g_main_loop_new(NULL, FALSE);
        r.agent = agent_new(config, own, &events, &r, &error);
        if (!r.agent) {
                agent_config_free(config);
                return command_fail(error);
        }
        g_unix_signal_add(SIGTERM, on_terminate, &r);
        g_unix_signal_add(SIGINT, on_terminate, &r);
        g_unix_signal_add(SIGHUP, on_hangup, &r);
        g_main_loop_run(r.loop);
        if (agent_is_working(r.agent))
                _exit(r.status); /* staging threads run: what they do is taken up again or thrown away */
        g_clear_pointer(&r.agent, agent_free);
        g_main_loop_unref(r.loop);
        if (r.successor && !r.stopping) {
                own_program_execute(own, &error);
                return command_fail(error); /* whoever has started us starts what is there now */
        }
        return r.status;
}
