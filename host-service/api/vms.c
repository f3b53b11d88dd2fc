/* host-service/api/vms.c - /v1/vms: the VMs, their labels and history, and taking a generation back. */
#include <string.h>

#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/api/refusal.h"
#include "host-service/jobs/push_operation.h"
#include "proto/limits.h"
#include "proto/message.h"

#define HISTORY_TIMEOUT_MS 10000
#define TOKEN_BYTES        24
#define CONFIRM_TIMEOUT_MS 60000

static JsonObject *vm_json(Api *api, const VmRecord *r)
{
        JsonObject *o = vm_record_to_json(r);
        struct guest_status s = {0};

        api->guests->ops->status(api->guests->self, r->name, &s);
        json_object_set_boolean_member(o, "connected", s.connected);
        json_object_set_text(o, "transport", s.transport);
        json_object_set_text(o, "software", s.software);
        json_object_set_boolean_member(o, "qmp_connected", s.qmp);
        return o;
}

static gboolean answer_vm(struct api_call *call, guint status, const char *name, const char *token,
                          GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(call->api->catalogue, name, error);
        JsonObject *o;

        if (!r)
                return FALSE;
        o = json_object_new();
        json_object_set_object_member(o, "vm", vm_json(call->api, r));
        if (token) {
                call->kept = json_object_new();
                json_object_set_object_member(call->kept, "vm", vm_json(call->api, r));
                json_object_set_null_member(call->kept, "join_token");
                json_object_set_string_member(o, "join_token", token);
        }
        call_answer(call, status, o);
        return TRUE;
}

/* "KEY=VALUE,KEY=VALUE" to a JSON object; NULL is none. */
char *api_labels_of_query(const char *text)
{
        g_auto(GStrv) pairs = g_strsplit(text ? text : "", ",", -1);
        JsonObject *o = json_object_new();

        for (GStrv p = pairs; *p; p++) {
                char *sign = strchr(*p, '=');

                *sign = '\0';
                json_object_set_string_member(o, *p, sign + 1);
        }
        return json_object_text(o);
}

gboolean api_vms_list(struct api_call *call, GError **error)
{
        g_autofree char *labels = api_labels_of_query(g_hash_table_lookup(call->query, "label"));
        g_autoptr(GPtrArray) vms = catalogue_vm_select(call->api->catalogue, labels, error);
        JsonObject *o;
        JsonArray *a;

        if (!vms)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < vms->len; i++)
                json_array_add_object_element(a, vm_json(call->api, g_ptr_array_index(vms, i)));
        json_object_set_array_member(o, "vms", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_vms_get(struct api_call *call, GError **error)
{
        return answer_vm(call, SOUP_STATUS_OK, call->params[0], NULL, error);
}

static char *make_secret(const struct host_env *env)
{
        guint8 bits[TOKEN_BYTES];
        g_autoptr(GString) s = g_string_new(NULL);

        host_random_fill(env, bits, sizeof bits);
        for (guint i = 0; i < sizeof bits; i++)
                g_string_append_printf(s, "%02x", bits[i]);
        return g_string_free(g_steal_pointer(&s), FALSE);
}

/* What moult-agent takes as its setting `token` (guest-agent/host_pin.c): the key that it shall meet, and the
 * secret that we shall hear. Only the secret's hash is kept. */
static char *token_text(const Api *api, const char *secret)
{
        char hex[2 * DIGEST_SIZE + 1];

        digest_to_hex(api->config.tls_fingerprint, hex);
        return g_strdup_printf(JOIN_TOKEN_PREFIX "%s:%s", hex, secret);
}

static char *map_text(JsonObject *body, const char *member)
{
        return json_object_text(json_object_ref(json_object_get_object_member(body, member)));
}

gboolean api_vms_labels(struct api_call *call, GError **error)
{
        const char *name = call->params[0];
        JsonArray *a = json_object_has_member(call->body, "remove")
                               ? json_object_get_array_member(call->body, "remove")
                               : NULL;
        guint n = a ? json_array_get_length(a) : 0;
        g_autofree const char **without = g_new0(const char *, n + 1);
        g_autofree char *labels =
                json_object_has_member(call->body, "set") ? map_text(call->body, "set") : NULL;

        for (guint i = 0; i < n; i++)
                without[i] = json_array_get_string_element(a, i);
        return catalogue_vm_set_labels(call->api->catalogue, name, labels, without, error) &&
               answer_vm(call, SOUP_STATUS_OK, name, NULL, error);
}

gboolean api_vms_add(struct api_call *call, GError **error)
{
        JsonNode *node = json_object_get_member(call->body, "token");
        const char *name = json_object_get_string_member(call->body, "name");
        g_autofree char *secret = NULL, *hash = NULL, *token = NULL, *labels = NULL;
        VmRecord r = {.name = (char *)name};

        r.qmp = (char *)json_object_get_string_member_with_default(call->body, "qmp", NULL);
        r.agent = (char *)json_object_get_string_member_with_default(call->body, "agent", NULL);
        r.libvirt = (char *)json_object_get_string_member_with_default(call->body, "libvirt", NULL);
        r.domain = (char *)json_object_get_string_member_with_default(call->body, "domain", NULL);
        if (r.libvirt && !call->api->env->virt) {
                g_set_error_literal(
                        error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "this moultd was built without libvirt (MOULT_LIBVIRT=OFF); add the VM with its "
                        "sockets, or over the network");
                return FALSE;
        }
        r.network = json_object_get_boolean_member_with_default(call->body, "network", FALSE);
        if (json_object_has_member(call->body, "labels"))
                r.labels = labels = map_text(call->body, "labels");
        if (node && json_node_get_value_type(node) == G_TYPE_STRING)
                secret = g_strdup(json_node_get_string(node));
        else if (node && json_node_get_boolean(node))
                secret = make_secret(call->api->env);
        if (secret) {
                r.token_hash = hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
                token = token_text(call->api, secret);
        }
        if (!catalogue_vm_add(call->api->catalogue, &r, error) ||
            !answer_vm(call, SOUP_STATUS_CREATED, name, token, error))
                return FALSE;
        call->changed_vm = name;
        return TRUE;
}

gboolean api_vms_remove(struct api_call *call, GError **error)
{
        const char *name = call->params[0];
        JsonObject *o;

        if (!catalogue_vm_remove(call->api->catalogue, name, error))
                return FALSE;
        call->changed_vm = name;
        o = json_object_new();
        json_object_set_string_member(o, "removed", name);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

static const char *phase_name(Moult__TransactionPhase p)
{
        static const char *const names[] = {"none",         "planning",    "planned", "staging",
                                            "staged",       "committing",  "active",  "committed",
                                            "rolling-back", "rolled-back", "refused", "failed"};

        return (guint)p < G_N_ELEMENTS(names) ? names[p] : "unknown";
}

static JsonObject *history_item_json(const Moult__HistoryItem *item)
{
        g_autofree char *release = message_string(item->release), *text = message_string(item->text);
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "generation", (gint64)item->generation);
        json_object_set_string_member(o, "release", release);
        json_object_set_hex(o, "digest", item->manifest_digest.data, item->manifest_digest.len);
        json_object_set_string_member(o, "phase", phase_name(item->phase));
        json_object_set_time(o, "time", (gint64)MIN(item->time_unix_s, 253402300799u) * G_USEC_PER_SEC);
        json_object_set_text(o, "text", item->text.len ? text : NULL);
        json_object_set_boolean_member(o, "can_roll_back", item->can_roll_back);
        return o;
}

/* What moultd itself knows of pushes to the VM: the answer has it also when the guest is silent. */
static JsonArray *pushes_json(Catalogue *c, const char *vm, guint limit)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list_vm(c, vm, limit, NULL);
        JsonArray *a = json_array_new();

        for (guint i = 0; pushes && i < pushes->len; i++)
                json_array_add_object_element(a, push_record_to_json(g_ptr_array_index(pushes, i)));
        return a;
}

static void on_history(const Moult__History *history, const GError *error, gpointer user)
{
        struct api_call *call = user;
        JsonObject *o;
        JsonArray *a;
        guint limit;

        if (!call->api) {
                call_done(call);
                return;
        }
        o = json_object_new();
        limit = (guint)fields_query_number(call->query, "limit", 50);
        if (history) {
                a = json_array_new();
                for (size_t i = 0; i < history->n_items; i++)
                        json_array_add_object_element(a, history_item_json(history->items[i]));
                json_object_set_array_member(o, "generations", a);
                json_object_set_null_member(o, "error");
        } else {
                g_autoptr(JsonObject) e = call_error_json(error);

                json_object_set_null_member(o, "generations");
                json_object_set_object_member(o, "error",
                                              json_object_ref(json_object_get_object_member(e, "error")));
        }
        json_object_set_array_member(o, "pushes", pushes_json(call->api->catalogue, call->params[0], limit));
        call_answer(call, SOUP_STATUS_OK, o);
        call_done(call);
}

gboolean api_vms_history(struct api_call *call, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(call->api->catalogue, call->params[0], error);
        const struct guest_view *g = call->api->guests;

        if (!r)
                return FALSE;
        call_later(call);
        g->ops->history(g->self, r->name, (guint)fields_query_number(call->query, "limit", 50),
                        HISTORY_TIMEOUT_MS, on_history, call);
        return TRUE;
}

gboolean api_vms_rollback(struct api_call *call, GError **error)
{
        Api *api = call->api;
        const char *vms[] = {call->params[0], NULL};
        struct push_options options = {.rollback = TRUE, .confirm_timeout_ms = CONFIRM_TIMEOUT_MS};
        g_autofree char *id = NULL;

        options.force = json_object_get_boolean_member_with_default(call->body, "force", FALSE);
        options.rollback_generation =
                (guint64)json_object_get_int_member_with_default(call->body, "generation", 0);
        if (!api_check_room(api, error))
                return FALSE;
        id = push_operation_add(api->env, api->catalogue, api->jobs, NULL, vms, &options, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}
