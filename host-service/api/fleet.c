/* host-service/api/fleet.c - /v1/fleet: which VM is on which release, what is under way, who runs old code,
 * who drifts, who was not seen for how long. From the catalogue alone: no guest is asked. */
#include "host-service/catalogue/fleet.h"

#include "common/error.h"
#include "host-service/api/call.h"

static JsonObject *push_json(const PushRecord *p)
{
        g_autoptr(JsonObject) whole = push_record_to_json(p);
        static const char *const members[] = {"operation", "release", "version", "state", "error", "updated"};
        JsonObject *o = json_object_new();

        for (guint i = 0; i < G_N_ELEMENTS(members); i++)
                json_object_set_member(o, members[i], json_object_dup_member(whole, members[i]));
        json_object_set_boolean_member(o, "rollback", p->options.rollback);
        return o;
}

/* How many processes ran replaced files when the last push had ended; -1: not known. */
static gint64 stale_processes(const FleetRow *r)
{
        g_autoptr(JsonNode) node =
                r->stale_counts && r->last->stale ? json_from_string(r->last->stale, NULL) : NULL;
        JsonObject *o = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

        if (r->last && !r->stale_counts)
                return 0; /* it was booted since: everything was begun anew */
        if (!o || !json_object_get_boolean_member_with_default(o, "known", FALSE))
                return -1;
        return json_object_get_int_member_with_default(o, "processes_total", 0);
}

static JsonObject *row_json(Api *api, const FleetRow *r)
{
        JsonObject *vm = vm_record_to_json(r->vm), *o = json_object_new();
        static const char *const members[] = {"name", "labels", "hostname", "last_release", "last_seen"};
        gint64 stale = stale_processes(r);
        struct guest_status s = {0};

        api->guests->ops->status(api->guests->self, r->vm->name, &s);
        for (guint i = 0; i < G_N_ELEMENTS(members); i++)
                json_object_set_member(o, members[i], json_object_dup_member(vm, members[i]));
        json_object_unref(vm);
        json_object_set_boolean_member(o, "connected", s.connected);
        if (s.connected)
                json_object_set_int_member(o, "unseen_s", 0);
        else if (r->vm->last_seen_us > 0)
                json_object_set_int_member(
                        o, "unseen_s", MAX(0, host_wall_us(api->env) - r->vm->last_seen_us) / G_USEC_PER_SEC);
        else
                json_object_set_null_member(o, "unseen_s");
        json_object_set_int_member(o, "pending", r->pending);
        if (r->last)
                json_object_set_object_member(o, "push", push_json(r->last));
        else
                json_object_set_null_member(o, "push");
        if (stale >= 0)
                json_object_set_int_member(o, "stale", stale);
        else
                json_object_set_null_member(o, "stale");
        json_object_set_object_member(o, "drift", api_drift_json(api, &r->drift));
        return o;
}

static gboolean has_failed(const FleetRow *r)
{
        return r->last && r->last->state != PUSH_STATE_DONE;
}

struct release_count {
        const char *release;
        guint vms;
};

static gint more_first(gconstpointer a, gconstpointer b)
{
        const struct release_count *x = a, *y = b;

        return x->vms != y->vms ? (x->vms < y->vms ? 1 : -1) : g_strcmp0(x->release, y->release);
}

static JsonArray *releases_json(const GPtrArray *rows)
{
        g_autoptr(GArray) counts = g_array_new(FALSE, FALSE, sizeof(struct release_count));
        JsonArray *a = json_array_new();

        for (guint i = 0; i < rows->len; i++) {
                const char *release = ((FleetRow *)rows->pdata[i])->vm->last_release;
                guint k = 0;

                while (k < counts->len &&
                       g_strcmp0(g_array_index(counts, struct release_count, k).release, release) != 0)
                        k++;
                if (k == counts->len) {
                        struct release_count one = {release, 0};

                        g_array_append_val(counts, one);
                }
                g_array_index(counts, struct release_count, k).vms++;
        }
        g_array_sort(counts, more_first);
        for (guint k = 0; k < counts->len; k++) {
                JsonObject *o = json_object_new();

                json_object_set_text(o, "release", g_array_index(counts, struct release_count, k).release);
                json_object_set_int_member(o, "vms", g_array_index(counts, struct release_count, k).vms);
                json_array_add_object_element(a, o);
        }
        return a;
}

static JsonObject *counts_json(Api *api, const GPtrArray *rows)
{
        guint connected = 0, pending = 0, failed = 0, stale = 0, drifting = 0, in_step = 0;
        JsonObject *o = json_object_new();

        for (guint i = 0; i < rows->len; i++) {
                const FleetRow *r = rows->pdata[i];
                struct guest_status s = {0};

                api->guests->ops->status(api->guests->self, r->vm->name, &s);
                connected += s.connected ? 1 : 0;
                pending += r->pending > 0 ? 1 : 0;
                failed += has_failed(r) ? 1 : 0;
                stale += stale_processes(r) > 0 ? 1 : 0;
                drifting += r->drift.state == DRIFT_DRIFTS ? 1 : 0;
                in_step += r->drift.state == DRIFT_IN_STEP ? 1 : 0;
        }
        json_object_set_int_member(o, "vms", rows->len);
        json_object_set_int_member(o, "connected", connected);
        json_object_set_int_member(o, "pending", pending);
        json_object_set_int_member(o, "failed", failed);
        json_object_set_int_member(o, "stale", stale);
        json_object_set_int_member(o, "drifting", drifting);
        json_object_set_int_member(o, "in_step", in_step);
        return o;
}

gboolean api_fleet_get(struct api_call *call, GError **error)
{
        g_autofree char *labels = api_labels_of_query(g_hash_table_lookup(call->query, "label"));
        g_autoptr(GPtrArray) rows = catalogue_fleet(call->api->catalogue, labels, error);
        JsonObject *o, *fleet;
        JsonArray *vms;

        if (!rows)
                return FALSE;
        o = json_object_new();
        fleet = json_object_new();
        vms = json_array_new();
        for (guint i = 0; i < rows->len; i++)
                json_array_add_object_element(vms, row_json(call->api, rows->pdata[i]));
        json_object_set_object_member(fleet, "counts", counts_json(call->api, rows));
        json_object_set_array_member(fleet, "releases", releases_json(rows));
        json_object_set_array_member(fleet, "vms", vms);
        json_object_set_object_member(o, "fleet", fleet);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}
