/* host-service/cli/jobs.c - moult jobs: what runs and what has run in moultd. */
#include <string.h>

#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/remote.h"

#define JOBS_SHOWN "200"
#define JOBS_PAGE  200

static const struct column columns[] = {
        {"JOB", "id", COLUMN_TEXT},
        {"KIND", "kind", COLUMN_TEXT},
        {"STATE", "state", COLUMN_TEXT},
        {"VMS", "pushes", COLUMN_COUNT},
        {"CREATED", "created", COLUMN_TIME},
        {"WHY", "error.text", COLUMN_TEXT},
        {0},
};

/* The whole list of one state, page by page; adds what @shown has not yet. */
static gboolean add_all(Client *c, const char *state, JsonArray *shown, GHashTable *seen, GError **error)
{
        g_autofree char *before = NULL;
        guint n;

        do {
                g_autofree char *path =
                        before ? client_path("/v1/operations?state=%s&limit=" JOBS_SHOWN "&before=%s", state,
                                             before)
                               : client_path("/v1/operations?state=%s&limit=" JOBS_SHOWN, state);
                g_autoptr(JsonNode) page = remote_get_member(c, path, "operations", error);
                JsonArray *a = page && JSON_NODE_HOLDS_ARRAY(page) ? json_node_get_array(page) : NULL;
                g_autofree char *last = g_steal_pointer(&before);

                if (!page)
                        return FALSE;
                n = a ? json_array_get_length(a) : 0;
                for (guint i = 0; i < n; i++) {
                        JsonNode *one = json_array_get_element(a, i);
                        const char *id = JSON_NODE_HOLDS_OBJECT(one)
                                                 ? json_text(json_node_get_object(one), "id")
                                                 : NULL;

                        if (!id)
                                continue;
                        g_free(before);
                        before = g_strdup(id);
                        if (g_hash_table_add(seen, g_strdup(id)))
                                json_array_add_element(shown, json_node_copy(one));
                }
                /* Ids descend: an answer that does not get on would be asked for for ever. */
                if (last && before && strcmp(before, last) >= 0)
                        break;
        } while (before && n >= JOBS_PAGE);
        return TRUE;
}

static gint newer_first(gconstpointer a, gconstpointer b)
{
        const char *ia = json_text(json_node_get_object(*(JsonNode *const *)a), "id");
        const char *ib = json_text(json_node_get_object(*(JsonNode *const *)b), "id");

        return strcmp(ib, ia);
}

/* However many have ended since they were made. The queued first: one that starts meanwhile is in the second
 * answer too, or only there. */
static JsonNode *get_unfinished(Client *c, GError **error)
{
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(JsonArray) both = json_array_new(), sorted = json_array_new();
        g_autoptr(GPtrArray) nodes = g_ptr_array_new();

        if (!add_all(c, "queued", both, seen, error) || !add_all(c, "running", both, seen, error))
                return NULL;
        for (guint i = 0; i < json_array_get_length(both); i++)
                g_ptr_array_add(nodes, json_array_get_element(both, i));
        g_ptr_array_sort(nodes, newer_first);
        for (guint i = 0; i < nodes->len; i++)
                json_array_add_element(sorted, json_node_copy(nodes->pdata[i]));
        return json_node_init_array(json_node_alloc(), sorted);
}

static ExitCode list_jobs(Cli *cli, gboolean all, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) operations =
                all ? remote_get_member(c, "/v1/operations?limit=" JOBS_SHOWN, "operations", error)
                    : get_unfinished(c, error);

        if (!operations)
                return EXIT_CODE_INTERNAL;
        output_list(cli, operations, columns,
                    all ? "No jobs yet" : "Nothing runs; 'moult jobs --all' shows what has run", error);
        return EXIT_CODE_OK;
}

static ExitCode run_list(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean all = FALSE;
        const GOptionEntry entries[] = {
                {"all", 'a', 0, G_OPTION_ARG_NONE, &all,
                 "Also those that have ended (the newest " JOBS_SHOWN ")", NULL},
                {0},
        };

        if (!command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        return list_jobs(cli, all, error);
}

static ExitCode run_show(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/operations/%s", argv[1]);
        g_autoptr(JsonNode) operation = remote_get_member(c, path, "operation", error);
        if (operation)
                operation_print(cli, operation);
        return EXIT_CODE_OK;
}

static ExitCode run_wait(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/operations/%s", argv[1]);
        g_autoptr(JsonNode) answer = client_get(c, path, error);
        return answer ? remote_finish(cli, c, answer, FALSE, error) : EXIT_CODE_INTERNAL;
}

static ExitCode run_cancel(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/operations/%s/cancel", argv[1]);
        g_autoptr(JsonNode) answer = client_post(c, path, NULL, NULL, error);
        g_autoptr(JsonNode) operation = answer ? remote_member(answer, "operation", error) : NULL;
        if (operation && !output_machine(cli, operation))
                output_words(cli, "job %s is asked to end; 'moult jobs wait %s' tells how it did\n", argv[1],
                             argv[1]);
        return EXIT_CODE_OK;
}

static const struct command command_jobs_show = {
        .name = "show", .arguments = "ID", .summary = "One job, and how each VM fared", .run = run_show};
static const struct command command_jobs_wait = {
        .name = "wait",
        .arguments = "ID",
        .summary = "Follow a job to its end; the exit code is its outcome",
        .run = run_wait,
};
static const struct command command_jobs_cancel = {
        .name = "cancel",
        .arguments = "ID",
        .summary = "Ask a job to end; what has switched already is rolled back",
        .run = run_cancel,
};
static const struct command *const subcommands[] = {&command_jobs_show, &command_jobs_wait,
                                                    &command_jobs_cancel, NULL};

const struct command command_jobs = {
        .name = "jobs",
        .arguments = "[COMMAND]",
        .summary = "What runs in moultd, and what has run",
        .subcommands = subcommands,
        .run = run_list,
};
