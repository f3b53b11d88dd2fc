/* host-service/api/call.c - answers, errors, and finding the route of a request. */
#include "host-service/api/call.h"

#include <string.h>

#include "common/error.h"
#include "host-service/api/audit.h"

guint call_status_of(const GError *error)
{
        switch (moult_error_code(error)) {
        case MOULT_ERROR_MALFORMED:
                return SOUP_STATUS_BAD_REQUEST;
        case MOULT_ERROR_NOT_FOUND:
                return SOUP_STATUS_NOT_FOUND;
        case MOULT_ERROR_BUSY:
        case MOULT_ERROR_WRONG_STATE:
        case MOULT_ERROR_CANCELLED:
        case MOULT_ERROR_DRIFT:
                return SOUP_STATUS_CONFLICT;
        case MOULT_ERROR_UNTRUSTED:
                return SOUP_STATUS_FORBIDDEN;
        case MOULT_ERROR_REFUSED:
        case MOULT_ERROR_HOOK:
        case MOULT_ERROR_HEALTH:
                return SOUP_STATUS_UNPROCESSABLE_ENTITY;
        case MOULT_ERROR_NO_SPACE:
                return SOUP_STATUS_INSUFFICIENT_STORAGE;
        case MOULT_ERROR_TIMEOUT:
                return SOUP_STATUS_GATEWAY_TIMEOUT;
        case MOULT_ERROR_UNSUPPORTED:
                return SOUP_STATUS_NOT_IMPLEMENTED;
        default:
                return SOUP_STATUS_INTERNAL_SERVER_ERROR;
        }
}

/* What to do next, for the classes where that does not depend on the case. */
static const char *hint_of(MoultError code)
{
        switch (code) {
        case MOULT_ERROR_MALFORMED:
                return "GET /v1/openapi.json describes every request";
        case MOULT_ERROR_NO_SPACE:
                return "make room on the file system of moultd's state directory, then try again";
        case MOULT_ERROR_TIMEOUT:
                return "look at the VM's \"connected\" in GET /v1/vms/NAME, and at moult-agent inside of it";
        case MOULT_ERROR_CORRUPT:
                return "get the file again from where it was built, or see moultd's log";
        case MOULT_ERROR_IO:
                return "see moultd's log";
        default:
                return NULL;
        }
}

JsonObject *call_error_json(const GError *error)
{
        JsonObject *o = json_object_new(), *e = json_object_new();
        MoultError code = moult_error_code(error);
        g_autofree char *text = g_utf8_make_valid(error->message, -1);

        json_object_set_string_member(e, "code", moult_error_name(code));
        json_object_set_string_member(e, "text", text);
        json_object_set_text(e, "hint", hint_of(code));
        json_object_set_object_member(o, "error", e);
        return o;
}

void call_answer(struct api_call *call, guint status, JsonObject *answer)
{
        g_clear_pointer(&call->answer, json_object_unref);
        call->status = status;
        call->answer = answer;
}

void call_answer_text(struct api_call *call, const char *type, char *text)
{
        call->status = SOUP_STATUS_OK;
        call->text_type = type;
        call->text = text;
}

void call_fail(struct api_call *call, const GError *error)
{
        call_answer(call, call_status_of(error), call_error_json(error));
}

void call_write(SoupServerMessage *msg, guint status, JsonObject *answer)
{
        g_autofree char *text = json_object_text(json_object_ref(answer));
        gsize len = strlen(text);

        soup_server_message_set_status(msg, status, NULL);
        soup_server_message_set_response(msg, "application/json", SOUP_MEMORY_TAKE, g_steal_pointer(&text),
                                         len);
}

void call_write_answer(struct api_call *call)
{
        if (call->answer) {
                call_write(call->msg, call->status, call->answer);
        } else if (call->text) {
                gsize len = strlen(call->text);

                soup_server_message_set_status(call->msg, call->status, NULL);
                soup_server_message_set_response(call->msg, call->text_type, SOUP_MEMORY_TAKE,
                                                 g_steal_pointer(&call->text), len);
        }
}

static void gone(SoupServerMessage *msg, gpointer user)
{
        struct api_call *call = user;

        g_signal_handler_disconnect(msg, call->gone_handler);
        call->gone_handler = 0;
        g_clear_object(&call->msg);
}

void call_later(struct api_call *call)
{
        call->later = TRUE;
        g_hash_table_add(call->api->calls, call);
        g_object_ref(call->msg);
        call->gone_handler = g_signal_connect(call->msg, "finished", G_CALLBACK(gone), call);
        soup_server_message_pause(call->msg);
}

void call_done(struct api_call *call)
{
        if (call->api)
                audit_answered(call);
        if (call->msg) {
                SoupServerMessage *msg = g_steal_pointer(&call->msg);

                g_signal_handler_disconnect(msg, call->gone_handler);
                if (call->api) {
                        call_write(msg, call->status, call->answer);
                        soup_server_message_unpause(msg);
                }
                g_object_unref(msg);
        }
        if (call->api)
                g_hash_table_remove(call->api->calls, call);
        call_free(call);
}

void call_free(struct api_call *call)
{
        for (guint i = 0; i < API_PARAMS_MAX; i++)
                g_free(call->params[i]);
        g_clear_pointer(&call->query, g_hash_table_unref);
        g_clear_pointer(&call->body, json_object_unref);
        g_clear_pointer(&call->answer, json_object_unref);
        g_clear_pointer(&call->kept, json_object_unref);
        g_free(call->text);
        api_caller_clear(&call->caller);
        g_free(call->audit_id);
        g_free(call);
}

/* Matches one path against one pattern. Parameters may hold neither '/' nor NUL, escaped or not. */
static gboolean matches(const char *pattern, const char *raw_path, char *params[API_PARAMS_MAX])
{
        g_auto(GStrv) want = g_strsplit(pattern, "/", -1), got = g_strsplit(raw_path, "/", -1);
        gboolean ok = g_strv_length(want) == g_strv_length(got);
        guint n = 0;

        for (guint i = 0; ok && want[i]; i++) {
                if (want[i][0] != '{') {
                        ok = g_str_equal(want[i], got[i]);
                        continue;
                }
                g_assert(n < API_PARAMS_MAX);
                params[n] = g_uri_unescape_string(got[i], "/");
                ok = params[n] && g_utf8_validate(params[n], -1, NULL);
                n++;
        }
        for (guint i = 0; !ok && i < API_PARAMS_MAX; i++)
                g_clear_pointer(&params[i], g_free);
        return ok;
}

const struct api_route *api_route_find(const char *method, const char *raw_path, char *params[API_PARAMS_MAX],
                                       char **ret_allow)
{
        g_autoptr(GString) allow = g_string_new(NULL);

        *ret_allow = NULL;
        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];

                if (!matches(r->pattern, raw_path, params))
                        continue;
                if (g_str_equal(r->method, method))
                        return r;
                g_string_append_printf(allow, "%s%s", allow->len ? ", " : "", r->method);
                for (guint p = 0; p < API_PARAMS_MAX; p++)
                        g_clear_pointer(&params[p], g_free);
        }
        if (allow->len)
                *ret_allow = g_string_free(g_steal_pointer(&allow), FALSE);
        return NULL;
}
