/* host-service/cli/plan_print.c - the plan of a push: for each path what would happen, and why. */
#include "host-service/cli/plan_print.h"

#include <string.h>

#include "host-service/cli/output.h"

#define PAGE 1000

JsonNode *plan_fetch(Client *c, const char *operation, const char *vm, GError **error)
{
        JsonArray *all = json_array_new();
        g_autoptr(JsonNode) node = json_node_init_array(json_node_alloc(), all);

        json_array_unref(all);
        for (gint64 first = 0;;) {
                g_autofree char *number = g_strdup_printf("%" G_GINT64_FORMAT, first);
                g_autofree char *count = g_strdup_printf("%d", PAGE);
                g_autofree char *path = client_path("/v1/operations/%s/plan?vm=%s&first=%s&count=%s",
                                                    operation, vm, number, count);
                g_autoptr(JsonNode) page = client_get(c, path, error);
                JsonArray *items = page && JSON_NODE_HOLDS_OBJECT(page)
                                           ? json_list(json_node_get_object(page), "items")
                                           : NULL;

                if (!page)
                        return NULL;
                guint n = items ? json_array_get_length(items) : 0;
                for (guint i = 0; i < n; i++)
                        json_array_add_element(all, json_node_copy(json_array_get_element(items, i)));
                first += n;
                if (n == 0 || first >= json_number(json_node_get_object(page), "total"))
                        return g_steal_pointer(&node);
        }
}

static gboolean is_problem(const char *action)
{
        return !strcmp(action, "blocked") || !strcmp(action, "drift");
}

/* A size means something for files only. */
static void drop_size(JsonObject *item)
{
        const char *type = json_text(item, "type");

        if (type && strcmp(type, "file") != 0)
                json_object_remove_member(item, "size");
}

void plan_print(Cli *cli, const char *vm, JsonArray *items, gboolean only_problems)
{
        static const struct column columns[] = {
                {"ACTION", "action", COLUMN_TEXT},
                {"TYPE", "type", COLUMN_TEXT},
                {"SIZE", "size", COLUMN_BYTES},
                {"PATH", "path", COLUMN_TEXT},
                {"MERGED AT", "merge", COLUMN_TEXT},
                {"BY", "method", COLUMN_TEXT},
                {"OWNED BY", "owner_package", COLUMN_TEXT},
                {"REASON", "reason", COLUMN_TEXT},
                {0},
        };
        JsonArray *shown = json_array_new();
        g_autoptr(JsonNode) node = json_node_init_array(json_node_alloc(), shown);
        guint equal = 0, others = 0;

        json_array_unref(shown);
        for (guint i = 0; i < json_array_get_length(items); i++) {
                JsonNode *item = json_array_get_element(items, i);
                JsonObject *o = JSON_NODE_HOLDS_OBJECT(item) ? json_node_get_object(item) : NULL;
                const char *action = o ? json_text(o, "action") : NULL;

                if (action && !strcmp(action, "equal")) {
                        equal++;
                } else if (action && only_problems && !is_problem(action)) {
                        others++;
                } else if (o) {
                        drop_size(o);
                        json_array_add_element(shown, json_node_copy(item));
                }
        }
        output_words(cli, only_problems ? "\nWhat stands in the way on %s:\n" : "\nThe plan for %s:\n", vm);
        output_list(cli, node, columns, "Nothing would change.", NULL);
        if (others > 0)
                output_words(cli, "%u more entries could be applied.\n", others);
        if (equal > 0)
                output_words(cli, "%u more entries are as they should be.\n", equal);
}
