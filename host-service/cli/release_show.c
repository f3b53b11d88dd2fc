/* host-service/cli/release_show.c - moult release show: what a release says about itself. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/pack_file.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

static const struct column columns[] = {
        {"Name", "name", COLUMN_TEXT},
        {"Version", "version", COLUMN_TEXT},
        {"Description", "description", COLUMN_TEXT},
        {"Created", "created", COLUMN_TIME},
        {"Entries", "entries_total", COLUMN_TEXT},
        {"Content", "content_bytes", COLUMN_BYTES},
        {"Stored", "stored_bytes", COLUMN_BYTES},
        {"Hash trees", "tree_bytes", COLUMN_BYTES},
        {"Pack", "pack_bytes", COLUMN_BYTES},
        {"Manifest", "manifest_digest", COLUMN_TEXT},
        {"Security floor", "security_floor", COLUMN_TEXT},
        {"Requires", "requires", COLUMN_TEXT},
        {"Restarts", "restart_units", COLUMN_TEXT},
        {0},
};

static const struct column entry_columns[] = {
        {"TYPE", "type", COLUMN_TEXT},
        {"MODE", "mode", COLUMN_MODE},
        {"UID", "uid", COLUMN_TEXT},
        {"GID", "gid", COLUMN_TEXT},
        {"SIZE", "size", COLUMN_BYTES},
        {"DIGEST", "digest", COLUMN_DIGEST},
        {"PATH", "path", COLUMN_TEXT},
        {"TARGET", "link_target", COLUMN_TEXT},
        {0},
};

static const struct column hook_columns[] = {
        {"HOOK", "stage", COLUMN_TEXT},
        {"NAME", "name", COLUMN_TEXT},
        {"LIMIT", "timeout_ms", COLUMN_MS},
        {0},
};

static void print_signatures(Cli *cli, JsonObject *o)
{
        JsonArray *signatures = json_list(o, "signatures");

        if (json_array_get_length(signatures) == 0)
                output_words(cli, "\nNot signed: every agent refuses it.\n");
        for (guint i = 0; i < json_array_get_length(signatures); i++)
                output_words(cli, "%sSigned by key %s\n", i == 0 ? "\n" : "",
                             json_text(json_array_get_object_element(signatures, i), "key_id"));
        if (json_array_get_length(signatures) > 0)
                output_words(cli, "The signature was not judged here: 'moult release verify' does that.\n");
}

static void print_deltas(Cli *cli, JsonObject *deltas)
{
        g_autofree char *bytes = text_bytes((uint64_t)json_number(deltas, "bytes"));
        g_autofree char *content = text_bytes((uint64_t)json_number(deltas, "content_bytes"));
        const char *why = json_text(deltas, "error");

        if (why)
                output_words(cli, "\nIts deltas cannot be used, whole files will be sent: %s\n", why);
        else if (json_number(deltas, "frames") > 0)
                output_words(cli,
                             "\nDeltas: %s make %s in %" G_GINT64_FORMAT " files out of %" G_GINT64_FORMAT
                             " old ones, where a guest has these.\n",
                             bytes, content, json_number(deltas, "files"), json_number(deltas, "sources"));
}

static ExitCode show_file(Cli *cli, const char *path, gboolean entries, GError **error)
{
        g_autoptr(PackReader) r = pack_file_open(path, NULL, cli->cancellable, error);

        if (!r)
                return EXIT_CODE_INTERNAL;
        g_autoptr(JsonNode) node = pack_file_describe(r, entries);
        JsonObject *o = json_node_get_object(node);
        if (!output_object(cli, node, columns, error) || cli->format != CLI_FORMAT_TABLE)
                return EXIT_CODE_OK;
        if (json_array_get_length(json_list(o, "hooks")) > 0) {
                output_words(cli, "\n");
                output_list(cli, json_object_get_member(o, "hooks"), hook_columns, "", error);
        }
        if (entries) {
                output_words(cli, "\n");
                output_list(cli, json_object_get_member(o, "entries"), entry_columns, "No entries", error);
        }
        print_deltas(cli, json_object_get_object_member(o, "deltas"));
        print_signatures(cli, o);
        return EXIT_CODE_OK;
}

static const struct column stored_columns[] = {
        {"Name", "name", COLUMN_TEXT},
        {"Version", "version", COLUMN_TEXT},
        {"Description", "description", COLUMN_TEXT},
        {"Created", "created", COLUMN_TIME},
        {"Imported", "imported", COLUMN_TIME},
        {"Entries", "entries", COLUMN_TEXT},
        {"Pack", "size", COLUMN_BYTES},
        {"Window", "padded_size", COLUMN_BYTES},
        {"Manifest", "digest", COLUMN_TEXT},
        {"Signed by", "key_id", COLUMN_TEXT},
        {"Security floor", "security_floor", COLUMN_TEXT},
        {0},
};

/* All pages of the list, as one array. */
static JsonNode *fetch_entries(Client *c, const char *path, GError **error)
{
        JsonArray *all = json_array_new();
        g_autoptr(JsonNode) node = json_node_init_array(json_node_alloc(), all);

        json_array_unref(all);
        for (gint64 first = 0;;) {
                g_autofree char *page_path =
                        g_strdup_printf("%s?entries=true&count=1000&first=%" G_GINT64_FORMAT, path, first);
                g_autoptr(JsonNode) page = client_get(c, page_path, error);
                JsonObject *o = page && JSON_NODE_HOLDS_OBJECT(page) ? json_node_get_object(page) : NULL;
                JsonArray *entries = o ? json_list(o, "entries") : NULL;
                guint n = entries ? json_array_get_length(entries) : 0;

                if (!page)
                        return NULL;
                for (guint i = 0; i < n; i++)
                        json_array_add_element(all, json_node_copy(json_array_get_element(entries, i)));
                first += n;
                if (n == 0 || first >= json_number(o, "total"))
                        return g_steal_pointer(&node);
        }
}

static ExitCode show_stored(Cli *cli, const char *spec, gboolean with_entries, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = remote_release_path(c, spec, error);
        g_autoptr(JsonNode) release = path ? remote_get_member(c, path, "release", error) : NULL;

        if (!release)
                return EXIT_CODE_INTERNAL;
        if (!with_entries) {
                output_object(cli, release, stored_columns, error);
                return EXIT_CODE_OK;
        }
        g_autoptr(JsonNode) entries = fetch_entries(c, path, error);
        if (!entries)
                return EXIT_CODE_INTERNAL;
        if (cli->format != CLI_FORMAT_TABLE)
                json_object_set_member(json_node_get_object(release), "entries", json_node_copy(entries));
        if (output_object(cli, release, stored_columns, error) && cli->format == CLI_FORMAT_TABLE) {
                output_words(cli, "\n");
                output_list(cli, entries, entry_columns, "No entries", error);
        }
        return EXIT_CODE_OK;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean show_entries = FALSE;
        const GOptionEntry entries[] = {
                {"entries", 'e', 0, G_OPTION_ARG_NONE, &show_entries, "Also every entry of the list", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        return pack_file_is_named(argv[1]) ? show_file(cli, argv[1], show_entries, error)
                                           : show_stored(cli, argv[1], show_entries, error);
}

const struct command command_release_show = {
        .name = "show",
        .arguments = "FILE|NAME[=VERSION]",
        .summary = "Show what a release says about itself",
        .details = "A FILE is what has a '/' in its name or ends in .moult; it is read here, without moultd.",
        .run = run,
};
