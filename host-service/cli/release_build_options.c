/* host-service/cli/release_build_options.c - the command lines of `moult release build` and `capture` as one
 * struct. */
#include "host-service/cli/release_build_options.h"

#include <string.h>

#include "host-service/cli/text.h"
#include "proto/limits.h"

#define HOOK_TIMEOUT_DEFAULT_MS 30000
#define COMPRESS_DEFAULT        3
#define COMPRESS_MAX            19
#define DELTA_LEVEL_MAX         22

static void hook_clear(gpointer data)
{
        struct release_hook *h = data;

        g_free(h->name);
        g_free(h->path);
}

static void requirement_clear(gpointer data)
{
        struct release_requirement *r = data;

        g_free(r->key);
        g_free(r->value);
}

void build_command_line_clear(BuildCommandLine *o)
{
        char **texts[] = {&o->old_dir,     &o->output,   &o->name,        &o->version,
                          &o->description, &o->compress, &o->delivery,    &o->floor,
                          &o->owner_map,   &o->jobs,     &o->per_vm_file, &o->delta_level};
        char ***lists[] = {&o->sign,         &o->hooks_text, &o->restart,       &o->require,
                           &o->allow_per_vm, &o->exclude,    &o->exclude_xattr, &o->from,
                           &o->to,           &o->include,    &o->delta_from};

        for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
                g_clear_pointer(texts[i], g_free);
        for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++)
                g_clear_pointer(lists[i], g_strfreev);
        g_clear_pointer(&o->per_vm, per_vm_list_free);
        g_clear_pointer(&o->keys, g_ptr_array_unref);
        g_clear_pointer(&o->hooks, g_array_unref);
        g_clear_pointer(&o->requirements, g_array_unref);
}

static const struct {
        const char *name;
        Moult__HookStage stage;
} stages[] = {
        {"check", MOULT__HOOK_STAGE__HOOK_CHECK},
        {"pre", MOULT__HOOK_STAGE__HOOK_PRE},
        {"post", MOULT__HOOK_STAGE__HOOK_POST},
        {"health", MOULT__HOOK_STAGE__HOOK_HEALTH},
};

/* Takes ",name=..." or ",timeout=..." off the end of @text, so that the file's name may hold commas. */
static gboolean take_suffix(char *text, const char *key, char **ret)
{
        char *comma = strrchr(text, ',');

        if (!comma || !g_str_has_prefix(comma + 1, key))
                return FALSE;
        g_free(*ret);
        *ret = g_strdup(comma + 1 + strlen(key));
        *comma = '\0';
        return TRUE;
}

gboolean build_hook_parse(const char *text, struct release_hook *ret, GError **error)
{
        const char *equals = strchr(text, '=');
        g_autofree char *path = equals ? g_strdup(equals + 1) : NULL;
        g_autofree char *name = NULL, *timeout = NULL;
        uint64_t timeout_ms = HOOK_TIMEOUT_DEFAULT_MS;
        unsigned stage = 0;

        while (stage < G_N_ELEMENTS(stages) &&
               !(equals && strlen(stages[stage].name) == (size_t)(equals - text) &&
                 !strncmp(text, stages[stage].name, (size_t)(equals - text))))
                stage++;
        while (path && (take_suffix(path, "timeout=", &timeout) || take_suffix(path, "name=", &name)))
                ;
        if (stage == G_N_ELEMENTS(stages) || !path || !*path)
                return command_usage_error(
                        error,
                        "--hook is STAGE=FILE[,timeout=10s][,name=NAME] with one of the stages "
                        "check, pre, post, health; not '%s'",
                        text);
        if (timeout && !text_parse_duration_ms(timeout, LIMIT_HOOK_TIMEOUT_MS, &timeout_ms, error)) {
                g_prefix_error(error, "--hook %s: ", text);
                return FALSE;
        }
        *ret = (struct release_hook){
                .stage = stages[stage].stage,
                .name = name ? g_steal_pointer(&name) : g_path_get_basename(path),
                .path = g_steal_pointer(&path),
                .timeout_ms = (uint32_t)timeout_ms,
        };
        return TRUE;
}

static gboolean parse_hooks(BuildCommandLine *o, GError **error)
{
        o->hooks = g_array_new(FALSE, FALSE, sizeof(struct release_hook));
        g_array_set_clear_func(o->hooks, hook_clear);
        for (unsigned i = 0; o->hooks_text && o->hooks_text[i]; i++) {
                struct release_hook h;

                if (!build_hook_parse(o->hooks_text[i], &h, error))
                        return FALSE;
                g_array_append_val(o->hooks, h);
        }
        o->build.hooks = (const struct release_hook *)(gpointer)o->hooks->data;
        o->build.n_hooks = o->hooks->len;
        return TRUE;
}

static gboolean parse_requirements(BuildCommandLine *o, GError **error)
{
        o->requirements = g_array_new(FALSE, FALSE, sizeof(struct release_requirement));
        g_array_set_clear_func(o->requirements, requirement_clear);
        for (unsigned i = 0; o->require && o->require[i]; i++) {
                const char *equals = strchr(o->require[i], '=');

                if (!equals || equals == o->require[i])
                        return command_usage_error(
                                error, "--require is KEY=VALUE, as in ID=debian or ARCH=x86_64; not '%s'",
                                o->require[i]);
                struct release_requirement r = {g_strndup(o->require[i], (gsize)(equals - o->require[i])),
                                                g_strdup(equals + 1)};
                g_array_append_val(o->requirements, r);
        }
        o->build.requirements = (const struct release_requirement *)(gpointer)o->requirements->data;
        o->build.n_requirements = o->requirements->len;
        return TRUE;
}

static gboolean load_keys(BuildCommandLine *o, GError **error)
{
        o->keys = g_ptr_array_new_with_free_func((GDestroyNotify)signing_key_free);
        for (unsigned i = 0; o->sign && o->sign[i]; i++) {
                SigningKey *key = signing_key_load(o->sign[i], error);

                if (!key)
                        return FALSE;
                g_ptr_array_add(o->keys, key);
        }
        if (o->keys->len > LIMIT_SIGNATURES)
                return command_usage_error(error, "a release has at most %u signatures", LIMIT_SIGNATURES);
        o->build.keys = (SigningKey *const *)(gpointer)o->keys->pdata;
        o->build.n_keys = o->keys->len;
        return TRUE;
}

static gboolean parse_words(BuildCommandLine *o, GError **error)
{
        uint64_t level = COMPRESS_DEFAULT, threads = 0, delta_level = 0;

        if (o->compress && !strcmp(o->compress, "none"))
                level = 0;
        else if (o->compress &&
                 (!text_parse_u64("--compress", o->compress, COMPRESS_MAX, &level, NULL) || level == 0))
                return command_usage_error(error, "--compress is none or a level from 1 to %d; not '%s'",
                                           COMPRESS_MAX, o->compress);
        if (!o->delivery || !strcmp(o->delivery, "auto"))
                o->build.delivery = MOULT__DELIVERY__DELIVERY_AUTO;
        else if (!strcmp(o->delivery, "overwrite"))
                o->build.delivery = MOULT__DELIVERY__DELIVERY_OVERWRITE;
        else if (!strcmp(o->delivery, "overlay"))
                o->build.delivery = MOULT__DELIVERY__DELIVERY_OVERLAY;
        else
                return command_usage_error(error, "--delivery is one of auto, overwrite, overlay; not '%s'",
                                           o->delivery);
        if (o->owner_map && strcmp(o->owner_map, "root") != 0 && strcmp(o->owner_map, "numeric") != 0)
                return command_usage_error(error, "--owner-map is numeric or root; not '%s'", o->owner_map);
        o->build.owner_root = o->owner_map && !strcmp(o->owner_map, "root");
        if (o->floor &&
            !text_parse_u64("--security-floor", o->floor, UINT32_MAX, &o->build.security_floor, error))
                return FALSE;
        if (o->jobs && !text_parse_u64("--jobs", o->jobs, 1024, &threads, error))
                return FALSE;
        if (o->delta_level &&
            (!text_parse_u64("--delta-level", o->delta_level, DELTA_LEVEL_MAX, &delta_level, NULL) ||
             delta_level == 0))
                return command_usage_error(error, "--delta-level is a level from 1 to %d; not '%s'",
                                           DELTA_LEVEL_MAX, o->delta_level);
        o->build.delta_level = (int)delta_level;
        o->build.threads = (unsigned)threads;
        o->build.zstd_level = (int)level;
        return TRUE;
}

/* reproducible-builds.org: the time that a build pretends it is. */
static gboolean find_time(BuildCommandLine *o, GError **error)
{
        const char *epoch = g_getenv("SOURCE_DATE_EPOCH");

        if (epoch && *epoch)
                return text_parse_u64("SOURCE_DATE_EPOCH", epoch, G_MAXINT32 * (uint64_t)256,
                                      &o->build.created_unix_s, error);
        o->build.created_unix_s = (uint64_t)(g_get_real_time() / G_USEC_PER_SEC);
        return TRUE;
}

/* The options that only one of the two has. */
static const GOptionEntry *own_entries(BuildCommandLine *o, bool capture, GOptionEntry room[static 5])
{
        const GOptionEntry capture_entries[] = {
                {"from", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->from,
                 "What the VMs have now: a directory, or packages (repeatable)", "OLD"},
                {"to", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->to,
                 "What they shall have: a directory, a VM as vm:NAME, or packages (repeatable)", "NEW"},
                {"include", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->include,
                 "Only what matches, and what is below it; globs as for --exclude (repeatable)", "GLOB"},
                {"checksum", 0, 0, G_OPTION_ARG_NONE, &o->checksum,
                 "With a VM: read files although their size and time are those of OLD", NULL},
                {0},
        };
        const GOptionEntry build_entries[] = {
                {"from", 0, 0, G_OPTION_ARG_FILENAME, &o->old_dir,
                 "Only what differs from OLD_DIR; what is gone there is deleted", "OLD_DIR"},
                {0},
        };

        memcpy(room, capture ? capture_entries : build_entries,
               capture ? sizeof capture_entries : sizeof build_entries);
        return room;
}

/* @first, then @second; both end with an empty one. */
static GArray *joined_entries(const GOptionEntry *first, const GOptionEntry *second)
{
        GArray *all = g_array_new(TRUE, FALSE, sizeof(GOptionEntry));

        for (; first->long_name; first++)
                g_array_append_vals(all, first, 1);
        for (; second->long_name; second++)
                g_array_append_vals(all, second, 1);
        return all;
}

static gboolean check_needed(const struct command *self, const BuildCommandLine *o, bool capture,
                             GError **error)
{
        const char *missing = capture && !o->to     ? "--to NEW"
                              : capture && !o->from ? "--from OLD"
                              : !o->output          ? "-o FILE"
                              : !o->name            ? "--name NAME"
                              : !o->version         ? "--version VERSION"
                                                    : NULL;

        if (missing)
                return command_usage_error(error, "'moult release %s' needs %s", self->name, missing);
        return TRUE;
}

bool build_command_line_parse(const struct command *self, Cli *cli, int argc, char **argv, bool capture,
                              BuildCommandLine *ret, GError **error)
{
        BuildCommandLine *o = ret;
        const GOptionEntry entries[] = {
                {"output", 'o', 0, G_OPTION_ARG_FILENAME, &o->output, "Where the pack goes", "FILE"},
                {"name", 0, 0, G_OPTION_ARG_FILENAME, &o->name, "The release's name: [a-z0-9][a-z0-9+.-]*",
                 "NAME"},
                {"version", 0, 0, G_OPTION_ARG_FILENAME, &o->version,
                 "The release's version: [A-Za-z0-9][A-Za-z0-9+.:~-]*", "VERSION"},
                {"description", 0, 0, G_OPTION_ARG_FILENAME, &o->description, "What it is, for people",
                 "TEXT"},
                {"sign", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->sign,
                 "Sign with this private key (repeatable)", "KEY"},
                {"compress", 0, 0, G_OPTION_ARG_FILENAME, &o->compress,
                 "zstd level 1 to 19, or none (default 3)", "LEVEL"},
                {"no-trees", 0, 0, G_OPTION_ARG_NONE, &o->no_trees,
                 "Leave out the hash trees that an instant push needs: 1/128 of the content", NULL},
                {"no-deltas", 0, 0, G_OPTION_ARG_NONE, &o->no_deltas,
                 "Leave out the deltas against the old files: a quicker build, more bytes over a network",
                 NULL},
                {"delta-from", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->delta_from,
                 "Also deltas against this older tree; only for the way, nothing is compared (repeatable)",
                 "DIR"},
                {"delta-level", 0, 0, G_OPTION_ARG_FILENAME, &o->delta_level,
                 "zstd level of the deltas, 1 to 22 (default 19)", "LEVEL"},
                {"hook", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->hooks_text,
                 "Run a script in the guest at check, pre, post or health (repeatable)",
                 "STAGE=FILE[,timeout=10s][,name=NAME]"},
                {"restart", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->restart,
                 "Restart this unit after the switch (repeatable)", "UNIT"},
                {"require", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->require,
                 "Only for guests with this in /etc/os-release, or ARCH=MACHINE (repeatable)", "KEY=VALUE"},
                {"delivery", 0, 0, G_OPTION_ARG_FILENAME, &o->delivery,
                 "auto (default), overwrite (never by overlay), overlay (always)", "HOW"},
                {"security-floor", 0, 0, G_OPTION_ARG_FILENAME, &o->floor,
                 "Guests that have this release refuse any with a lower number", "N"},
                {"allow-per-vm", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->allow_per_vm,
                 "Put this file in although it belongs to one machine (repeatable)", "PATH"},
                {"owner-map", 0, 0, G_OPTION_ARG_FILENAME, &o->owner_map,
                 "numeric (default): owners as they are; root: all become root", "HOW"},
                {"exclude", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->exclude,
                 "Leave out what matches: with a '/' the whole path, else the last part (repeatable)",
                 "GLOB"},
                {"exclude-xattr", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->exclude_xattr,
                 "Leave out extended attributes that match (repeatable)", "GLOB"},
                {"mtime", 0, 0, G_OPTION_ARG_NONE, &o->mtime,
                 "With --from: a different modification time alone is a difference", NULL},
                {"jobs", 'j', 0, G_OPTION_ARG_FILENAME, &o->jobs,
                 "Threads for hashing (default: one per CPU)", "N"},
                {"force", 'f', 0, G_OPTION_ARG_NONE, &o->force, "Replace FILE if it exists", NULL},
                {"list", 'l', 0, G_OPTION_ARG_NONE, &o->listing, "Show each entry and why it is in", NULL},
                {"per-vm-list", 0, 0, G_OPTION_ARG_FILENAME, &o->per_vm_file,
                 "The list of files that belong to one machine (default: " PER_VM_LIST_FILE ", else the one "
                 "that comes with moult)",
                 "FILE"},
                {0},
        };

        GOptionEntry own[5];
        g_autoptr(GArray) all = joined_entries(entries, own_entries(o, capture, own));

        if (!command_parse(self, cli, (const GOptionEntry *)(gpointer)all->data, capture ? 0 : 1,
                           capture ? 0 : 1, &argc, &argv, error) ||
            !check_needed(self, o, capture, error))
                return false;
        o->build.new_dir = capture ? NULL : argv[1];
        o->build.old_dir = o->old_dir;
        o->build.capture = capture;
        o->build.include = (const char *const *)o->include;
        o->build.output = o->output;
        o->build.name = o->name;
        o->build.version = o->version;
        o->build.description = o->description;
        o->build.mtime_counts = o->mtime;
        o->build.no_trees = o->no_trees;
        o->build.no_deltas = o->no_deltas;
        o->build.delta_dirs = (const char *const *)o->delta_from;
        o->build.replace = o->force;
        o->build.allow_per_vm = (const char *const *)o->allow_per_vm;
        o->build.exclude = (const char *const *)o->exclude;
        o->build.exclude_xattr = (const char *const *)o->exclude_xattr;
        o->build.restart_units = (const char *const *)o->restart;
        o->per_vm = per_vm_list_load(o->per_vm_file, error);
        o->build.per_vm = o->per_vm;
        return o->per_vm && parse_words(o, error) && parse_hooks(o, error) && parse_requirements(o, error) &&
               find_time(o, error) && load_keys(o, error);
}
