/* host-service/api/timeline.c - /v1/snapshots/timeline: a VM's restore points, and what was pushed between
 * them.
 *
 * Restore points with their disks, pushes and layers are one query each, however many there are. */
#include "host-service/api/call.h"
#include "host-service/catalogue/layers.h"
#include "host-service/catalogue/schedules.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/layer_name.h"

#define LIST_DEFAULT 100
#define PUSHES_MAX   1000

struct item {
        gint64 time_us;
        JsonObject *json;
};

static void add_item(GArray *items, gint64 time_us, const char *kind, JsonObject *json)
{
        const struct item i = {time_us, json};

        json_object_set_string_member(json, "kind", kind);
        json_object_set_time(json, "time", time_us);
        g_array_append_val(items, i);
}

/* One that is being made is placed where it began. */
static gint64 time_of(const SnapshotRecord *s)
{
        return s->taken_us ? s->taken_us : s->created_us;
}

/* What its own layers brought into the store; what they stand on is another restore point's. */
static guint64 stored_bytes(const SnapshotRecord *s, GHashTable *layers)
{
        guint64 bytes = 0;

        for (guint i = 0; i < s->disks->len; i++) {
                g_autofree char *id =
                        layer_name_id(((const struct snapshot_disk *)s->disks->pdata[i])->layer);
                const LayerRecord *l = id ? g_hash_table_lookup(layers, id) : NULL;

                bytes += l ? l->stored_bytes : 0;
        }
        return bytes;
}

static GHashTable *by_id(const GPtrArray *layers)
{
        GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < layers->len; i++) {
                LayerRecord *l = layers->pdata[i];

                g_hash_table_replace(table, l->id, l);
        }
        return table;
}

static gboolean add_snapshots(GArray *items, struct api_call *call, const char *vm, const GPtrArray *all,
                              GError **error)
{
        g_autoptr(GPtrArray) layers = catalogue_layer_list(call->api->catalogue, vm, error);
        g_autoptr(GHashTable) table = layers ? by_id(layers) : NULL;

        for (guint i = 0; table && i < all->len; i++) {
                const SnapshotRecord *s = all->pdata[i];
                JsonObject *o = snapshot_record_to_json(s);

                json_object_set_int_member(o, "stored_bytes", (gint64)stored_bytes(s, table));
                add_item(items, time_of(s), "snapshot", o);
        }
        return table != NULL;
}

static gboolean add_pushes(GArray *items, struct api_call *call, const char *vm, gint64 since_us,
                           GError **error)
{
        g_autoptr(GPtrArray) all =
                catalogue_push_list_since(call->api->catalogue, vm, since_us, PUSHES_MAX, error);

        for (guint i = 0; all && i < all->len; i++) {
                const PushRecord *r = all->pdata[i];
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "vm", r->vm);
                json_object_set_string_member(o, "operation", r->operation);
                json_object_set_text(o, "release", r->release_name);
                json_object_set_text(o, "version", r->release_version);
                json_object_set_int_member(o, "generation", (gint64)r->generation);
                json_object_set_string_member(o, "state", push_state_name(r->state));
                json_object_set_boolean_member(o, "final", push_state_is_final(r->state));
                json_object_set_error(o, r->error, r->text);
                json_object_set_time(o, "created", r->created_us);
                json_object_set_text(o, "snapshot", r->snapshot);
                add_item(items, r->updated_us, r->options.rollback ? "rollback" : "push", o);
        }
        return all != NULL;
}

static gint compare(gconstpointer a, gconstpointer b)
{
        gint64 x = ((const struct item *)a)->time_us, y = ((const struct item *)b)->time_us;

        return (x < y) - (x > y);
}

/* Pushes before the oldest restore point are not between any two: they are not asked for. */
static gint64 oldest(const GPtrArray *all)
{
        gint64 time_us = G_MAXINT64;

        for (guint i = 0; i < all->len; i++)
                time_us = MIN(time_us, time_of(all->pdata[i]));
        return time_us;
}

gboolean api_snapshots_timeline(struct api_call *call, GError **error)
{
        const char *vm = g_hash_table_lookup(call->query, "vm");
        g_autoptr(GPtrArray) all = catalogue_snapshot_list(
                call->api->catalogue, vm, (guint)fields_query_number(call->query, "limit", LIST_DEFAULT),
                error);
        g_autoptr(GArray) items = g_array_new(FALSE, FALSE, sizeof(struct item));
        g_autoptr(GError) why = NULL;
        g_autoptr(ScheduleRecord) schedule = catalogue_schedule_get(call->api->catalogue, vm, &why);
        gboolean ok = all && add_snapshots(items, call, vm, all, error) &&
                      add_pushes(items, call, vm, oldest(all), error);
        JsonArray *a = json_array_new();
        JsonObject *o = json_object_new();

        g_array_sort(items, compare);
        for (guint i = 0; i < items->len; i++)
                json_array_add_object_element(a, g_array_index(items, struct item, i).json);
        json_object_set_array_member(o, "timeline", a);
        if (schedule)
                json_object_set_object_member(o, "schedule", schedule_record_to_json(schedule));
        else
                json_object_set_null_member(o, "schedule");
        if (ok && why) {
                g_propagate_error(error, g_steal_pointer(&why));
                ok = FALSE;
        }
        if (ok)
                call_answer(call, SOUP_STATUS_OK, o);
        else
                json_object_unref(o);
        return ok;
}
