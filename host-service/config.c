/* host-service/config.c - moultd's settings from defaults, file and command line, by one table. */
#include "host-service/config.h"

#include <stdio.h>
#include <string.h>

#include "common/error.h"

#define CONFIG_FILE "/etc/moult/moultd.conf"
#define GROUP       "moultd"

enum {
        SETTING_STATE_DIR,
        SETTING_SOCKET,
        SETTING_SOCKET_GROUP,
        SETTING_TRUST,
        SETTING_TLS_LISTEN,
        SETTING_SHARED_STORE,
        SETTING_S3_ENDPOINT,
        SETTING_S3_REGION,
        SETTING_S3_CREDENTIALS,
        SETTING_S3_CA,
        SETTING_S3_TIMEOUT,
        SETTING_IMMUTABLE,
        SETTING_MERGE,
        SETTING_CONCURRENT,
        SETTING_PER_BACKING,
        SETTING_BYTES,
        SETTING_API_LISTEN,
        SETTING_AUDIT_LOG,
        SETTING_DISK_HELPER,
        SETTING_LOG_LEVEL,
        SETTINGS
};

static const struct setting {
        const char *name, *fallback, *argument, *help;
} settings[SETTINGS] = {
        [SETTING_STATE_DIR] = {"state-dir", "/var/lib/moult-host", "DIR",
                               "where catalogue and packs are kept"},
        [SETTING_SOCKET] = {"socket", HOST_SOCKET_DEFAULT, "PATH", "the API's Unix socket"},
        [SETTING_SOCKET_GROUP] = {"socket-group", NULL, "GROUP", "who may use the socket beside root"},
        [SETTING_TRUST] = {"trust", "/etc/moult/trusted.d", "DIR",
                           "public keys (*.pub) whose releases are taken"},
        [SETTING_TLS_LISTEN] = {"tls-listen", NULL, "ADDR:PORT",
                                "listen for agents that call over the network"},
        [SETTING_SHARED_STORE] = {"shared-store", NULL, "WHERE",
                                  "none, a directory (STATE_DIR/objects), or s3://BUCKET[/PREFIX]"},
        [SETTING_S3_ENDPOINT] = {"s3-endpoint", NULL, "URL", "https://HOST[:PORT] of the S3 service"},
        [SETTING_S3_REGION] = {"s3-region", "us-east-1", "REGION", "the bucket's region"},
        [SETTING_S3_CREDENTIALS] = {"s3-credentials", NULL, "FILE",
                                    "access keys, mode 0600 (AWS_ACCESS_KEY_ID, ... if not given)"},
        [SETTING_S3_CA] = {"s3-ca", NULL, "FILE",
                           "certificates (PEM) that vouch for the S3 service, instead of the system's"},
        [SETTING_S3_TIMEOUT] = {"s3-timeout", "30", "SECONDS", "so long without an answer is a failure"},
        [SETTING_IMMUTABLE] = {"immutable-packs", "yes", "yes|no",
                               "set the immutable attribute on sealed packs"},
        [SETTING_MERGE] = {"merge-after-upload", "yes", "yes|no",
                           "merge a disk's history and the layer above it when the store has both"},
        [SETTING_CONCURRENT] = {"concurrent-pushes", "8", "N", "so many pushes talk to their guests at once"},
        [SETTING_PER_BACKING] = {"concurrent-per-backing", "0", "N",
                                 "so many of these for VMs that share a backing file; 0: any"},
        [SETTING_BYTES] = {"concurrent-bytes", "0", "N[K|M|G|T]",
                           "so many bytes of packs are staged at once; 0: any"},
        [SETTING_API_LISTEN] = {"api-listen", NULL, "ADDR:PORT",
                                "serve the API over TLS too, to holders of API tokens"},
        [SETTING_AUDIT_LOG] = {"audit-log", NULL, "PATH|none",
                               "who asked for what, as JSON lines (audit.log in the state directory)"},
        [SETTING_DISK_HELPER] = {"disk-helper", "/run/moult-disks.sock", "PATH|none",
                                 "the socket of moult-disks, asked where moultd may not change disks' files"},
        [SETTING_LOG_LEVEL] = {"log-level", "info", "LEVEL", "debug, info, notice, warning or error"},
};

static gboolean find_level(const char *name, EventLevel *ret, GError **error)
{
        static const char *const levels[] = {"debug", "info", "notice", "warning", "error"};

        for (guint i = 0; i < G_N_ELEMENTS(levels); i++)
                if (g_str_equal(levels[i], name)) {
                        *ret = (EventLevel)i;
                        return TRUE;
                }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "log-level: \"%s\" is none of debug, info, notice, warning, error", name);
        return FALSE;
}

static gboolean find_bool(const char *name, const char *text, gboolean *ret, GError **error)
{
        *ret = g_str_equal(text, "yes");
        if (!*ret && !g_str_equal(text, "no"))
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s: \"%s\" is neither yes nor no",
                            name, text);
        return *ret || g_str_equal(text, "no");
}

static gboolean find_number(const char *name, const char *text, guint min, guint max, guint *ret,
                            GError **error)
{
        guint64 n;

        if (!g_ascii_string_to_unsigned(text, 10, min, max, &n, NULL)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "%s: \"%s\" is no number from %u to %u", name, text, min, max);
                return FALSE;
        }
        *ret = (guint)n;
        return TRUE;
}

static gboolean find_bytes(const char *text, guint64 *ret, GError **error)
{
        static const char units[] = "KMGT";
        gsize len = strlen(text);
        const char *unit = len > 1 ? strchr(units, text[len - 1]) : NULL;
        guint shift = unit ? 10 * (guint)(unit - units + 1) : 0;
        g_autofree char *digits = g_strndup(text, len - (unit ? 1 : 0));
        guint64 n;

        if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXINT64 >> shift, &n, NULL)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "concurrent-bytes: \"%s\" is no number of bytes; 500M, 4G, or 0 for any", text);
                return FALSE;
        }
        *ret = n << shift;
        return TRUE;
}

/* Fills what is still NULL from the file. A missing file counts only if it was asked for. */
static gboolean read_file(const char *path, char *values[SETTINGS], GError **error)
{
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(GError) why = NULL;
        g_auto(GStrv) groups = NULL, keys = NULL;

        if (!g_key_file_load_from_file(file, path ? path : CONFIG_FILE, G_KEY_FILE_NONE, &why)) {
                if (!path && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                        return TRUE;
                g_set_error(error, MOULT_ERROR, moult_error_code(why), "configuration %s: %s",
                            path ? path : CONFIG_FILE, why->message);
                return FALSE;
        }
        groups = g_key_file_get_groups(file, NULL);
        for (GStrv g = groups; *g; g++)
                if (!g_str_equal(*g, GROUP)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "configuration %s: there is no group [%s], only [" GROUP "]",
                                    path ? path : CONFIG_FILE, *g);
                        return FALSE;
                }
        keys = g_key_file_get_keys(file, GROUP, NULL, NULL);
        for (GStrv k = keys; k && *k; k++) {
                guint i = 0;

                while (i < SETTINGS && !g_str_equal(settings[i].name, *k))
                        i++;
                if (i == SETTINGS) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "configuration %s: \"%s\" is not a setting of moultd",
                                    path ? path : CONFIG_FILE, *k);
                        return FALSE;
                }
                if (!values[i])
                        values[i] = g_key_file_get_string(file, GROUP, *k, NULL);
        }
        return TRUE;
}

static char *audit_path(const char *setting, const char *state_dir)
{
        if (!setting)
                return g_build_filename(state_dir, "audit.log", NULL);
        return g_str_equal(setting, "none") ? NULL : g_strdup(setting);
}

/* @values are complete. */
static HostConfig *make_config(char *values[SETTINGS], GError **error)
{
        g_autoptr(HostConfig) c = g_new0(struct host_config, 1);

        c->audit_log = audit_path(values[SETTING_AUDIT_LOG], values[SETTING_STATE_DIR]);
        c->state_dir = g_strdup(values[SETTING_STATE_DIR]);
        c->socket = g_strdup(values[SETTING_SOCKET]);
        c->socket_group = g_strdup(values[SETTING_SOCKET_GROUP]);
        c->trust_dir = g_strdup(values[SETTING_TRUST]);
        c->api_listen = g_strdup(values[SETTING_API_LISTEN]);
        c->tls_listen = g_strdup(values[SETTING_TLS_LISTEN]);
        c->shared_store = g_strdup(values[SETTING_SHARED_STORE]);
        c->s3_endpoint = g_strdup(values[SETTING_S3_ENDPOINT]);
        c->s3_region = g_strdup(values[SETTING_S3_REGION]);
        c->s3_credentials = g_strdup(values[SETTING_S3_CREDENTIALS]);
        c->s3_ca = g_strdup(values[SETTING_S3_CA]);
        if (!g_str_equal(values[SETTING_DISK_HELPER], "none"))
                c->disk_helper = g_strdup(values[SETTING_DISK_HELPER]);
        if (!find_bool("immutable-packs", values[SETTING_IMMUTABLE], &c->immutable_packs, error) ||
            !find_bool("merge-after-upload", values[SETTING_MERGE], &c->merge_after_upload, error) ||
            !find_level(values[SETTING_LOG_LEVEL], &c->log_level, error) ||
            !find_number("concurrent-pushes", values[SETTING_CONCURRENT], 1, CONCURRENT_PUSHES_MAX,
                         &c->concurrent_pushes, error) ||
            !find_number("concurrent-per-backing", values[SETTING_PER_BACKING], 0, CONCURRENT_PUSHES_MAX,
                         &c->concurrent_per_backing, error) ||
            !find_number("s3-timeout", values[SETTING_S3_TIMEOUT], 1, S3_TIMEOUT_MAX_S, &c->s3_timeout_s,
                         error) ||
            !find_bytes(values[SETTING_BYTES], &c->concurrent_bytes, error))
                return NULL;
        return g_steal_pointer(&c);
}

/* As they would be in a file. */
static void print_settings(char *const values[SETTINGS])
{
        printf("[" GROUP "]\n");
        for (guint i = 0; i < SETTINGS; i++)
                printf(values[i] ? "%s = %s\n" : "#%s =\n", settings[i].name, values[i]);
}

static gboolean parse_args(int *argc, char ***argv, const GOptionEntry *entries, GError **error)
{
        g_autoptr(GOptionContext) context = g_option_context_new("- moult's host service");

        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, argc, argv, error))
                return FALSE;
        if (*argc > 1) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "unexpected argument \"%s\"; see moultd --help", (*argv)[1]);
                return FALSE;
        }
        return TRUE;
}

static HostConfig *config_of(const char *path, gboolean check, char *values[SETTINGS], int *ret_exit,
                             GError **error)
{
        g_autoptr(HostConfig) c = NULL;

        if (!read_file(path, values, error))
                return NULL;
        for (guint i = 0; i < SETTINGS; i++)
                if (!values[i])
                        values[i] = g_strdup(settings[i].fallback);
        c = make_config(values, error);
        if (!c || !check)
                return g_steal_pointer(&c);
        print_settings(values);
        *ret_exit = 0;
        return NULL;
}

struct host_config *host_config_from_args(int *argc, char ***argv, int *ret_exit, GError **error)
{
        char *values[SETTINGS] = {NULL};
        g_autofree char *path = NULL;
        gboolean version = FALSE, check = FALSE;
        GOptionEntry entries[SETTINGS + 4] = {
                {"config", 'c', 0, G_OPTION_ARG_FILENAME, &path, "settings (" CONFIG_FILE " if it is there)",
                 "FILE"},
                {"check-config", 0, 0, G_OPTION_ARG_NONE, &check, "judge the settings, print them, and end",
                 NULL},
                {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "print the version and end", NULL},
        };
        HostConfig *c = NULL;

        *ret_exit = -1;
        for (guint i = 0; i < SETTINGS; i++)
                entries[i + 3] = (GOptionEntry){settings[i].name,    0,          0,
                                                G_OPTION_ARG_STRING, &values[i], settings[i].help,
                                                settings[i].argument};
        if (!parse_args(argc, argv, entries, error)) {
                /* the error says why */
        } else if (version) {
                printf("moultd %s\n", MOULT_VERSION);
                *ret_exit = 0;
        } else {
                c = config_of(path, check, values, ret_exit, error);
        }
        for (guint i = 0; i < SETTINGS; i++)
                g_free(values[i]);
        return c;
}

void host_config_free(struct host_config *c)
{
        if (!c)
                return;
        g_free(c->state_dir);
        g_free(c->socket);
        g_free(c->socket_group);
        g_free(c->trust_dir);
        g_free(c->tls_listen);
        g_free(c->api_listen);
        g_free(c->audit_log);
        g_free(c->disk_helper);
        g_free(c->shared_store);
        g_free(c->s3_endpoint);
        g_free(c->s3_region);
        g_free(c->s3_credentials);
        g_free(c->s3_ca);
        g_free(c);
}
