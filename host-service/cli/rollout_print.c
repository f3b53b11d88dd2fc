/* host-service/cli/rollout_print.c - rollouts in words. */
#include "host-service/cli/rollout_print.h"

#include <string.h>

#include "host-service/cli/output.h"
#include "host-service/cli/push_result.h"
#include "host-service/cli/text.h"

JsonObject *rollout_of(JsonObject *operation)
{
        return json_child(operation, "rollout");
}

static gboolean is_in(JsonObject *rollout, const char *state)
{
        return g_strcmp0(json_text(rollout, "state"), state) == 0;
}

gboolean rollout_rests(JsonObject *rollout)
{
        /* In flight pushes of a stopped one go on to their end. */
        return json_flag(rollout, "final") ||
               (is_in(rollout, "stopped") && json_number(rollout, "counts.running") == 0);
}

static void append_count(GString *s, gint64 n, const char *one, const char *many)
{
        if (n > 0)
                g_string_append_printf(s, ", %" G_GINT64_FORMAT " %s", n, n == 1 ? one : many);
}

static void append_counts(GString *s, JsonObject *r)
{
        gint64 skipped = json_number(r, "counts.skipped");

        g_string_append_printf(s, "%" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " VMs done",
                               json_number(r, "counts.done"), json_number(r, "counts.total"));
        append_count(s, skipped, "skipped", "skipped");
        append_count(s, json_number(r, "counts.running"), "running", "running");
        append_count(s, json_number(r, "counts.waiting"), "waits", "wait");
        append_count(s, json_number(r, "counts.failed"), "failed", "failed");
        append_count(s, json_number(r, "counts.rolled_back"), "went back by itself",
                     "went back by themselves");
        append_count(s, json_number(r, "counts.refused"), "refused", "refused");
        append_count(s, json_number(r, "counts.unreachable"), "could not be reached", "could not be reached");
        append_count(s, json_number(r, "counts.cancelled"), "cancelled", "cancelled");
}

char *rollout_words(JsonObject *r)
{
        g_autoptr(GString) s = g_string_new(NULL);
        const char *id = json_text(r, "operation"), *text = json_text(r, "text"),
                   *state = json_text(r, "state");
        const char *rollback = json_text(r, "rollback");

        g_string_append_printf(s, "rollout %s: %s", id ? id : "?", state ? state : "?");
        if (!json_flag(r, "final") && json_number(r, "waves") > 1)
                g_string_append_printf(s, ", wave %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT,
                                       json_number(r, "wave") + 1, json_number(r, "waves"));
        g_string_append(s, "; ");
        append_counts(s, r);
        g_string_append_c(s, '\n');
        if (text)
                g_string_append_printf(s, "  %s\n", text);
        if (rollback)
                g_string_append_printf(s, "  the way back: 'moult jobs show %s'\n", rollback);
        return text_safe_lines(s->str);
}

void rollout_show_progress(Progress *p, JsonObject *r)
{
        if (is_in(r, "running") && json_number(r, "waves") > 1)
                progress_say(p, "wave %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT, json_number(r, "wave") + 1,
                             json_number(r, "waves"));
        else if (is_in(r, "pausing"))
                progress_say(p,
                             "wave %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT
                             " went well; a pause before the next",
                             json_number(r, "wave") + 1, json_number(r, "waves"));
        else if (is_in(r, "stopped"))
                progress_say(p, "the rollout stops; what has begun is finished");
}

static gboolean is_worth_a_line(JsonObject *push)
{
        static const char *const quiet[] = {"done", "queued", "skipped", "cancelled", NULL};
        const char *state = json_text(push, "state");

        return state && !g_strv_contains(quiet, state);
}

void rollout_print(Cli *cli, JsonObject *r, JsonArray *pushes)
{
        g_autofree char *words = rollout_words(r);

        for (guint i = 0; pushes && i < json_array_get_length(pushes); i++) {
                JsonNode *node = json_array_get_element(pushes, i);
                g_autofree char *line = NULL;

                if (!JSON_NODE_HOLDS_OBJECT(node) || !is_worth_a_line(json_node_get_object(node)))
                        continue;
                line = push_words(json_node_get_object(node));
                fputs(line, cli->out);
        }
        fputs(words, cli->out);
}

ExitCode rollout_exit_code(JsonObject *operation, JsonObject *rollout, ExitCode of_pushes)
{
        if (is_in(rollout, "aborted") ||
            (is_in(rollout, "rolled-back") && g_strcmp0(json_text(operation, "state"), "cancelled") == 0))
                return EXIT_CODE_CANCELLED;
        if (is_in(rollout, "stopped") && of_pushes == EXIT_CODE_OK)
                return EXIT_CODE_PARTIAL;
        return of_pushes;
}
