/* host-service/main.c - moultd: settings, the real environment, the loop, a clean end. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/events.h"
#include "common/libcrypto.h"
#include "host-service/config.h"
#include "host-service/service.h"

static gboolean on_signal(gpointer user)
{
        g_main_loop_quit(user);
        return G_SOURCE_CONTINUE;
}

/* The audit log follows its path by itself: a rotation needs no signal, and one must not end us. */
static gboolean on_hangup(gpointer user)
{
        return G_SOURCE_CONTINUE;
}

static int run(const struct host_config *config)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        struct host_env *env = host_env_real_new(config->state_dir, &error);
        Service *service = NULL;

        if (env) {
                host_env_real_set_immutable(env, config->immutable_packs);
                service = service_new(env, config, &error);
        }
        if (service) {
                g_unix_signal_add(SIGTERM, on_signal, loop);
                g_unix_signal_add(SIGINT, on_signal, loop);
                g_unix_signal_add(SIGHUP, on_hangup, NULL);
                event_log(EVENT_INFO, "moultd-ready", "serving", "socket", config->socket, "state-dir",
                          config->state_dir, "version", MOULT_VERSION, NULL);
                g_main_loop_run(loop);
                event_log(EVENT_INFO, "moultd-stopping",
                          "stopping; what is unfinished goes on at the next start", NULL);
        } else {
                event_log(EVENT_ERROR, "moultd-not-started", error->message, "code",
                          moult_error_name(moult_error_code(error)), NULL);
        }
        service_free(service);
        host_env_real_free(env);
        return service ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(HostConfig) config = NULL;
        int status;

        libcrypto_start();
        umask(0077);
        /* A peer that hangs up is an error of one write, not our end. */
        signal(SIGPIPE, SIG_IGN);
        config = host_config_from_args(&argc, &argv, &status, &error);
        if (!config) {
                if (!error)
                        return status;
                fprintf(stderr, "moultd: %s\n", error->message);
                return 2;
        }
        event_set_level(config->log_level);
        return run(config);
}
