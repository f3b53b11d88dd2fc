/* host-service/cli/events.c - moult events: what happened, numbered, and what happens. */
#include <string.h>

#include "host-service/cli/commands.h"
#include "host-service/cli/follow.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

struct options {
        char *after, *operation, *vm;
        gboolean follow;
};

struct view {
        Cli *cli;
        const struct options *options;
};

static void print_line(Cli *cli, JsonObject *event)
{
        static const struct column cells[] = {
                {"SEQ", "seq", COLUMN_TEXT},
                {"TIME", "time", COLUMN_TIME},
                {"TYPE", "type", COLUMN_TEXT},
                {"VM", "vm", COLUMN_TEXT},
                {"JOB", "operation", COLUMN_TEXT},
                {"WHY", "data.error.text", COLUMN_TEXT},
                {0},
        };
        static const int widths[] = {6, 19, 22, 12, 26, 0};

        g_autoptr(GString) line = g_string_new(NULL);
        for (unsigned i = 0; cells[i].title; i++) {
                g_autofree char *cell = output_cell(event, &cells[i]);

                g_string_append_printf(line, "%-*s  ", widths[i], g_strdelimit(cell, "\n\t", ' '));
        }
        fprintf(cli->out, "%s\n", g_strchomp(line->str));
}

static gboolean is(JsonObject *event, const char *member, const char *wanted)
{
        const char *have = json_text(event, member);

        return !wanted || (have && !strcmp(have, wanted));
}

static gboolean show(JsonObject *event, gpointer user)
{
        const struct view *v = user;

        if (!is(event, "operation", v->options->operation) || !is(event, "vm", v->options->vm))
                return TRUE;
        if (v->cli->format == CLI_FORMAT_TABLE) {
                print_line(v->cli, event);
        } else {
                g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), event);
                g_autofree char *text =
                        v->cli->format == CLI_FORMAT_JSON ? json_to_string(node, FALSE) : output_yaml(node);

                /* A stream: one line, or one document, for each. */
                fprintf(v->cli->out, v->cli->format == CLI_FORMAT_JSON ? "%s\n" : "---\n%s", text);
        }
        fflush(v->cli->out);
        return !ferror(v->cli->out);
}

static ExitCode events(Cli *cli, const struct options *o, GError **error)
{
        g_autoptr(Client) c = client_new(cli);
        struct view v = {cli, o};
        uint64_t after = 0;

        if (o->after && !text_parse_u64("--after", o->after, G_MAXINT64, &after, error))
                return EXIT_CODE_USAGE;
        g_autoptr(JsonNode) status = client_get(c, "/v1/status", error);
        if (!status)
                return EXIT_CODE_INTERNAL;
        gint64 last = json_number(json_node_get_object(status), "event_last");
        /* All are read and chosen from here, so that the last one that there is now ends the list. */
        if (o->follow) {
                g_autoptr(GError) cause = NULL;

                follow_events(c, "/v1/events", o->after ? (gint64)after : last, -1, show, &v, &cause);
                if (cause && !g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                        g_propagate_error(error, g_steal_pointer(&cause));
        } else if ((gint64)after < last) {
                follow_events(c, "/v1/events", (gint64)after, last, show, &v, error);
        }
        return EXIT_CODE_OK;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {0};
        const GOptionEntry entries[] = {
                {"follow", 'f', 0, G_OPTION_ARG_NONE, &o.follow, "Go on with what happens; Ctrl-C ends it",
                 NULL},
                {"after", 0, 0, G_OPTION_ARG_FILENAME, &o.after,
                 "Only events with a higher number (with --follow the default is: from now on)", "SEQ"},
                {"operation", 0, 0, G_OPTION_ARG_FILENAME, &o.operation, "Only those of this job", "ID"},
                {"vm", 0, 0, G_OPTION_ARG_FILENAME, &o.vm, "Only those of this VM", "NAME"},
                {0},
        };
        ExitCode code = EXIT_CODE_OK;

        if (command_parse(self, cli, entries, 0, 0, &argc, &argv, error))
                code = events(cli, &o, error);
        g_free(o.after);
        g_free(o.operation);
        g_free(o.vm);
        return code;
}

const struct command command_events = {
        .name = "events",
        .summary = "What happened, numbered; with --follow also what happens",
        .details = "In JSON each event is one line. A stream that broke goes on where it ended, also after a "
                   "restart of moultd.",
        .run = run,
};
