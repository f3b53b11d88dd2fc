/* host-service/cli/push_stale.c - who still runs old code after a push, in words. */
#include "host-service/cli/push_stale.h"

#include "host-service/cli/output.h"

static JsonObject *element(JsonArray *a, guint i)
{
        JsonNode *node = json_array_get_element(a, i);

        return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static guint length(JsonArray *a)
{
        return a ? json_array_get_length(a) : 0;
}

/* "  1234 /usr/sbin/x (x.service)" */
static void append_who(GString *s, JsonObject *o)
{
        const char *command = json_text(o, "command"), *unit = json_text(o, "unit");

        g_string_append_printf(s, "    %" G_GINT64_FORMAT " %s", json_number(o, "pid"),
                               command ? command : "?");
        if (unit)
                g_string_append_printf(s, " (%s)", unit);
}

/* ": /usr/lib/a, /usr/lib/b and 3 more" */
static void append_names(GString *s, JsonObject *o, const char *names, const char *total)
{
        JsonArray *a = json_list(o, names);
        gint64 more = json_number(o, total) - length(a);

        for (guint i = 0; i < length(a); i++) {
                JsonNode *node = json_array_get_element(a, i);

                if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
                        g_string_append_printf(s, "%s%s", i ? ", " : ": ", json_node_get_string(node));
        }
        if (more > 0)
                g_string_append_printf(s, " and %" G_GINT64_FORMAT " more", more);
        g_string_append_c(s, '\n');
}

static void append_more(GString *s, gint64 total, guint shown, const char *what)
{
        if (total > shown)
                g_string_append_printf(s, "    and %" G_GINT64_FORMAT " more %s\n", total - shown, what);
}

static void append_restarts(GString *s, JsonArray *restarts)
{
        for (guint i = 0; i < length(restarts); i++) {
                JsonObject *r = element(restarts, i);
                const char *unit = r ? json_text(r, "unit") : NULL, *error = r ? json_text(r, "error") : NULL;

                if (unit && error)
                        g_string_append_printf(s, "  could not restart %s: %s\n", unit, error);
                else if (unit)
                        g_string_append_printf(s, "  restarted %s, which still ran replaced files\n", unit);
        }
}

static void append_processes(GString *s, JsonObject *stale)
{
        JsonArray *a = json_list(stale, "processes");
        gint64 total = json_number(stale, "processes_total");

        if (total == 0)
                return;
        g_string_append_printf(s,
                               "  %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT
                               " processes still run replaced files until they are restarted:\n",
                               total, json_number(stale, "looked_at"));
        for (guint i = 0; i < length(a); i++) {
                if (!element(a, i))
                        continue;
                append_who(s, element(a, i));
                append_names(s, element(a, i), "files", "files_total");
        }
        append_more(s, total, length(a), "processes; 'moult-agent stale' in the guest lists them");
}

static void append_namespaces(GString *s, JsonObject *stale)
{
        JsonArray *a = json_list(stale, "namespaces");
        gint64 total = json_number(stale, "namespaces_total");

        if (total == 0)
                return;
        g_string_append_printf(s,
                               "  %" G_GINT64_FORMAT
                               " mount namespaces did not follow; who is in them sees the old files until "
                               "restarted:\n",
                               total);
        for (guint i = 0; i < length(a); i++) {
                if (!element(a, i))
                        continue;
                append_who(s, element(a, i));
                append_names(s, element(a, i), "mounts", "mounts_total");
        }
        append_more(s, total, length(a), "mount namespaces");
}

void push_stale_words(GString *s, JsonObject *push)
{
        JsonObject *stale = json_child(push, "stale");
        const char *why = stale ? json_text(stale, "text") : NULL;
        const char *incomplete = stale ? json_text(stale, "incomplete") : NULL;

        if (!stale)
                return;
        if (!json_flag(stale, "known")) {
                g_string_append_printf(s, "  who still runs old files is not known: %s\n", why ? why : "?");
                return;
        }
        append_restarts(s, json_list(stale, "restarts"));
        append_processes(s, stale);
        append_namespaces(s, stale);
        if (incomplete)
                g_string_append_printf(s, "  who still runs old files is not known of all: %s\n", incomplete);
}
