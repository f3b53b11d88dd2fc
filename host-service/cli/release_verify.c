/* host-service/cli/release_verify.c - moult release verify: signature and every digest. */
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/pack_file.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/remote.h"
#include "host-service/release/pack_verify.h"

static void show_progress(uint64_t done, uint64_t total, gpointer user)
{
        progress_update(user, "", "verifying", done, total);
}

static ExitCode verify_file(Cli *cli, const char *path, const char *trust_dir, GError **error)
{
        static const struct column columns[] = {
                {"Release", "release", COLUMN_TEXT},
                {"Manifest", "manifest_digest", COLUMN_TEXT},
                {"Signed by", "key_id", COLUMN_TEXT},
                {"Files", "files", COLUMN_TEXT},
                {"Content", "bytes", COLUMN_BYTES},
                {"Hash trees", "trees", COLUMN_TEXT},
                {0},
        };
        struct pack_verify_report report;
        char hex[2 * DIGEST_SIZE + 1];
        g_autoptr(PackReader) r = pack_file_open(path, trust_dir, cli->cancellable, error);

        if (!r)
                return EXIT_CODE_INTERNAL;
        Progress *progress = progress_new(cli);
        gboolean ok = pack_verify(r, 0, show_progress, progress, cli->cancellable, &report, error);
        progress_free(progress);
        if (!ok) {
                g_prefix_error(error, "%s: ", path);
                return EXIT_CODE_INTERNAL;
        }

        const Manifest *m = pack_reader_manifest(r);
        g_autofree char *release = g_strdup_printf("%.*s %.*s", (int)m->name.len, (const char *)m->name.data,
                                                   (int)m->version.len, (const char *)m->version.data);
        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);
        json_object_unref(o);
        json_object_set_string_member(o, "release", release);
        digest_to_hex(pack_reader_header(r)->manifest_digest, hex);
        json_object_set_string_member(o, "manifest_digest", hex);
        digest_to_hex(pack_reader_key_id(r), hex);
        json_object_set_string_member(o, "key_id", hex);
        json_object_set_int_member(o, "files", (gint64)report.files);
        json_object_set_int_member(o, "bytes", (gint64)report.bytes);
        json_object_set_int_member(o, "trees", (gint64)report.trees);
        json_object_set_boolean_member(o, "ok", TRUE);
        if (output_object(cli, node, columns, error))
                output_words(cli, "\nThe signature is by a trusted key, and every content has its digest.\n");
        return EXIT_CODE_OK;
}

static ExitCode verify_stored(Cli *cli, const char *spec, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = remote_release_path(c, spec, error);
        g_autofree char *verify = path ? g_strconcat(path, "/verify", NULL) : NULL;
        g_autoptr(JsonNode) answer = verify ? client_post(c, verify, NULL, NULL, error) : NULL;

        return answer ? remote_finish(cli, c, answer, FALSE, error) : EXIT_CODE_INTERNAL;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        char *trust = NULL;
        const GOptionEntry entries[] = {
                {"trust", 0, 0, G_OPTION_ARG_FILENAME, &trust,
                 "Directory of trusted *.pub keys (default " CLI_DEFAULT_TRUST "); for a FILE", "DIR"},
                {0},
        };

        bool ok = command_parse(self, cli, entries, 1, 1, &argc, &argv, error);
        g_autofree char *trust_dir = trust;
        if (!ok)
                return EXIT_CODE_OK;
        if (!pack_file_is_named(argv[1]))
                return verify_stored(cli, argv[1], error);
        return verify_file(cli, argv[1], trust_dir ? trust_dir : CLI_DEFAULT_TRUST, error);
}

const struct command command_release_verify = {
        .name = "verify",
        .arguments = "FILE|NAME[=VERSION]",
        .summary = "Check a release's signature and every content's digest",
        .details =
                "A FILE is what has a '/' in its name or ends in .moult; it is checked here, without moultd.",
        .run = run,
};
