/* host-service/catalogue/push_options.c - a push's options to JSON and back. */
#include "host-service/catalogue/push_options.h"

#include <string.h>

#include "common/digest.h"
#include "host-service/catalogue/json.h"

gboolean push_rollback_names_push(const struct push_options *o)
{
        static const guint8 none[sizeof o->rollback_of];

        return memcmp(o->rollback_of, none, sizeof none) != 0;
}

static gboolean read_of_push(JsonObject *j, struct push_options *ret)
{
        const char *hex = json_object_get_string_member_with_default(j, "of_push", NULL);

        return !hex || bytes_from_hex(hex, ret->rollback_of, sizeof ret->rollback_of);
}

JsonObject *push_options_to_json(const struct push_options *o)
{
        JsonObject *j = json_object_new();

        json_object_set_string_member(j, "transport", push_transport_name(o->transport));
        json_object_set_boolean_member(j, "dry_run", o->dry_run);
        json_object_set_boolean_member(j, "allow_drift", o->allow_drift);
        json_object_set_boolean_member(j, "strict_window", o->strict_window);
        json_object_set_string_member(j, "merge", push_merge_name(o->merge));
        json_object_set_boolean_member(j, "instant", o->instant);
        json_object_set_boolean_member(j, "restart_stale", o->restart_stale);
        json_object_set_boolean_member(j, "snapshot", o->snapshot);
        json_object_set_string_member(j, "sync",
                                      o->sync_mode == MOULT__SYNC_MODE__SYNC_GENTLE ? "gentle" : "fast");
        json_object_set_int_member(j, "confirm_timeout_ms", o->confirm_timeout_ms);
        json_object_set_int_member(j, "workers", o->workers);
        json_object_set_boolean_member(j, "rollback", o->rollback);
        if (o->rollback) {
                json_object_set_boolean_member(j, "force", o->force);
                json_object_set_int_member(j, "generation", (gint64)o->rollback_generation);
                if (push_rollback_names_push(o))
                        json_object_set_hex(j, "of_push", o->rollback_of, sizeof o->rollback_of);
        }
        if (o->selection) {
                JsonArray *a = json_array_new();

                for (GStrv s = o->selection; *s; s++)
                        json_array_add_string_element(a, *s);
                json_object_set_array_member(j, "selection", a);
        }
        return j;
}

gboolean push_options_from_text(const char *text, struct push_options *ret)
{
        g_autoptr(JsonNode) node = json_from_string(text, NULL);
        struct push_options o = {0};
        JsonObject *j;

        if (!node || !JSON_NODE_HOLDS_OBJECT(node))
                return FALSE;
        j = json_node_get_object(node);
        if (!push_transport_parse(json_object_get_string_member_with_default(j, "transport", "?"),
                                  &o.transport))
                return FALSE;
        o.dry_run = json_object_get_boolean_member_with_default(j, "dry_run", FALSE);
        o.allow_drift = json_object_get_boolean_member_with_default(j, "allow_drift", FALSE);
        o.strict_window = json_object_get_boolean_member_with_default(j, "strict_window", FALSE);
        push_merge_parse(json_object_get_string_member_with_default(j, "merge", "auto"), &o.merge);
        o.restart_stale = json_object_get_boolean_member_with_default(j, "restart_stale", FALSE);
        o.snapshot = json_object_get_boolean_member_with_default(j, "snapshot", FALSE);
        o.instant = json_object_get_boolean_member_with_default(j, "instant", FALSE);
        if (g_str_equal(json_object_get_string_member_with_default(j, "sync", "fast"), "gentle"))
                o.sync_mode = MOULT__SYNC_MODE__SYNC_GENTLE;
        o.confirm_timeout_ms = (guint32)json_object_get_int_member_with_default(j, "confirm_timeout_ms", 0);
        o.workers = (guint32)json_object_get_int_member_with_default(j, "workers", 0);
        o.rollback = json_object_get_boolean_member_with_default(j, "rollback", FALSE);
        o.force = json_object_get_boolean_member_with_default(j, "force", FALSE);
        o.rollback_generation = (guint64)json_object_get_int_member_with_default(j, "generation", 0);
        if (!read_of_push(j, &o))
                return FALSE;
        if (json_object_has_member(j, "selection")) {
                JsonArray *a = json_object_get_array_member(j, "selection");
                guint n = json_array_get_length(a);

                o.selection = g_new0(char *, n + 1);
                for (guint i = 0; i < n; i++)
                        o.selection[i] = g_strdup(json_array_get_string_element(a, i));
        }
        *ret = o;
        return TRUE;
}
