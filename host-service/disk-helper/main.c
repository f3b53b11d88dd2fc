/* host-service/disk-helper/main.c - moult-disks: settings, and the one connection that it was started for. */
#include <errno.h>
#include <gio/gio.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/disk-helper/disk_serve.h"

#define CONFIG_FILE "/etc/moult/disks.conf"
#define USER        "moult"
#define RUN_DIR     "/run/moult-disks"

struct settings {
        char *config, *user, *run_dir;
        gboolean check, version;
};

static gboolean parse_args(int *argc, char ***argv, struct settings *ret, GError **error)
{
        GOptionEntry entries[] = {
                {"config", 'c', 0, G_OPTION_ARG_FILENAME, &ret->config, "settings (" CONFIG_FILE ")", "FILE"},
                {"user", 0, 0, G_OPTION_ARG_STRING, &ret->user, "who may ask, beside root (" USER ")",
                 "USER"},
                {"run-dir", 0, 0, G_OPTION_ARG_FILENAME, &ret->run_dir, "for locks (" RUN_DIR ")", "DIR"},
                {"check-config", 0, 0, G_OPTION_ARG_NONE, &ret->check,
                 "judge the settings, open the directories, and end", NULL},
                {"version", 'V', 0, G_OPTION_ARG_NONE, &ret->version, "print the version and end", NULL},
                G_OPTION_ENTRY_NULL,
        };
        g_autoptr(GOptionContext) context = g_option_context_new("- change disks' files for moultd");

        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, argc, argv, error))
                return FALSE;
        if (*argc > 1) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "unexpected argument \"%s\"; see moult-disks --help", (*argv)[1]);
                return FALSE;
        }
        return TRUE;
}

static gboolean check_config(const DiskDirs *dirs, GError **error)
{
        for (const char *const *each = disk_dirs_list(dirs); *each; each++) {
                int fd = disk_dirs_open(dirs, *each, error);

                if (fd < 0)
                        return FALSE;
                close(fd);
                printf("%s\n", *each);
        }
        return TRUE;
}

/* By name, or by number. */
static gboolean find_user(const char *name, uid_t *ret, GError **error)
{
        const struct passwd *p;
        guint64 number;

        errno = 0;
        p = getpwnam(name);
        if (p) {
                *ret = p->pw_uid;
                return TRUE;
        }
        if (g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT32 - 1, &number, NULL)) {
                *ret = (uid_t)number;
                return TRUE;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no user \"%s\"%s%s", name,
                    errno ? ": " : "", errno ? g_strerror(errno) : "");
        return FALSE;
}

static GSocket *standard_input(GError **error)
{
        g_autoptr(GSocket) s = g_socket_new_from_fd(STDIN_FILENO, NULL);

        if (s && g_socket_get_family(s) == G_SOCKET_FAMILY_UNIX &&
            g_socket_get_socket_type(s) == G_SOCKET_TYPE_SEQPACKET && g_socket_is_connected(s))
                return g_steal_pointer(&s);
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "standard input is no connection of moultd's; systemd starts this program: "
                            "'systemctl enable --now moult-disks.socket'");
        return NULL;
}

static gboolean serve(const struct settings *settings, GError **error)
{
        g_autoptr(GSocket) s = standard_input(error);
        g_autoptr(GError) why = NULL;
        g_autoptr(DiskDirs) dirs = NULL;
        struct disk_service service = {.run_dir = settings->run_dir ?: RUN_DIR};

        if (!s)
                return FALSE;
        dirs = disk_dirs_read(settings->config ?: CONFIG_FILE, &why);
        service.dirs = dirs;
        if (dirs && find_user(settings->user ?: USER, &service.user, &why))
                return disk_serve(s, &service, error);
        disk_serve_refuse(s, why); /* so that it is known to whoever asked */
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

static gboolean run(const struct settings *settings, GError **error)
{
        g_autoptr(DiskDirs) dirs = NULL;

        if (settings->version) {
                printf("moult-disks %s\n", MOULT_VERSION);
                return TRUE;
        }
        if (!settings->check)
                return serve(settings, error);
        dirs = disk_dirs_read(settings->config ?: CONFIG_FILE, error);
        return dirs && check_config(dirs, error);
}

int main(int argc, char **argv)
{
        g_autoptr(GError) error = NULL;
        struct settings settings = {0};
        gboolean parsed, well;

        (void)umask(0077);
        (void)signal(SIGPIPE, SIG_IGN);
        parsed = parse_args(&argc, &argv, &settings, &error);
        well = parsed && run(&settings, &error);
        if (!well && (!parsed || settings.check))
                (void)fprintf(stderr, "moult-disks: %s\n", error->message);
        else if (!well)
                event_log(EVENT_WARNING, "disk-helper-failed", error->message, "code",
                          moult_error_name(moult_error_code(error)), NULL);
        g_free(settings.config);
        g_free(settings.user);
        g_free(settings.run_dir);
        return well ? EXIT_SUCCESS : parsed && !settings.check ? EXIT_FAILURE : 2;
}
