/* host-service/cli/failure.c - how an error is told: words for people, an object for programs. */
#include "host-service/cli/failure.h"

#include "common/error.h"
#include "host-service/cli/output.h"
#include "host-service/cli/text.h"

static const char *stable_name(const GError *error, ExitCode code)
{
        if (error->domain == MOULT_ERROR || error->domain == G_IO_ERROR || error->domain == G_FILE_ERROR)
                return moult_error_name(moult_error_code(error));
        return exit_code_name(code);
}

ExitCode failure_print(Cli *cli, const GError *error)
{
        ExitCode code = exit_code_of_error(error);

        fflush(cli->out);
        if (cli->format == CLI_FORMAT_TABLE) {
                g_autofree char *text = text_safe_lines(error->message);

                fprintf(cli->err, "moult: %s\n", text);
                return code;
        }
        JsonObject *inner = json_object_new(), *outer = json_object_new();
        g_autofree char *utf8 = g_utf8_make_valid(error->message, -1);
        json_object_set_string_member(inner, "code", stable_name(error, code));
        json_object_set_string_member(inner, "text", utf8);
        json_object_set_int_member(inner, "exit_code", code);
        json_object_set_object_member(outer, "error", inner);
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), outer);
        json_object_unref(outer);
        g_autofree char *text = cli->format == CLI_FORMAT_JSON ? output_json(node) : output_yaml(node);
        fputs(text, cli->err);
        return code;
}
