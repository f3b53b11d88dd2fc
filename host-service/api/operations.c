/* host-service/api/operations.c - /v1/operations: what runs, what has run, its plans, and stopping it. */
#include "common/error.h"
#include "host-service/api/call.h"

static void add_rollout(Api *api, const char *id, JsonObject *o)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(api->catalogue, id, NULL);
        struct rollout_counts n;

        if (r && catalogue_rollout_count(api->catalogue, id, -1, &n, NULL))
                json_object_set_object_member(o, "rollout", rollout_record_to_json(r, &n));
        else
                json_object_set_null_member(o, "rollout");
}

static JsonObject *operation_json(Api *api, const OperationRecord *op)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list(api->catalogue, op->id, NULL);
        JsonObject *o = operation_record_to_json(op);
        JsonArray *a = json_array_new();

        for (guint i = 0; pushes && i < pushes->len; i++)
                json_array_add_object_element(a, push_record_to_json(g_ptr_array_index(pushes, i)));
        json_object_set_array_member(o, "pushes", a);
        if (g_str_equal(op->kind, "rollout"))
                add_rollout(api, op->id, o);
        return o;
}

gboolean call_answer_operation(struct api_call *call, guint status, const char *id, GError **error)
{
        g_autoptr(OperationRecord) op = catalogue_operation_get(call->api->catalogue, id, error);
        JsonObject *o;

        if (!op)
                return FALSE;
        o = json_object_new();
        json_object_set_object_member(o, "operation", operation_json(call->api, op));
        call_answer(call, status, o);
        return TRUE;
}

gboolean api_operations_get(struct api_call *call, GError **error)
{
        return call_answer_operation(call, SOUP_STATUS_OK, call->params[0], error);
}

gboolean api_operations_list(struct api_call *call, GError **error)
{
        const char *state = g_hash_table_lookup(call->query, "state");
        struct operation_filter f = {.state = -1};
        g_autoptr(GPtrArray) list = NULL;
        OperationState s;
        JsonObject *o;
        JsonArray *a;

        if (state && operation_state_parse(state, &s))
                f.state = (int)s;
        f.kind = g_hash_table_lookup(call->query, "kind");
        f.before = g_hash_table_lookup(call->query, "before");
        f.limit = (guint)fields_query_number(call->query, "limit", 0);
        list = catalogue_operation_list(call->api->catalogue, &f, error);
        if (!list)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < list->len; i++)
                json_array_add_object_element(a, operation_json(call->api, g_ptr_array_index(list, i)));
        json_object_set_array_member(o, "operations", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_operations_cancel(struct api_call *call, GError **error)
{
        return jobs_cancel(call->api->jobs, call->params[0], error) &&
               call_answer_operation(call, SOUP_STATUS_ACCEPTED, call->params[0], error);
}

/* The VM that is asked for; without one, the only VM of the operation. */
static char *choose_vm(struct api_call *call, GError **error)
{
        const char *vm = g_hash_table_lookup(call->query, "vm");
        g_autoptr(GPtrArray) pushes = NULL;

        if (vm)
                return g_strdup(vm);
        pushes = catalogue_push_list(call->api->catalogue, call->params[0], error);
        if (!pushes)
                return NULL;
        if (pushes->len != 1) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "operation %s has %u pushes: say which with the query parameter \"vm\"",
                            call->params[0], pushes->len);
                return NULL;
        }
        return g_strdup(((PushRecord *)g_ptr_array_index(pushes, 0))->vm);
}

gboolean api_operations_plan(struct api_call *call, GError **error)
{
        g_autoptr(OperationRecord) op = catalogue_operation_get(call->api->catalogue, call->params[0], error);
        g_autofree char *vm = op ? choose_vm(call, error) : NULL;
        guint first = (guint)fields_query_number(call->query, "first", 0);
        guint count = (guint)fields_query_number(call->query, "count", 512), total = 0;
        g_autoptr(GPtrArray) items = NULL;
        JsonObject *o;
        JsonArray *a;

        if (vm)
                items = catalogue_plan_list(call->api->catalogue, op->id, vm, first, count, &total, error);
        if (!items)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        json_object_set_string_member(o, "operation", op->id);
        json_object_set_string_member(o, "vm", vm);
        json_object_set_int_member(o, "first", first);
        json_object_set_int_member(o, "total", total);
        for (guint i = 0; i < items->len; i++)
                json_array_add_object_element(a, plan_item_to_json(g_ptr_array_index(items, i)));
        json_object_set_array_member(o, "items", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}
