/* host-service/cli/drift.c - moult drift: what differs in VMs from their golden image and from their
 * releases. One VM after the other: reading all files of a VM is work for its host's disk. */
#include <string.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/drift_check.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"

typedef struct options {
        char *golden, *list;
        GStrv exclude, labels;
        gboolean quick, all, no_record;
} Options;

static void options_clear(Options *o)
{
        g_free(o->golden);
        g_free(o->list);
        g_strfreev(o->exclude);
        g_strfreev(o->labels);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

/* One VM to be looked at, and what became of it. */
struct row {
        char *vm;
        gboolean away; /* its agent is not connected: nobody waits for it */
        GError *error;
        struct drift_found found;
};

static void row_free(gpointer data)
{
        struct row *r = data;

        g_free(r->vm);
        g_clear_error(&r->error);
        drift_found_clear(&r->found);
        g_free(r);
}

static void add_row(GPtrArray *rows, const char *vm, gboolean away)
{
        struct row *r = g_new0(struct row, 1);

        r->vm = g_strdup(vm);
        r->away = away;
        g_ptr_array_add(rows, r);
}

/* ---- which VMs ---- */

static gboolean add_listed(Cli *cli, const Options *o, GPtrArray *rows, GError **error)
{
        g_autofree char *path = labels_path("/v1/vms", (const char *const *)o->labels, error);
        g_autoptr(Client) c = path ? client_new(cli) : NULL;
        g_autoptr(JsonNode) vms = path ? remote_get_member(c, path, "vms", error) : NULL;
        JsonArray *a = vms && JSON_NODE_HOLDS_ARRAY(vms) ? json_node_get_array(vms) : NULL;

        if (!vms)
                return FALSE;
        for (guint i = 0; a && i < json_array_get_length(a); i++) {
                JsonNode *node = json_array_get_element(a, i);
                JsonObject *vm = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

                if (vm && json_text(vm, "name"))
                        add_row(rows, json_text(vm, "name"), !json_flag(vm, "connected"));
        }
        if (rows->len == 0)
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                    o->labels ? "no VM has these labels"
                                              : "moultd knows no VMs; 'moult vm add' makes one known");
        return rows->len > 0;
}

static gboolean choose(Cli *cli, const Options *o, int argc, char **argv, GPtrArray *rows, GError **error)
{
        if ((argc > 1) + (o->all != FALSE) + (o->labels != NULL) != 1)
                return command_usage_error(
                        error, "'moult drift' takes the names of VMs, or --label KEY=VALUE, or --all");
        if (!o->golden)
                return command_usage_error(error, "'moult drift' needs --golden, a directory or an image");
        if (argc <= 1)
                return add_listed(cli, o, rows, error);
        for (int i = 1; i < argc; i++)
                add_row(rows, argv[i], FALSE);
        return TRUE;
}

/* ---- looking ---- */

static gboolean golden_open(Side *s, const char *golden, GError **error)
{
        char *words[] = {(char *)golden, NULL};

        s->word = golden;
        if (!side_kind_of("--golden", words, &s->kind, error))
                return FALSE;
        if (s->kind == SIDE_DIRECTORY || s->kind == SIDE_IMAGE)
                return sides_open(s, NULL, error);
        return command_usage_error(error, "--golden is a directory or an image");
}

static void look_at(const struct drift_against *a, const Options *o, struct row *r)
{
        if (r->away)
                g_set_error_literal(&r->error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                    "its agent is not connected");
        else if (drift_check(a, r->vm, &r->found, &r->error) && !o->no_record)
                drift_record(a->cli, r->vm, &r->found);
}

/* FALSE only for what ends all of it. */
static gboolean look(Cli *cli, const Options *o, const PerVmList *per_vm, GPtrArray *rows, GError **error)
{
        g_auto(Side) side = {0};
        const struct side_options options = {
                .per_vm = per_vm,
                .exclude = (const char *const *)o->exclude,
                .hash = !o->quick,
        };

        if (!golden_open(&side, o->golden, error))
                return FALSE;
        g_autoptr(BuildTree) golden = side_read(&side, NULL, &options, cli->cancellable, error);
        if (!golden)
                return FALSE;
        const struct drift_against against = {
                .cli = cli,
                .golden = golden,
                .per_vm = per_vm,
                .exclude = options.exclude,
                .quick = o->quick,
        };
        for (guint i = 0; i < rows->len; i++) {
                if (g_cancellable_set_error_if_cancelled(cli->cancellable, error))
                        return FALSE;
                look_at(&against, o, rows->pdata[i]);
        }
        return TRUE;
}

/* ---- telling ---- */

static void warn(Cli *cli, const struct row *r)
{
        for (guint i = 0; r->found.warnings && i < r->found.warnings->len; i++)
                fprintf(cli->err, "moult: warning: %s: %s\n", r->vm,
                        (const char *)r->found.warnings->pdata[i]);
}

static JsonObject *row_json(const struct row *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "vm", r->vm);
        if (r->error) {
                json_object_set_string_member(o, "error", r->error->message);
                return o;
        }
        json_object_set_array_member(o, "drift", json_array_ref(r->found.drift));
        json_object_set_int_member(o, "released", r->found.released);
        json_object_set_int_member(o, "per_vm", r->found.per_vm);
        return o;
}

static JsonNode *node_of(JsonObject *o)
{
        JsonNode *n = json_node_new(JSON_NODE_OBJECT);

        json_node_take_object(n, o);
        return n;
}

static void tell_one(Cli *cli, const struct row *r, GError **error)
{
        static const struct column columns[] = {
                {"CHANGE", "change", COLUMN_TEXT},
                {"PATH", "path", COLUMN_TEXT},
                {"AGAINST", "against", COLUMN_TEXT},
                {0},
        };
        g_autoptr(JsonNode) node = node_of(row_json(r));
        g_autoptr(JsonNode) list = json_node_init_array(json_node_alloc(), r->found.drift);

        if (output_machine(cli, node))
                return;
        output_list(cli, list, columns, "Nothing has drifted", error);
        output_words(cli,
                     "%u differ from the golden image as a release has them, %u belong to this machine\n",
                     r->found.released, r->found.per_vm);
}

static char *result_text(const struct row *r)
{
        guint n = r->error ? 0 : json_array_get_length(r->found.drift);

        if (r->error)
                return g_strdup_printf("not checked: %s", r->error->message);
        return n == 0 ? g_strdup("in step") : g_strdup_printf("drifts (%u %s)", n, n == 1 ? "file" : "files");
}

static void tell_all(Cli *cli, const GPtrArray *rows, GError **error)
{
        static const struct column columns[] = {
                {"VM", "vm", COLUMN_TEXT},
                {"RESULT", "result", COLUMN_TEXT},
                {0},
        };
        g_autoptr(JsonNode) list = json_node_init_array(json_node_alloc(), json_array_new());
        JsonArray *shown = json_node_get_array(list), *vms = json_array_new();
        JsonObject *root = json_object_new();
        g_autoptr(JsonNode) node = node_of(root);

        json_array_unref(shown); /* the node has its own reference */
        json_object_set_array_member(root, "vms", vms);
        for (guint i = 0; i < rows->len; i++) {
                const struct row *r = rows->pdata[i];
                g_autofree char *text = result_text(r);
                JsonObject *o = json_object_new();

                json_array_add_object_element(vms, row_json(r));
                json_object_set_string_member(o, "vm", r->vm);
                json_object_set_string_member(o, "result", text);
                json_array_add_object_element(shown, o);
        }
        if (output_machine(cli, node))
                return;
        output_list(cli, list, columns, "", error);
        output_words(cli, "\n'moult drift VM' lists the files; 'moult fleet' shows the results later\n");
}

/* What has drifted is the news; else why some could not be looked at. */
static ExitCode exit_code_of(const GPtrArray *rows)
{
        g_autofree ExitCode *codes = g_new0(ExitCode, rows->len);

        for (guint i = 0; i < rows->len; i++) {
                const struct row *r = rows->pdata[i];

                codes[i] = exit_code_of_error(r->error);
                if (!r->error && json_array_get_length(r->found.drift) > 0)
                        return EXIT_CODE_REFUSED;
        }
        return exit_code_combine(codes, rows->len);
}

static ExitCode report(Cli *cli, GPtrArray *rows, gboolean one, GError **error)
{
        struct row *first = rows->pdata[0];

        if (one && first->error) {
                g_propagate_error(error, g_steal_pointer(&first->error));
                return EXIT_CODE_INTERNAL;
        }
        for (guint i = 0; i < rows->len; i++)
                warn(cli, rows->pdata[i]);
        if (one)
                tell_one(cli, first, error);
        else
                tell_all(cli, rows, error);
        return exit_code_of(rows);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(Options) o = {0};
        const GOptionEntry entries[] = {
                {"golden", 0, 0, G_OPTION_ARG_FILENAME, &o.golden,
                 "The tree or the image that the VMs were made from", "DIR|IMAGE"},
                {"all", 0, 0, G_OPTION_ARG_NONE, &o.all, "Every VM that moultd knows", NULL},
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.labels,
                 "The VMs with this label; repeated: with all of them", "KEY=VALUE"},
                {"exclude", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.exclude,
                 "Do not look at what matches: with a '/' the whole path, else the last part (repeatable)",
                 "GLOB"},
                {"per-vm-list", 0, 0, G_OPTION_ARG_FILENAME, &o.list,
                 "The list of files that belong to one machine (default: " PER_VM_LIST_FILE
                 ", else the one that "
                 "comes with moult)",
                 "FILE"},
                {"quick", 0, 0, G_OPTION_ARG_NONE, &o.quick,
                 "Do not read files whose size and time are those of the golden image", NULL},
                {"no-record", 0, 0, G_OPTION_ARG_NONE, &o.no_record,
                 "Do not tell moultd the result; 'moult fleet' goes on showing the one before", NULL},
                {0},
        };
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);

        if (!command_parse(self, cli, entries, 0, -1, &argc, &argv, error) ||
            !choose(cli, &o, argc, argv, rows, error))
                return EXIT_CODE_OK;
        g_autoptr(PerVmList) per_vm = per_vm_list_load(o.list, error);
        if (!per_vm || !look(cli, &o, per_vm, rows, error))
                return EXIT_CODE_INTERNAL;
        return report(cli, rows, argc == 2, error);
}

const struct command command_drift = {
        .name = "drift",
        .arguments = "VM... | --label KEY=VALUE | --all",
        .summary = "What differs in VMs from their golden image and from the releases that they have taken",
        .details = "Each file is read and compared, in one VM after the other. What a committed release of "
                   "the VM has put there\n"
                   "is no drift; what differs from both, or was put back behind a release's back, is. What "
                   "belongs to one machine\n"
                   "is left out by the list that 'moult release capture' uses. 'moult fleet' shows the "
                   "results. Ends with 4 if\n"
                   "anything has drifted.",
        .run = run,
};
