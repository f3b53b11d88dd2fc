/* host-service/cli/key_new.c - moult key new: a pair of keys for signing releases. */
#include <string.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "shm/keys.h"

struct options {
        char *out;
};

static ExitCode create(Cli *cli, const char *base, GError **error)
{
        g_autofree char *key_path = g_strconcat(base, ".key", NULL);
        g_autofree char *pub_path = g_strconcat(base, ".pub", NULL);
        uint8_t id[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];

        if (g_file_test(key_path, G_FILE_TEST_EXISTS) || g_file_test(pub_path, G_FILE_TEST_EXISTS)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "%s or %s exists already and is left as it is; choose another name", key_path,
                            pub_path);
                return EXIT_CODE_CONFLICT;
        }
        if (!signing_key_create(key_path, pub_path, error))
                return EXIT_CODE_INTERNAL;
        g_autoptr(SigningKey) key = signing_key_load(key_path, error);
        if (!key)
                return EXIT_CODE_INTERNAL;
        signing_key_id(key, id);
        digest_to_hex(id, hex);

        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);
        json_object_unref(o);
        json_object_set_string_member(o, "id", hex);
        json_object_set_string_member(o, "private_key", key_path);
        json_object_set_string_member(o, "public_key", pub_path);
        static const struct column columns[] = {
                {"Key id", "id", COLUMN_TEXT},
                {"Private", "private_key", COLUMN_TEXT},
                {"Public", "public_key", COLUMN_TEXT},
                {0},
        };
        if (!output_object(cli, node, columns, error))
                return EXIT_CODE_INTERNAL;
        output_words(cli,
                     "\nKeep %s secret. Copy %s into the trust directory of every guest and of this host "
                     "(%s).\n",
                     key_path, pub_path, CLI_DEFAULT_TRUST);
        return EXIT_CODE_OK;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"out", 'o', 0, G_OPTION_ARG_FILENAME, &o.out,
                 "Make PATH.key and PATH.pub instead of NAME.key and NAME.pub here", "PATH"},
                {0},
        };

        bool ok = command_parse(self, cli, entries, 0, 1, &argc, &argv, error);
        g_autofree char *out = o.out;
        if (!ok)
                return EXIT_CODE_OK;
        if ((out != NULL) == (argc == 2)) {
                command_usage_error(error, "'moult key new' needs either NAME or --out PATH");
                return EXIT_CODE_USAGE;
        }
        if (argc == 2 && (strchr(argv[1], '/') || !*argv[1])) {
                command_usage_error(error, "'%s' is not a name; for a place of your choice say --out PATH",
                                    argv[1]);
                return EXIT_CODE_USAGE;
        }
        g_autofree char *base = g_strdup(out ? out : argv[1]);
        if (g_str_has_suffix(base, ".key"))
                base[strlen(base) - 4] = '\0';
        return create(cli, base, error);
}

const struct command command_key_new = {
        .name = "new",
        .arguments = "NAME|--out PATH",
        .summary = "Make a pair of keys: NAME.key signs, NAME.pub is given to the guests",
        .details = "An existing file is never overwritten. The key id is the SHA-256 of the raw public key.",
        .run = run,
};
