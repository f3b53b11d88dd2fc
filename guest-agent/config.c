/* guest-agent/config.c - the table of settings, and the two ways to set one. */
#include "guest-agent/config.h"

#include <string.h>

#include "common/error.h"
#include "fuse-overlay/pack_socket.h"
#include "common/events.h"

enum kind { KIND_STRING, KIND_UINT, KIND_BOOL, KIND_CHOICE };

struct setting {
        const char *group, *key;
        enum kind kind;
        size_t offset;
        const char *initial;
        unsigned min, max;          /* KIND_UINT */
        const char *const *choices; /* KIND_CHOICE: the index is the value */
        const char *arg, *help;
};

static const char *const levels[] = {"debug", "info", "notice", "warning", "error", NULL};
static const char *const sync_modes[] = {"fast", "gentle", NULL};

#define AT(field) offsetof(struct agent_config, field)
static const struct setting settings[] = {
        {"agent", "root", KIND_STRING, AT(root), "/", 0, 0, NULL, "DIR", "The tree that is upgraded"},
        {"agent", "state", KIND_STRING, AT(state), "/var/lib/moult", 0, 0, NULL, "DIR",
         "Journal and old generations"},
        {"agent", "trust", KIND_STRING, AT(trust), "/etc/moult/trusted.d", 0, 0, NULL, "DIR",
         "Trusted keys, *.pub"},
        {"agent", "channel", KIND_STRING, AT(channel), "auto", 0, 0, NULL, "WHERE",
         "auto, a device, unix:PATH, or none"},
        {"agent", "socket", KIND_STRING, AT(socket), AGENT_SOCKET, 0, 0, NULL, "PATH",
         "Socket of the guest's commands"},
        {"agent", "log-level", KIND_CHOICE, AT(log_level), "info", 0, 0, levels, "LEVEL",
         "debug, info, notice, warning or error"},
        {"network", "host", KIND_STRING, AT(host), "", 0, 0, NULL, "ADDRESS:PORT", "The host's TLS listener"},
        {"network", "token", KIND_STRING, AT(token), "", 0, 0, NULL, "TOKEN",
         "First contact: moult1:FINGERPRINT:SECRET"},
        {"network", "tls", KIND_STRING, AT(tls), "", 0, 0, NULL, "DIR",
         "Our key pair and the host's pin (STATE/tls)"},
        {"upgrade", "workers", KIND_UINT, AT(workers), "0", 0, 64, NULL, "N",
         "Staging threads; 0: by the CPUs"},
        {"upgrade", "sync", KIND_CHOICE, AT(sync_mode), "fast", 0, 0, sync_modes, "MODE", "fast or gentle"},
        {"upgrade", "keep-generations", KIND_UINT, AT(keep_generations),
         G_STRINGIFY(UPGRADE_KEEP_GENERATIONS), 1, 100, NULL, "N", "Ways back that are kept"},
        {"upgrade", "idle-io", KIND_BOOL, AT(idle_io), "true", 0, 0, NULL, "BOOL",
         "Stage at idle I/O priority"},
        {"upgrade", "confirm-timeout-ms", KIND_UINT, AT(confirm_timeout_ms), "120000", 1, 86400000, NULL,
         "MS", "Dead-man time, if the host names none"},
        {"upgrade", "patience-s", KIND_UINT, AT(patience_s), "300", 1, 86400, NULL, "S",
         "How long staging waits while no transport works"},
        {"upgrade", "idle-timeout-s", KIND_UINT, AT(idle_timeout_s), "3600", 1, 604800, NULL, "S",
         "A planned or staged push that nobody drives is dropped"},
        {"upgrade", "init-command", KIND_STRING, AT(init_command), "", 0, 0, NULL, "PATH",
         "systemctl or service"},
        {"freeze", "hooks", KIND_STRING, AT(freeze_hooks), "/etc/moult", 0, 0, NULL, "DIR",
         "Where pre-freeze.d and post-thaw.d are"},
        {"freeze", "hook-timeout-s", KIND_UINT, AT(freeze_hook_timeout_s), "30", 1, 3600, NULL, "S",
         "How long each of these hooks may take"},
        {"paths", "mountinfo", KIND_STRING, AT(mountinfo), "/proc/self/mountinfo", 0, 0, NULL, "FILE",
         "The mounts that a freeze is for"},
        {"paths", "pci", KIND_STRING, AT(pci), "/sys/bus/pci/devices", 0, 0, NULL, "DIR",
         "PCI devices in sysfs"},
        {"paths", "block", KIND_STRING, AT(block), "/sys/class/block", 0, 0, NULL, "DIR",
         "Block devices in sysfs"},
        {"paths", "virtio-ports", KIND_STRING, AT(virtio_ports), "/sys/class/virtio-ports", 0, 0, NULL, "DIR",
         "virtio ports in sysfs"},
        {"paths", "dev", KIND_STRING, AT(dev), "/dev", 0, 0, NULL, "DIR", "Device nodes"},
};

static gboolean parse_uint(const struct setting *s, const char *value, unsigned *ret, GError **error)
{
        guint64 number;

        if (!g_ascii_string_to_unsigned(value, 10, s->min, s->max, &number, NULL)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "%s: \"%s\" is not a number from %u to %u", s->key, value, s->min, s->max);
                return FALSE;
        }
        *ret = (unsigned)number;
        return TRUE;
}

static gboolean parse_choice(const struct setting *s, const char *value, unsigned *ret, GError **error)
{
        for (unsigned i = 0; s->choices[i]; i++)
                if (strcmp(s->choices[i], value) == 0) {
                        *ret = i;
                        return TRUE;
                }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s: \"%s\" is unknown; it is one of %s",
                    s->key, value, s->help);
        return FALSE;
}

static gboolean parse_bool(const struct setting *s, const char *value, gboolean *ret, GError **error)
{
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s: \"%s\" is neither true nor false",
                            s->key, value);
                return FALSE;
        }
        *ret = value[0] == 't';
        return TRUE;
}

static gboolean setting_apply(const struct setting *s, struct agent_config *c, const char *value,
                              GError **error)
{
        void *field = (char *)c + s->offset;

        switch (s->kind) {
        case KIND_UINT:
                return parse_uint(s, value, field, error);
        case KIND_CHOICE:
                return parse_choice(s, value, field, error);
        case KIND_BOOL:
                return parse_bool(s, value, field, error);
        case KIND_STRING:
                break;
        }
        g_free(*(char **)field);
        *(char **)field = g_strdup(value);
        return TRUE;
}

static const struct setting *setting_find(const char *group, const char *key)
{
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                if ((!group || strcmp(settings[i].group, group) == 0) && strcmp(settings[i].key, key) == 0)
                        return &settings[i];
        return NULL;
}

static gboolean read_group(struct agent_config *c, GKeyFile *keys, const char *group, GError **error)
{
        g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, error);

        if (!names)
                return FALSE;
        for (char **name = names; *name; name++) {
                const struct setting *s = setting_find(group, *name);
                g_autofree char *value = s ? g_key_file_get_string(keys, group, *name, error) : NULL;

                if (!s)
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "[%s] has no setting \"%s\"",
                                    group, *name);
                if (!value || !setting_apply(s, c, g_strstrip(value), error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean read_file(struct agent_config *c, const char *path, gboolean must_exist, GError **error)
{
        g_autoptr(GKeyFile) keys = g_key_file_new();
        g_autoptr(GError) local = NULL;

        if (!g_key_file_load_from_file(keys, path, G_KEY_FILE_NONE, &local)) {
                if (!must_exist && g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                        return TRUE;
                g_propagate_prefixed_error(error, g_steal_pointer(&local), "configuration %s: ", path);
                return FALSE;
        }
        g_auto(GStrv) groups = g_key_file_get_groups(keys, NULL);
        for (char **g = groups; *g; g++)
                if (!read_group(c, keys, *g, error)) {
                        g_prefix_error(error, "configuration %s: ", path);
                        return FALSE;
                }
        return TRUE;
}

/* The command line is parsed before the file is read, and applied after it. */
struct overrides {
        char *file;
        GHashTable *values; /* const struct setting * -> char * */
};

static gboolean take_option(const char *name, const char *value, gpointer user, GError **error)
{
        struct overrides *o = user;

        if (strcmp(name, "--config") == 0) {
                g_free(o->file);
                o->file = g_strdup(value);
                return TRUE;
        }
        g_hash_table_insert(o->values, (gpointer)setting_find(NULL, name + 2), g_strdup(value));
        return TRUE;
}

static gboolean parse_command_line(struct overrides *o, int *argc, char ***argv, GError **error)
{
        GOptionEntry entries[G_N_ELEMENTS(settings) + 2] = {
                {"config", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer)take_option,
                 "Configuration (" AGENT_CONFIG_FILE ")", "FILE"},
        };
        GOptionContext *context = g_option_context_new("- serve upgrades of this machine");
        GOptionGroup *group = g_option_group_new("run", "", "", o, NULL);
        gboolean ok;

        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                entries[i + 1] = (GOptionEntry){.long_name = settings[i].key,
                                                .arg = G_OPTION_ARG_CALLBACK,
                                                .arg_data = (gpointer)take_option,
                                                .description = settings[i].help,
                                                .arg_description = settings[i].arg};
        g_option_group_add_entries(group, entries);
        g_option_context_set_main_group(context, group);
        ok = g_option_context_parse(context, argc, argv, error);
        g_option_context_free(context);
        return ok;
}

static gboolean apply_all(struct agent_config *c, const struct overrides *o, const char *file_default,
                          GError **error)
{
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                if (!setting_apply(&settings[i], c, settings[i].initial, error))
                        return FALSE;
        if (!read_file(c, o->file ? o->file : file_default, /* must_exist= */ o->file != NULL, error))
                return FALSE;
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
                const char *value = g_hash_table_lookup(o->values, &settings[i]);

                if (value && !setting_apply(&settings[i], c, value, error)) {
                        g_prefix_error(error, "--");
                        return FALSE;
                }
        }
        c->pack_socket = pack_socket_path(c->socket);
        if (c->tls[0] == 0) {
                g_free(c->tls);
                c->tls = g_build_filename(c->state, "tls", NULL);
        }
        return TRUE;
}

struct agent_config *agent_config_load(int *argc, char ***argv, const char *file_default, GError **error)
{
        g_autoptr(AgentConfig) c = g_new0(struct agent_config, 1);
        struct overrides o = {.values = g_hash_table_new_full(NULL, NULL, NULL, g_free)};
        gboolean ok = parse_command_line(&o, argc, argv, error) && apply_all(c, &o, file_default, error);

        g_hash_table_unref(o.values);
        g_free(o.file);
        return ok ? g_steal_pointer(&c) : NULL;
}

void agent_config_free(struct agent_config *c)
{
        if (!c)
                return;
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                if (settings[i].kind == KIND_STRING)
                        g_free(*(char **)((char *)c + settings[i].offset));
        g_free(c->pack_socket);
        g_free(c);
}

struct upgrade_config agent_config_upgrade(const struct agent_config *c)
{
        return (struct upgrade_config){
                .root = c->root,
                .state_dir = c->state,
                .workers = c->workers,
                .sync_mode = (Moult__SyncMode)c->sync_mode,
                .keep_generations = c->keep_generations,
                .idle_io = c->idle_io,
                .init_command = c->init_command[0] ? c->init_command : NULL,
                .source = {.sysfs_pci = c->pci,
                           .sysfs_block = c->block,
                           .dev = c->dev,
                           .socket = c->pack_socket},
        };
}
