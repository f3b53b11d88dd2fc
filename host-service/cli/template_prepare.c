/* host-service/cli/template_prepare.c - moult template prepare: the agent and the keys into a template image.
 */
#include "common/digest.h"
#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/public_key.h"
#include "host-service/template/prepare.h"

#define AGENTS "/usr/share/moult"

struct options {
        char *agent, *host, *host_key;
        GStrv keys;
        gboolean dry_run;
};

static void key_free(gpointer data)
{
        struct template_key *k = data;

        g_free(k->name);
        g_bytes_unref(k->data);
        g_free(k);
}

/* Under the file's own name; the agent reads *.pub. */
static gboolean read_key(GPtrArray *keys, const char *file, GError **error)
{
        guint8 id[DIGEST_SIZE];
        bool private;
        char *text = NULL;
        gsize len;
        struct template_key *k;

        if (!g_str_has_suffix(file, ".pub"))
                return command_usage_error(
                        error, "--key takes the public half of a key, a file that ends in .pub: %s", file);
        if (!public_key_id_of_file(file, id, &private, error))
                return FALSE;
        if (private) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is a private key: it never leaves the host that signs", file);
                return FALSE;
        }
        if (!g_file_get_contents(file, &text, &len, error))
                return FALSE;
        k = g_new0(struct template_key, 1);
        k->name = g_path_get_basename(file);
        k->data = g_bytes_new_take(text, len);
        g_ptr_array_add(keys, k);
        return TRUE;
}

static const char *state_name(const struct fitting_item *i)
{
        static const char *const names[] = {"new", "changed", "same", "kept"};

        return i->kind == FITTING_REMOVE && i->state == FITTING_NEW ? "removed" : names[i->state];
}

static JsonArray *items_json(const GPtrArray *items)
{
        static const char *const kinds[] = {"file", "link", "directory", "remove", "run"};
        JsonArray *a = json_array_new();

        for (guint n = 0; n < items->len; n++) {
                const struct fitting_item *i = items->pdata[n];
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "path", i->path);
                json_object_set_string_member(o, "kind", kinds[i->kind]);
                json_object_set_string_member(o, "state", state_name(i));
                if (i->link)
                        json_object_set_string_member(o, "link", i->link);
                if (i->why)
                        json_object_set_string_member(o, "why", i->why);
                json_array_add_object_element(a, o);
        }
        return a;
}

static void print_items(Cli *cli, const GPtrArray *items)
{
        guint same = 0;

        for (guint n = 0; n < items->len; n++) {
                const struct fitting_item *i = items->pdata[n];

                same += i->state == FITTING_SAME;
                if (i->state == FITTING_SAME)
                        continue;
                output_words(cli, "%-8s %s%s%s%s%s\n", state_name(i), i->path, i->link ? " -> " : "",
                             i->link ? i->link : "", i->why ? ": " : "", i->why ? i->why : "");
        }
        if (same > 0)
                output_words(cli, "%u more are as they should be\n", same);
}

static void report(Cli *cli, const char *image, const struct prepare_result *r, const struct options *o)
{
        JsonObject *all = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), all);

        json_object_unref(all);
        json_object_set_string_member(all, "image", image);
        json_object_set_string_member(all, "system", r->product);
        json_object_set_string_member(all, "init", fitting_init_name(r->init));
        json_object_set_boolean_member(all, "changed", r->changed);
        json_object_set_boolean_member(all, "prepared", !o->dry_run || !fitting_changes(r->items));
        if (r->agent)
                json_object_set_string_member(all, "agent", r->agent);
        json_object_set_array_member(all, "items", items_json(r->items));
        if (output_machine(cli, node))
                return;
        output_words(cli, "%s: %s, %s\n", image, *r->product ? r->product : "Linux",
                     fitting_init_name(r->init));
        print_items(cli, r->items);
        if (!fitting_changes(r->items))
                output_words(cli, "%s is prepared; nothing to change\n", image);
        else if (o->dry_run)
                output_words(cli, "Nothing was changed (--dry-run)\n");
        else
                output_words(cli, "%s is prepared: %s runs in it\n", image, r->agent);
        if (!o->keys)
                output_words(cli, "note: no --key was given: clones take no release but those of keys that "
                                  "the image trusts already\n");
}

static gboolean prepare(Cli *cli, const char *word, const struct options *o, GError **error)
{
        g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(key_free);
        struct template_settings settings = {o->host, o->host_key, keys};
        struct prepare_result result = {0};
        struct image_name image = {0};
        g_autofree char *agent = o->agent ? g_strdup(o->agent) : payload_find_file(AGENTS, error);
        g_autoptr(GPtrArray) payload = agent ? payload_read(agent, error) : NULL;
        gboolean ok = payload != NULL;

        for (gsize n = 0; ok && o->keys && o->keys[n]; n++)
                ok = read_key(keys, o->keys[n], error);
        ok = ok && image_name_parse(word, &image, error) &&
             template_prepare(&image, payload, &settings, o->dry_run, &result, error);
        if (ok)
                report(cli, word, &result, o);
        prepare_result_clear(&result);
        image_name_clear(&image);
        return ok;
}

static gboolean check(const struct options *o, GError **error)
{
        guint8 digest[DIGEST_SIZE];

        if (o->host && !strrchr(o->host, ':'))
                return command_usage_error(error, "--connect takes ADDRESS:PORT, not \"%s\"", o->host);
        if (o->host_key && !digest_from_hex(o->host_key, digest))
                return command_usage_error(
                        error, "--host-key takes the 64 digits that `moult status` shows as TLS key");
        return TRUE;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"agent", 0, 0, G_OPTION_ARG_FILENAME, &o.agent,
                 "moult-agent's package or the archive of the static agent (default: what lies in " AGENTS
                 ")",
                 "FILE"},
                {"key", 'k', 0, G_OPTION_ARG_FILENAME_ARRAY, &o.keys,
                 "A key whose releases the clones take; may be given again", "FILE.pub"},
                {"connect", 0, 0, G_OPTION_ARG_STRING, &o.host, "Where clones find the host over the network",
                 "ADDRESS:PORT"},
                {"host-key", 0, 0, G_OPTION_ARG_STRING, &o.host_key,
                 "The host's TLS key, as `moult status` shows it", "HEX"},
                {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &o.dry_run, "Only show what would be done", NULL},
                {0},
        };

        if (command_parse(self, cli, entries, 1, 1, &argc, &argv, error) && check(&o, error))
                prepare(cli, argv[1], &o, error);
        g_free(o.agent);
        g_free(o.host);
        g_free(o.host_key);
        g_strfreev(o.keys);
        return EXIT_CODE_OK;
}

const struct command command_template_prepare = {
        .name = "prepare",
        .arguments = "IMAGE",
        .summary = "Put the agent and the keys into a template image",
        .details = "IMAGE is a qcow2 or raw file that no VM has open. All of it is done in a copy, the agent "
                   "is started there once, and\n"
                   "then the copy takes the image's place. What is as it should be stays; a second run does "
                   "nothing. Needs no moultd.",
        .run = run,
};
