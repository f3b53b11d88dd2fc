/* host-service/cli/command.c - the table of subcommands: finding one, its options, its help. */
#include "host-service/cli/command.h"

#include <stdlib.h>
#include <string.h>

#include "host-service/cli/suggest.h"

void cli_clear(Cli *cli)
{
        g_clear_pointer(&cli->socket, g_free);
        g_clear_pointer(&cli->host, g_free);
        g_clear_pointer(&cli->token_file, g_free);
        g_clear_object(&cli->cancellable);
}

const char *cli_socket(const Cli *cli)
{
        const char *env = g_getenv("MOULT_SOCKET");

        if (cli->socket)
                return cli->socket;
        return env && *env ? env : CLI_DEFAULT_SOCKET;
}

const char *cli_host(const Cli *cli)
{
        const char *env = g_getenv("MOULT_HOST");

        if (cli->socket || cli->host)
                return cli->host;
        return env && *env ? env : NULL;
}

gboolean command_usage_error(GError **error, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE, "%s\nTry '%s --help'", text, g_get_prgname());
        return FALSE;
}

static gboolean parse_format(const gchar *name, const gchar *value, gpointer data, GError **error)
{
        Cli *cli = data;

        if (!strcmp(name, "--json") || !strcmp(value, "json"))
                cli->format = CLI_FORMAT_JSON;
        else if (!strcmp(value, "yaml"))
                cli->format = CLI_FORMAT_YAML;
        else if (!strcmp(value, "table"))
                cli->format = CLI_FORMAT_TABLE;
        else
                return command_usage_error(error, "--format is one of table, json, yaml; not '%s'", value);
        return TRUE;
}

static gboolean parse_progress(const gchar *name, const gchar *value, gpointer data, GError **error)
{
        static const char *const words[] = {"auto", "bar", "plain", "json", "none"};
        Cli *cli = data;

        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
                if (!strcmp(value, words[i])) {
                        cli->progress = (CliProgress)i;
                        return TRUE;
                }
        }
        return command_usage_error(error, "--progress is one of auto, bar, plain, json, none; not '%s'",
                                   value);
}

/* A callback's pointer goes through void *; ISO C has no cast for it, POSIX does. */
static gpointer callback(GOptionArgFunc f)
{
        union {
                GOptionArgFunc function;
                gpointer pointer;
        } u = {.function = f};

        return u.pointer;
}

static void add_common(GOptionContext *context, Cli *cli, gboolean *help)
{
        const GOptionEntry common[] = {
                {"format", 0, 0, G_OPTION_ARG_CALLBACK, callback(parse_format),
                 "How to print results: table (default), json, yaml", "FORMAT"},
                {"json", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, callback(parse_format),
                 "The same as --format json", NULL},
                {"progress", 0, 0, G_OPTION_ARG_CALLBACK, callback(parse_progress),
                 "How to show progress, on standard error: auto (default), bar, plain, json, none", "HOW"},
                {"socket", 0, 0, G_OPTION_ARG_FILENAME, &cli->socket,
                 "moultd's socket (else $MOULT_SOCKET, else " CLI_DEFAULT_SOCKET ")", "PATH"},
                {"host", 0, 0, G_OPTION_ARG_STRING, &cli->host,
                 "A moultd on another host, over TLS (else $MOULT_HOST)", "HOST[:PORT]"},
                {"token-file", 0, 0, G_OPTION_ARG_FILENAME, &cli->token_file,
                 "The API token for it (else $MOULT_TOKEN_FILE, else ~/.config/moult/token)", "FILE"},
                {"help", 'h', 0, G_OPTION_ARG_NONE, help, "Show this help", NULL},
                {0},
        };

        g_option_group_add_entries(g_option_context_get_main_group(context), common);
}

/* The command's own options stand above those of every command. GOption hands callbacks their group's data.
 */
static GOptionContext *new_context(Cli *cli, const GOptionEntry *entries, gboolean *help)
{
        GOptionContext *context = g_option_context_new(NULL);

        g_option_context_set_help_enabled(context, FALSE);
        g_option_context_set_main_group(context, g_option_group_new("common", "", "", cli, NULL));
        add_common(context, cli, help);
        if (entries) {
                GOptionGroup *own = g_option_group_new("own", "Options:", "", NULL, NULL);

                g_option_group_add_entries(own, entries);
                g_option_context_add_group(context, own);
        }
        return context;
}

static void print_commands(const struct command *group, Cli *cli)
{
        int width = 0;

        for (const struct command *const *c = group->subcommands; *c; c++)
                width = MAX(width, (int)strlen((*c)->name));
        fprintf(cli->out, "Commands:\n");
        for (const struct command *const *c = group->subcommands; *c; c++)
                fprintf(cli->out, "  %-*s  %s\n", width, (*c)->name, (*c)->summary);
        fprintf(cli->out, "\n");
}

static void print_help(const struct command *self, Cli *cli, const GOptionEntry *entries)
{
        gboolean help = FALSE;
        g_autoptr(GOptionContext) context = new_context(cli, entries, &help);
        g_autofree char *text = g_option_context_get_help(context, FALSE, NULL);
        /* GLib's heading for its main group is fixed; what comes before the options is ours. */
        const char *options = strstr(text, "\n\n");
        const char *heading = options ? strstr(options, "Application Options:") : NULL;

        fprintf(cli->out, "Usage: %s%s%s%s\n\n%s\n\n", g_get_prgname(), self->arguments ? " " : "",
                self->arguments ? self->arguments : "", entries ? " [OPTION...]" : "", self->summary);
        if (self->subcommands)
                print_commands(self, cli);
        if (heading)
                fprintf(cli->out, "%.*sOptions of every command:%s", (int)(heading - options - 2),
                        options + 2, heading + strlen("Application Options:"));
        if (self->details)
                fprintf(cli->out, "%s\n", self->details);
}

/* "Unknown option --dryrun" becomes a question. */
static void explain_option_error(const GOptionEntry *entries, const GError *cause, GError **error)
{
        const char *unknown = strstr(cause->message, "--");
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        const char *near = NULL;

        for (; entries && entries->long_name; entries++)
                g_ptr_array_add(words, (gpointer)entries->long_name);
        g_ptr_array_add(words, NULL);
        if (g_error_matches(cause, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION) && unknown)
                near = suggest_word(unknown + 2, (const char *const *)words->pdata);
        if (near)
                command_usage_error(error, "%s; did you mean --%s?", cause->message, near);
        else
                command_usage_error(error, "%s", cause->message);
}

static void drop_dashes(int *argc, char **argv)
{
        for (int i = 1; i < *argc; i++) {
                if (strcmp(argv[i], "--") != 0)
                        continue;
                memmove(argv + i, argv + i + 1, (size_t)(*argc - i) * sizeof *argv);
                (*argc)--;
                return;
        }
}

bool command_parse(const struct command *self, Cli *cli, const GOptionEntry *entries, int min, int max,
                   int *argc, char ***argv, GError **error)
{
        gboolean help = FALSE;
        g_autoptr(GError) cause = NULL;
        g_autoptr(GOptionContext) context = new_context(cli, entries, &help);

        if (!g_option_context_parse(context, argc, argv, &cause)) {
                if (cause->domain == CLI_ERROR)
                        g_propagate_error(error, g_steal_pointer(&cause));
                else
                        explain_option_error(entries, cause, error);
                return false;
        }
        if (help) {
                print_help(self, cli, entries);
                return false;
        }
        drop_dashes(argc, *argv);
        if (*argc - 1 < min)
                return command_usage_error(error, "'%s' needs %s", g_get_prgname(), self->arguments);
        if (max >= 0 && *argc - 1 > max)
                return command_usage_error(error, "'%s' takes no argument '%s'", g_get_prgname(),
                                           (*argv)[max + 1]);
        return true;
}

static const struct command *find(const struct command *group, const char *name)
{
        for (const struct command *const *c = group->subcommands; *c; c++)
                if (!strcmp((*c)->name, name))
                        return *c;
        return NULL;
}

static void print_group_help(const struct command *group, Cli *cli)
{
        fprintf(cli->out, "Usage: %s COMMAND [OPTION...]\n\n%s\n\n", g_get_prgname(), group->summary);
        print_commands(group, cli);
        fprintf(cli->out, "'%s COMMAND --help' shows what a command takes.%s%s\n", g_get_prgname(),
                group->details ? "\n" : "", group->details ? group->details : "");
}

static ExitCode unknown_word(const struct command *group, const char *word, GError **error)
{
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        g_autoptr(GString) all = g_string_new(NULL);

        for (const struct command *const *c = group->subcommands; *c; c++) {
                g_ptr_array_add(words, (gpointer)(*c)->name);
                g_string_append_printf(all, "%s%s", all->len ? ", " : "", (*c)->name);
        }
        g_ptr_array_add(words, NULL);
        const char *near = suggest_word(word, (const char *const *)words->pdata);
        if (near)
                command_usage_error(error, "'%s' has no command '%s'; did you mean '%s'?", g_get_prgname(),
                                    word, near);
        else
                command_usage_error(error, "'%s' has no command '%s'; it has: %s", g_get_prgname(), word,
                                    all->str);
        return EXIT_CODE_USAGE;
}

/* Options before the next word: those of every command, and --version and --help. */
static bool parse_leading(Cli *cli, int *argc, char ***argv, gboolean *help, gboolean *version,
                          GError **error)
{
        const GOptionEntry own[] = {
                {"version", 'V', 0, G_OPTION_ARG_NONE, version, NULL, NULL},
                {0},
        };
        g_autoptr(GError) cause = NULL;
        g_autoptr(GOptionContext) context = new_context(cli, own, help);

        g_option_context_set_strict_posix(context, TRUE);
        if (g_option_context_parse(context, argc, argv, &cause))
                return true;
        if (cause->domain == CLI_ERROR)
                g_propagate_error(error, g_steal_pointer(&cause));
        else
                explain_option_error(NULL, cause, error);
        return false;
}

/* The format also decides how a mistake among the options is told, so it is looked for before they are
 * parsed. A value that is none is complained about later. */
static void find_format(Cli *cli, int argc, char **argv)
{
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
                const char *value =
                        g_str_has_prefix(argv[i], "--format=") ? argv[i] + strlen("--format=") : "";

                if (!strcmp(argv[i], "--format") && i + 1 < argc)
                        value = argv[i + 1];
                if (!strcmp(argv[i], "--json"))
                        value = "json";
                if (*value)
                        parse_format("--format", value, cli, NULL);
        }
}

ExitCode command_dispatch(const struct command *root, Cli *cli, int argc, char **argv, GError **error)
{
        const struct command *at = root;
        gboolean help = FALSE, version = FALSE;

        g_set_prgname(root->name);
        find_format(cli, argc, argv);
        while (at->subcommands) {
                /* A group that is a command itself: `moult jobs --all`. */
                if (at->run && (argc < 2 || argv[1][0] == '-'))
                        break;
                if (!parse_leading(cli, &argc, &argv, &help, &version, error))
                        return EXIT_CODE_USAGE;
                if (version) {
                        fprintf(cli->out, "moult %s\n", MOULT_VERSION);
                        return EXIT_CODE_OK;
                }
                if (argc > 1 && !strcmp(argv[1], "help")) {
                        /* `moult help push` is `moult push --help`, at any depth. */
                        help = TRUE;
                        argv++;
                        argc--;
                        continue;
                }
                if (argc < 2 && help) {
                        print_group_help(at, cli);
                        return EXIT_CODE_OK;
                }
                if (argc < 2) {
                        command_usage_error(error, "'%s' needs a command", g_get_prgname());
                        return EXIT_CODE_USAGE;
                }
                const struct command *next = find(at, argv[1]);
                if (!next)
                        return unknown_word(at, argv[1], error);
                at = next;
                argv++;
                argc--;
                g_autofree char *name = g_strdup_printf("%s %s", g_get_prgname(), at->name);
                g_set_prgname(name);
        }
        char *help_argv[] = {argv[0], (char[]){"--help"}, NULL};
        return help ? at->run(at, cli, 2, help_argv, error) : at->run(at, cli, argc, argv, error);
}
