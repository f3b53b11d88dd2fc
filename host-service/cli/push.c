/* host-service/cli/push.c - moult push: a release into VMs. */
#include <string.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/follow.h"
#include "host-service/cli/labels.h"
#include "host-service/cli/output.h"
#include "host-service/cli/plan_print.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

#define CONFIRM_MAX_MS (24 * 3600 * UINT64_C(1000))
#define PAUSE_MAX_MS   (7 * CONFIRM_MAX_MS)
#define VMS_MAX        10000

struct options {
        char *transport, *sync, *merge, *confirm_timeout, *key;
        char *canary, *batch, *max_failures, *pause;
        GStrv labels;
        gboolean all;
        gboolean dry_run, allow_drift, strict_window, instant, restart_stale, snapshot, wait, detach;
};

static gboolean is_one_of(const char *option, const char *value, const char *const *words, GError **error)
{
        g_autofree char *all = NULL;

        if (!value || g_strv_contains(words, value))
                return TRUE;
        all = g_strjoinv(", ", (char **)(gpointer)words);
        return command_usage_error(error, "%s is one of %s; not '%s'", option, all, value);
}

/* In waves, or all at once. */
static gboolean is_rollout(const struct options *o)
{
        return o->all || o->labels || o->canary || o->batch || o->max_failures || o->pause;
}

static gboolean set_count(JsonObject *body, const char *member, const char *option, const char *text,
                          GError **error)
{
        uint64_t n;

        if (!text)
                return TRUE;
        if (!text_parse_u64(option, text, VMS_MAX, &n, error))
                return FALSE;
        json_object_set_int_member(body, member, (gint64)n);
        return TRUE;
}

static gboolean set_vms(JsonObject *body, const struct options *o, int argc, char **argv, GError **error)
{
        JsonObject *labels = NULL;
        JsonArray *vms;

        if ((argc > 2) + (o->all ? 1 : 0) + (o->labels ? 1 : 0) != 1)
                return command_usage_error(
                        error, argc > 2 || o->all ? "VMs are named, or chosen by --label, or --all are "
                                                    "meant: one of the three"
                                                  : "'moult push' needs RELEASE and VM..., or --label "
                                                    "KEY=VALUE, or --all");
        if (o->all)
                json_object_set_boolean_member(body, "all", TRUE);
        if (o->labels) {
                labels = labels_to_json((const char *const *)o->labels, error);
                if (!labels)
                        return FALSE;
                json_object_set_object_member(body, "labels", labels);
        }
        if (argc == 2)
                return TRUE;
        vms = json_array_new();
        for (int i = 2; i < argc; i++)
                json_array_add_string_element(vms, argv[i]);
        json_object_set_array_member(body, "vms", vms);
        return TRUE;
}

static gboolean set_waves(JsonObject *body, const struct options *o, GError **error)
{
        uint64_t pause_ms;

        if (!set_count(body, "canary", "--canary", o->canary, error) ||
            !set_count(body, "max_failures", "--max-failures", o->max_failures, error))
                return FALSE;
        if (o->batch)
                json_object_set_string_member(body, "batch", o->batch);
        if (!o->pause)
                return TRUE;
        if (!text_parse_duration_ms(o->pause, PAUSE_MAX_MS, &pause_ms, error)) {
                g_prefix_error(error, "--pause-between: ");
                return FALSE;
        }
        json_object_set_int_member(body, "pause_ms", (gint64)pause_ms);
        return TRUE;
}

static JsonObject *request(const struct options *o, int argc, char **argv, GError **error)
{
        static const char *const transports[] = {"auto", "ivshmem", "pmem", "virtio-serial", "tls", NULL};
        static const char *const merges[] = {"auto", "overlay", "bind", "union", NULL};
        static const char *const syncs[] = {"fast", "gentle", NULL};
        g_autoptr(JsonObject) body = json_object_new();
        uint64_t timeout_ms;

        json_object_set_string_member(body, "release", argv[1]);
        if (!set_vms(body, o, argc, argv, error) || !set_waves(body, o, error))
                return NULL;
        if (!is_one_of("--transport", o->transport, transports, error) ||
            !is_one_of("--sync", o->sync, syncs, error) || !is_one_of("--merge", o->merge, merges, error))
                return NULL;
        if (o->wait && o->detach) {
                command_usage_error(error, "--wait and --detach exclude each other");
                return NULL;
        }
        if (o->snapshot && o->dry_run) {
                command_usage_error(error, "--dry-run changes nothing, so there is no --snapshot before it");
                return NULL;
        }
        if (o->confirm_timeout) {
                if (!text_parse_duration_ms(o->confirm_timeout, CONFIRM_MAX_MS, &timeout_ms, error)) {
                        g_prefix_error(error, "--confirm-timeout: ");
                        return NULL;
                }
                json_object_set_int_member(body, "confirm_timeout_ms", (gint64)timeout_ms);
        }
        if (o->transport)
                json_object_set_string_member(body, "transport", o->transport);
        if (o->merge)
                json_object_set_string_member(body, "merge", o->merge);
        if (o->sync)
                json_object_set_string_member(body, "sync", o->sync);
        json_object_set_boolean_member(body, "dry_run", o->dry_run);
        json_object_set_boolean_member(body, "allow_drift", o->allow_drift);
        json_object_set_boolean_member(body, "strict_window", o->strict_window);
        json_object_set_boolean_member(body, "instant", o->instant);
        json_object_set_boolean_member(body, "restart_stale", o->restart_stale);
        json_object_set_boolean_member(body, "snapshot", o->snapshot);
        return g_steal_pointer(&body);
}

/* The plan is worth showing after a dry run, and where the guest refused. */
static gboolean wants_plan(JsonObject *push)
{
        const char *state = json_text(push, "state"), *code = json_text(push, "error.code");

        return json_flag(push, "options.dry_run") || (state && !strcmp(state, "refused") && code &&
                                                      (!strcmp(code, "refused") || !strcmp(code, "drift")));
}

/* Adds each VM's plan to its push, so that machines get it too. */
static void add_plans(Client *c, JsonNode *operation)
{
        JsonArray *pushes = operation_pushes(operation);
        const char *id = json_text(json_node_get_object(operation), "id");

        for (guint i = 0; id && pushes && i < json_array_get_length(pushes); i++) {
                JsonNode *node = json_array_get_element(pushes, i);
                JsonObject *push = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
                const char *vm = push ? json_text(push, "vm") : NULL;
                JsonNode *plan = vm && wants_plan(push) ? plan_fetch(c, id, vm, NULL) : NULL;

                if (plan)
                        json_object_set_member(push, "plan", plan);
        }
}

static void print_plans(Cli *cli, JsonNode *operation)
{
        JsonArray *pushes = operation_pushes(operation);

        for (guint i = 0; pushes && i < json_array_get_length(pushes); i++) {
                JsonNode *node = json_array_get_element(pushes, i);
                JsonObject *push = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
                JsonArray *plan = push ? json_list(push, "plan") : NULL;

                if (plan && json_array_get_length(plan) > 0)
                        plan_print(cli, json_text(push, "vm"), plan, !json_flag(push, "options.dry_run"));
        }
}

static ExitCode push(Cli *cli, const struct options *o, JsonObject *body, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) answer =
                client_post(c, is_rollout(o) ? "/v1/rollouts" : "/v1/pushes", body, o->key, error);

        if (!answer)
                return EXIT_CODE_INTERNAL;
        if (o->detach)
                return remote_finish(cli, c, answer, TRUE, error);
        const char *id = remote_operation_id(answer, error);
        g_autoptr(JsonNode) end = id ? follow_operation(cli, c, id, error) : NULL;
        g_autoptr(JsonNode) operation = end ? remote_member(end, "operation", error) : NULL;
        if (!operation)
                return EXIT_CODE_INTERNAL;
        add_plans(c, operation);
        operation_print(cli, operation);
        if (cli->format == CLI_FORMAT_TABLE)
                print_plans(cli, operation);
        return operation_exit_code(operation);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &o.dry_run,
                 "Only plan: what would happen to each path, and why", NULL},
                {"transport", 0, 0, G_OPTION_ARG_FILENAME, &o.transport,
                 "auto (default: the best that works), ivshmem, pmem, virtio-serial, tls", "HOW"},
                {"allow-drift", 0, 0, G_OPTION_ARG_NONE, &o.allow_drift,
                 "Replace files although the guest has changed them", NULL},
                {"strict-window", 0, 0, G_OPTION_ARG_NONE, &o.strict_window,
                 "Refuse a shared-memory window that the guest can write", NULL},
                {"merge", 0, 0, G_OPTION_ARG_FILENAME, &o.merge,
                 "How files that cannot be written are merged: auto (default), overlay, bind, union", "HOW"},
                {"restart-stale", 0, 0, G_OPTION_ARG_NONE, &o.restart_stale,
                 "After the commit restart the release's services that still run replaced files", NULL},
                {"snapshot", 0, 0, G_OPTION_ARG_NONE, &o.snapshot,
                 "Take a snapshot of each VM before its push; without one its push does not begin", NULL},
                {"instant", 0, 0, G_OPTION_ARG_NONE, &o.instant,
                 "Make the release visible at once, served from the pack, and copy it afterwards", NULL},
                {"sync", 0, 0, G_OPTION_ARG_FILENAME, &o.sync,
                 "fast (default: once per file system), gentle (per file, waiting for the guest's disk)",
                 "HOW"},
                {"confirm-timeout", 0, 0, G_OPTION_ARG_FILENAME, &o.confirm_timeout,
                 "Go back after this long without the host's confirmation (default 60s)", "TIME"},
                {"all", 0, 0, G_OPTION_ARG_NONE, &o.all, "To every VM that moultd knows", NULL},
                {"label", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.labels,
                 "To the VMs with this label; repeated: with all of them", "KEY=VALUE"},
                {"canary", 0, 0, G_OPTION_ARG_FILENAME, &o.canary, "To so many VMs first", "N"},
                {"batch", 0, 0, G_OPTION_ARG_FILENAME, &o.batch,
                 "Then to so many in each wave (default: to all others)", "N|N%"},
                {"max-failures", 0, 0, G_OPTION_ARG_FILENAME, &o.max_failures,
                 "Stop when more VMs than this have failed (default 0)", "N"},
                {"pause-between", 0, 0, G_OPTION_ARG_FILENAME, &o.pause, "Wait between two waves", "TIME"},
                {"wait", 0, 0, G_OPTION_ARG_NONE, &o.wait, "Follow it to its end (default)", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &o.detach, "Do not wait; print the job's id", NULL},
                {"idempotency-key", 0, 0, G_OPTION_ARG_FILENAME, &o.key,
                 "A push with the same key is the same push (default: a new key)", "KEY"},
                {0},
        };
        ExitCode code = EXIT_CODE_OK;

        if (command_parse(self, cli, entries, 1, -1, &argc, &argv, error)) {
                JsonObject *body = request(&o, argc, argv, error);

                if (body)
                        code = push(cli, &o, body, error);
        }
        g_free(o.transport);
        g_free(o.sync);
        g_free(o.merge);
        g_free(o.confirm_timeout);
        g_free(o.key);
        g_free(o.canary);
        g_free(o.batch);
        g_free(o.max_failures);
        g_free(o.pause);
        g_strfreev(o.labels);
        return code;
}

const struct command command_push = {
        .name = "push",
        .arguments = "RELEASE[=VERSION] VM... | --label KEY=VALUE | --all",
        .summary = "Push a release into running VMs",
        .details =
                "Without a VERSION the highest one is pushed. Ctrl-C stops the waiting, not the push: "
                "'moult jobs cancel'\n"
                "does that.\n\n"
                "--all, --label and the four options of waves make it a rollout: it goes wave by wave, and "
                "stops by\n"
                "itself when too many VMs fail. 'moult rollout' shows it, goes on with it, and ends it.",
        .run = run,
};
