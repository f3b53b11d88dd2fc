/* host-service/cli/fleet.c - moult fleet: which VM is on which release, and who needs somebody to look. */
#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

static char *push_cell(JsonObject *vm)
{
        gint64 pending = json_number(vm, "pending");
        const char *state = json_text(vm, "push.state"), *release = json_text(vm, "push.release");
        const char *version = json_text(vm, "push.version");

        if (pending > 0)
                return g_strdup_printf("%" G_GINT64_FORMAT " pending", pending);
        if (!state || !strcmp(state, "done"))
                return g_strdup("");
        if (json_flag(vm, "push.rollback"))
                return g_strdup_printf("rollback %s", state);
        return g_strdup_printf("%s %s %s", release ? release : "?", version ? version : "?", state);
}

static char *stale_cell(JsonObject *vm)
{
        JsonNode *n = json_member(vm, "stale");

        if (!n || JSON_NODE_HOLDS_NULL(n))
                return g_strdup(json_child(vm, "push") ? "?" : "");
        return json_number(vm, "stale") > 0 ? g_strdup_printf("%" G_GINT64_FORMAT, json_number(vm, "stale"))
                                            : g_strdup("");
}

static char *unseen_cell(JsonObject *vm)
{
        JsonNode *n = json_member(vm, "unseen_s");

        if (json_flag(vm, "connected"))
                return g_strdup("connected");
        if (!n || JSON_NODE_HOLDS_NULL(n))
                return g_strdup("never");
        g_autofree char *since = text_duration_us((uint64_t)json_number(vm, "unseen_s") * G_USEC_PER_SEC);
        return g_strdup_printf("%s ago", since);
}

static char *drift_cell(JsonObject *vm)
{
        const char *state = json_text(vm, "drift.state");
        gint64 files = json_number(vm, "drift.files");
        g_autofree char *age =
                text_duration_us((uint64_t)MAX(json_number(vm, "drift.age_s"), 1) * G_USEC_PER_SEC);

        if (!g_strcmp0(state, "in-step"))
                return g_strdup_printf("in step, %s ago", age);
        if (!g_strcmp0(state, "drifts"))
                return g_strdup_printf("drifts (%" G_GINT64_FORMAT " %s, %s ago)", files,
                                       files == 1 ? "file" : "files", age);
        return g_strdup(!g_strcmp0(state, "outdated") ? "changed since" : "not checked");
}

/* What people read differs from what programs get: the words are added beside. */
static JsonNode *rows_for_people(JsonArray *vms)
{
        JsonArray *rows = json_array_new();

        for (guint i = 0; vms && i < json_array_get_length(vms); i++) {
                JsonNode *node = json_array_get_element(vms, i);
                g_autofree char *push = NULL, *stale = NULL, *unseen = NULL, *drift = NULL;
                JsonNode *copy;
                JsonObject *vm;

                if (!JSON_NODE_HOLDS_OBJECT(node))
                        continue;
                copy = json_node_copy(node);
                vm = json_object_new();
                push = push_cell(json_node_get_object(copy));
                stale = stale_cell(json_node_get_object(copy));
                unseen = unseen_cell(json_node_get_object(copy));
                drift = drift_cell(json_node_get_object(copy));
                json_object_set_member(vm, "vm", copy);
                json_object_set_string_member(vm, "push", push);
                json_object_set_string_member(vm, "stale", stale);
                json_object_set_string_member(vm, "unseen", unseen);
                json_object_set_string_member(vm, "drift", drift);
                json_array_add_object_element(rows, vm);
        }
        JsonNode *all = json_node_new(JSON_NODE_ARRAY);
        json_node_take_array(all, rows);
        return all;
}

static void print_summary(Cli *cli, JsonObject *fleet)
{
        JsonArray *releases = json_list(fleet, "releases");

        output_words(cli,
                     "\n%" G_GINT64_FORMAT " VMs, %" G_GINT64_FORMAT " connected; %" G_GINT64_FORMAT
                     " with a pending push, %" G_GINT64_FORMAT
                     " whose last push did not go well, %" G_GINT64_FORMAT
                     " with stale processes, %" G_GINT64_FORMAT " drifting\n",
                     json_number(fleet, "counts.vms"), json_number(fleet, "counts.connected"),
                     json_number(fleet, "counts.pending"), json_number(fleet, "counts.failed"),
                     json_number(fleet, "counts.stale"), json_number(fleet, "counts.drifting"));
        for (guint i = 0; releases && i < json_array_get_length(releases); i++) {
                JsonNode *node = json_array_get_element(releases, i);
                JsonObject *r = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
                const char *name = r ? json_text(r, "release") : NULL;
                g_autofree char *shown = text_safe_lines(name ? name : "no release");

                if (r)
                        output_words(cli, "%6" G_GINT64_FORMAT "  %s\n", json_number(r, "vms"), shown);
        }
}

static void print(Cli *cli, JsonNode *node, gboolean some, GError **error)
{
        static const struct column columns[] = {
                {"VM", "vm.name", COLUMN_TEXT},      {"RELEASE", "vm.last_release", COLUMN_TEXT},
                {"SEEN", "unseen", COLUMN_TEXT},     {"PUSH", "push", COLUMN_TEXT},
                {"STALE", "stale", COLUMN_TEXT},     {"DRIFT", "drift", COLUMN_TEXT},
                {"LABELS", "vm.labels", COLUMN_MAP}, {0},
        };
        JsonObject *fleet = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        g_autoptr(JsonNode) rows = fleet ? rows_for_people(json_list(fleet, "vms")) : NULL;

        if (output_machine(cli, node) || !rows)
                return;
        if (output_list(cli, rows, columns,
                        some ? "No VM has these labels" : "No VMs yet; 'moult vm add' makes one known",
                        error) &&
            json_number(fleet, "counts.vms") > 0)
                print_summary(cli, fleet);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(GStrv) labels = NULL;
        const GOptionEntry entries[] = {
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &labels,
                 "Only those with this label; repeated: with all of them", "KEY=VALUE"},
                {0},
        };

        if (!command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = labels_path("/v1/fleet", (const char *const *)labels, error);
        g_autoptr(JsonNode) fleet = path ? remote_get_member(c, path, "fleet", error) : NULL;
        if (fleet)
                print(cli, fleet, labels != NULL, error);
        return EXIT_CODE_OK;
}

const struct command command_fleet = {
        .name = "fleet",
        .summary = "Which VM is on which release, what is pending, who failed, is stale, drifts, or was not "
                   "seen",
        .details = "SEEN is when its agent was connected last. STALE is how many processes still ran "
                   "replaced files "
                   "when\nthe last push had ended, until the VM is booted anew; '?' where the guest could "
                   "not say.\n"
                   "DRIFT is what the last 'moult drift' has found there; 'changed since': a push has ended "
                   "after it began.",
        .run = run,
};
