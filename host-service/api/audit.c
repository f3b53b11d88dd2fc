/* host-service/api/audit.c - the lines of the audit log. */
#include "host-service/api/audit.h"

#include <string.h>

#include "common/error.h"
#include "common/events.h"

#define BODY_MAX  (128u * 1024u)
#define WORDS_MAX 256 /* of a stranger */

/* Members whose texts are secrets. */
static const char *const secrets[] = {"token"};

/* A copy of what was asked for, without secrets. */
static JsonNode *body_shown(const struct api_call *call)
{
        JsonNode *node = json_node_alloc();
        g_autofree char *text = json_object_text(json_object_ref(call->body));
        JsonObject *o;

        if (strlen(text) > BODY_MAX) {
                o = json_object_new();
                json_object_set_int_member(o, "too_large", (gint64)strlen(text));
                json_node_init_object(node, o);
                json_object_unref(o);
                return node;
        }
        json_node_free(node);
        node = json_from_string(text, NULL);
        o = json_node_get_object(node);
        for (guint i = 0; i < G_N_ELEMENTS(secrets); i++) {
                JsonNode *member = json_object_get_member(o, secrets[i]);

                if (member && json_node_get_value_type(member) == G_TYPE_STRING)
                        json_object_set_string_member(o, secrets[i], "(hidden)");
        }
        return node;
}

/* "vms" and "release" are in one place, wherever the request had them. */
static void add_objects(JsonObject *line, const struct api_call *call)
{
        JsonNode *vms = call->body ? json_object_get_member(call->body, "vms") : NULL;
        const char *release = call->body && json_object_has_member(call->body, "release")
                                      ? json_object_get_string_member(call->body, "release")
                                      : NULL;

        if (vms) {
                json_object_set_member(line, "vms", json_node_copy(vms));
        } else if (g_str_has_prefix(call->route->pattern, "/v1/vms/{name}")) {
                JsonArray *one = json_array_new();

                json_array_add_string_element(one, call->params[0]);
                json_object_set_array_member(line, "vms", one);
        }
        if (release) {
                json_object_set_string_member(line, "release", release);
        } else if (g_str_has_prefix(call->route->pattern, "/v1/releases/{name}/{version}")) {
                g_autofree char *spec = g_strdup_printf("%s=%s", call->params[0], call->params[1]);

                json_object_set_string_member(line, "release", spec);
        }
}

static JsonObject *line_new(const struct api_call *call, const char *phase)
{
        JsonObject *line = json_object_new();

        json_object_set_time(line, "time", host_wall_us(call->api->env));
        json_object_set_string_member(line, "phase", phase);
        json_object_set_string_member(line, "request", call->audit_id);
        json_object_set_object_member(line, "who", api_caller_json(&call->caller));
        json_object_set_string_member(line, "method", call->route->method);
        json_object_set_string_member(line, "route", call->route->pattern);
        for (guint i = 0; i < API_PARAMS_MAX && call->params[i]; i++) {
                g_autofree char *name = g_strdup_printf("parameter_%u", i + 1);

                json_object_set_string_member(line, name, call->params[i]);
        }
        add_objects(line, call);
        return line;
}

gboolean audit_asked(struct api_call *call, GError **error)
{
        AuditLog *log = call->api->config.audit;
        JsonObject *line;

        if (!log || g_str_equal(call->route->method, "GET"))
                return TRUE;
        call->audit_id = operation_id_new(call->api->catalogue);
        line = line_new(call, "asked");
        if (call->body && json_object_get_size(call->body) > 0)
                json_object_set_member(line, "body", body_shown(call));
        if (audit_log_write(log, line, TRUE, error))
                return TRUE;
        g_prefix_error(error, "nothing was done, for it cannot be put on record: ");
        event_log(EVENT_ERROR, "audit-not-written", (*error)->message, "request", call->audit_id, NULL);
        g_clear_pointer(&call->audit_id, g_free);
        return FALSE;
}

void audit_answered(struct api_call *call)
{
        g_autoptr(GError) error = NULL;
        JsonObject *line, *problem, *operation;

        if (!call->audit_id || !call->api->config.audit)
                return;
        line = line_new(call, "answered");
        json_object_set_int_member(line, "status", call->status);
        problem = call->answer && json_object_has_member(call->answer, "error") && call->status >= 300
                          ? json_object_get_object_member(call->answer, "error")
                          : NULL;
        if (problem) {
                json_object_set_string_member(line, "error", json_object_get_string_member(problem, "code"));
                json_object_set_string_member(line, "text", json_object_get_string_member(problem, "text"));
        }
        operation = call->answer && json_object_has_member(call->answer, "operation")
                            ? json_object_get_object_member(call->answer, "operation")
                            : NULL;
        if (operation)
                json_object_set_string_member(line, "operation",
                                              json_object_get_string_member(operation, "id"));
        if (!audit_log_write(call->api->config.audit, line, FALSE, &error))
                event_log(EVENT_ERROR, "audit-not-written", error->message, "request", call->audit_id, NULL);
        g_clear_pointer(&call->audit_id, g_free);
}

static void add_words(JsonObject *line, const char *member, const char *words)
{
        g_autofree char *cut = g_strndup(words, WORDS_MAX), *valid = g_utf8_make_valid(cut, -1);

        json_object_set_string_member(line, member, valid);
}

void audit_denied(Api *api, const struct api_caller *caller, const char *method, const char *path,
                  guint status, const GError *why)
{
        g_autoptr(GError) error = NULL;
        JsonObject *line;

        event_log(EVENT_NOTICE, "api-denied", why->message, "address", caller->address, "token",
                  caller->token, NULL);
        if (!api->config.audit)
                return;
        line = json_object_new();
        json_object_set_time(line, "time", host_wall_us(api->env));
        json_object_set_string_member(line, "phase", "denied");
        json_object_set_object_member(line, "who", api_caller_json(caller));
        add_words(line, "method", method);
        add_words(line, "path", path);
        json_object_set_int_member(line, "status", status);
        json_object_set_string_member(line, "text", why->message);
        if (!audit_log_write(api->config.audit, line, FALSE, &error))
                event_log(EVENT_ERROR, "audit-not-written", error->message, NULL);
}
