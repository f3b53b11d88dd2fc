/* host-service/api/rollouts.c - /v1/rollouts: a release to many VMs, wave by wave. */
#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/rollout/rollout_add.h"
#include "host-service/rollout/rollout_state.h"

char *rollout_body_refusal(JsonObject *body)
{
        gboolean all = json_object_get_boolean_member_with_default(body, "all", FALSE);
        guint ways = (all ? 1 : 0) + (json_object_has_member(body, "vms") ? 1 : 0) +
                     (json_object_has_member(body, "labels") ? 1 : 0);
        const char *batch = json_object_get_string_member_with_default(body, "batch", NULL);
        guint n;

        if (ways != 1)
                return g_strdup("the VMs are chosen by one of \"vms\", \"labels\" and \"all\": true");
        if (json_object_has_member(body, "labels") &&
            json_object_get_size(json_object_get_object_member(body, "labels")) == 0)
                return g_strdup("\"labels\" has none; \"all\": true chooses every VM");
        if (batch && !rollout_batch_parse(batch, 100, &n))
                return g_strdup(
                        "\"batch\" must be a number of VMs (\"10\"), or 1% to 100% of them (\"20%\")");
        return NULL;
}

static GPtrArray *named_vms(Catalogue *c, JsonArray *names, GError **error)
{
        g_autoptr(GPtrArray) vms = g_ptr_array_new_with_free_func((GDestroyNotify)vm_record_free);
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < json_array_get_length(names); i++) {
                const char *name = json_array_get_string_element(names, i);
                VmRecord *vm;

                if (!g_hash_table_add(seen, (gpointer)name)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "VM \"%s\" is named twice",
                                    name);
                        return NULL;
                }
                vm = catalogue_vm_get(c, name, error);
                if (!vm)
                        return NULL;
                g_ptr_array_add(vms, vm);
        }
        return g_steal_pointer(&vms);
}

static GPtrArray *choose_vms(struct api_call *call, GError **error)
{
        JsonObject *body = call->body;
        g_autoptr(GPtrArray) vms = NULL;
        g_autofree char *labels = NULL;

        if (json_object_has_member(body, "vms"))
                return named_vms(call->api->catalogue, json_object_get_array_member(body, "vms"), error);
        if (json_object_has_member(body, "labels"))
                labels = json_object_text(json_object_ref(json_object_get_object_member(body, "labels")));
        vms = catalogue_vm_select(call->api->catalogue, labels, error);
        if (!vms)
                return NULL;
        if (vms->len == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "%s; nothing was begun",
                            labels ? "no VM has these labels" : "there are no VMs");
                return NULL;
        }
        if (vms->len > ROLLOUT_VMS_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "these are %u VMs, and a rollout takes at most %d; choose fewer by labels",
                            vms->len, ROLLOUT_VMS_MAX);
                return NULL;
        }
        return g_steal_pointer(&vms);
}

/* A canary that is off, or has the release already, would show nothing. */
static void put_likely_first(const struct api_call *call, const ReleaseRecord *release, GPtrArray *vms)
{
        const struct guest_view *g = call->api->guests;
        g_autofree char *text = g_strdup_printf("%s %s", release->name, release->version);
        g_autoptr(GPtrArray) later = g_ptr_array_new();

        for (guint i = 0; i < vms->len;) {
                const VmRecord *vm = vms->pdata[i];
                struct guest_status s = {0};

                g->ops->status(g->self, vm->name, &s);
                if (s.connected && g_strcmp0(vm->last_release, text) != 0)
                        i++;
                else
                        g_ptr_array_add(later, g_ptr_array_steal_index(vms, i));
        }
        for (guint i = 0; i < later->len; i++)
                g_ptr_array_add(vms, later->pdata[i]);
}

gboolean api_rollouts_add(struct api_call *call, GError **error)
{
        Api *api = call->api;
        JsonObject *body = call->body;
        g_autoptr(ReleaseRecord) release = NULL;
        g_autoptr(GPtrArray) vms = NULL;
        g_autofree char *id = NULL;
        const struct rollout_options options = {
                .canary = (guint)json_object_get_int_member_with_default(body, "canary", 0),
                .batch = json_object_get_string_member_with_default(body, "batch", NULL),
                .max_failures = (guint)json_object_get_int_member_with_default(body, "max_failures", 0),
                .pause_ms = json_object_get_int_member_with_default(body, "pause_ms", 0),
                .push = api_push_options(body),
        };

        if (!api_check_room(api, error))
                return FALSE;
        release = catalogue_release_resolve(api->catalogue, json_object_get_string_member(body, "release"),
                                            error);
        vms = release ? choose_vms(call, error) : NULL;
        if (!vms)
                return FALSE;
        put_likely_first(call, release, vms);
        id = rollout_add(api->env, api->catalogue, api->jobs, release, vms, &options, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

static JsonObject *rollout_json(Api *api, const OperationRecord *op, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(api->catalogue, op->id, error);
        struct rollout_counts n;
        JsonObject *o;

        if (!r || !catalogue_rollout_count(api->catalogue, op->id, -1, &n, error))
                return NULL;
        o = operation_record_to_json(op);
        json_object_set_object_member(o, "rollout", rollout_record_to_json(r, &n));
        return o;
}

gboolean api_rollouts_list(struct api_call *call, GError **error)
{
        struct operation_filter f = {.state = -1, .kind = "rollout"};
        g_autoptr(GPtrArray) list = NULL;
        g_autoptr(JsonArray) a = json_array_new();
        JsonObject *o;

        f.before = g_hash_table_lookup(call->query, "before");
        f.limit = (guint)fields_query_number(call->query, "limit", 0);
        list = catalogue_operation_list(call->api->catalogue, &f, error);
        if (!list)
                return FALSE;
        for (guint i = 0; i < list->len; i++) {
                JsonObject *one = rollout_json(call->api, list->pdata[i], error);

                if (!one)
                        return FALSE;
                json_array_add_object_element(a, one);
        }
        o = json_object_new();
        json_object_set_array_member(o, "rollouts", json_array_ref(a));
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_rollouts_stop(struct api_call *call, GError **error)
{
        return rollout_stop(call->api->catalogue, call->params[0], error) &&
               call_answer_operation(call, SOUP_STATUS_ACCEPTED, call->params[0], error);
}

gboolean api_rollouts_resume(struct api_call *call, GError **error)
{
        return rollout_resume(call->api->catalogue, call->params[0], error) &&
               call_answer_operation(call, SOUP_STATUS_ACCEPTED, call->params[0], error);
}

gboolean api_rollouts_abort(struct api_call *call, GError **error)
{
        gboolean take_back = json_object_get_boolean_member_with_default(call->body, "rollback", FALSE);

        return rollout_abort(call->api->catalogue, call->params[0], take_back, error) &&
               call_answer_operation(call, SOUP_STATUS_ACCEPTED, call->params[0], error);
}
