/* host-service/main.c - moultd: settings, the real environment, the loop, a clean end. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* FALSE with @error; *ret NULL: there is none. */
static gboolean open_objects(const struct host_config *config, ObjectStore **ret, GError **error)
{
        g_autofree char *dir = NULL, *bucket = NULL, *prefix = NULL;
        struct s3_config s3 = {.endpoint = config->s3_endpoint,
                               .region = config->s3_region,
                               .credentials = config->s3_credentials,
                               .ca = config->s3_ca,
                               .timeout_s = config->s3_timeout_s};
        const char *slash, *where = config->shared_store;

        *ret = NULL;
        if (where && g_str_equal(where, "none"))
                return TRUE;
        if (!where || *where == '/') {
                dir = where ? g_strdup(where) : g_build_filename(config->state_dir, "objects", NULL);
                *ret = object_store_dir_new(dir);
                return TRUE;
        }
        if (!g_str_has_prefix(where, "s3://")) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "shared-store: \"%s\" is neither none, nor a directory, nor s3://BUCKET[/PREFIX]",
                            where);
                return FALSE;
        }
        where += strlen("s3://");
        slash = strchr(where, '/');
        s3.bucket = bucket = slash ? g_strndup(where, (gsize)(slash - where)) : g_strdup(where);
        s3.prefix = prefix = g_strdup(slash ? slash + 1 : "");
        if (g_str_has_suffix(prefix, "/"))
                prefix[strlen(prefix) - 1] = '\0';
        *ret = object_store_s3_new(&s3, error);
        return *ret != NULL;
}

static int run(const struct host_config *config)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        struct host_env *env = host_env_real_new(config->state_dir, &error);
        Service *service = NULL;

        if (env) {
                env->disk_helper = config->disk_helper;
                host_env_real_set_immutable(env, config->immutable_packs);
                if (open_objects(config, &env->objects, &error))
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
        if (env)
                g_clear_pointer(&env->objects, object_store_free);
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
