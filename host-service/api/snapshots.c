/* host-service/api/snapshots.c - /v1/snapshots: restore points of VMs. */
#include "common/error.h"
#include "host-service/api/call.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/snapshot/restore_time.h"

#define LIST_DEFAULT 100

static gboolean add_operation(struct api_call *call, const char *kind, GError **error)
{
        const char *vm = json_object_get_string_member(call->body, "vm");
        g_autofree char *request = NULL, *id = NULL;
        g_autoptr(VmRecord) known = NULL;

        if (!api_check_room(call->api, error))
                return FALSE;
        known = catalogue_vm_get(call->api->catalogue, vm, error);
        if (!known)
                return FALSE;
        request = json_object_text(json_object_ref(call->body));
        id = jobs_add(call->api->jobs, kind, request, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

gboolean api_snapshots_add(struct api_call *call, GError **error)
{
        return add_operation(call, "snapshot-create", error);
}

gboolean api_snapshots_merge(struct api_call *call, GError **error)
{
        return add_operation(call, "snapshot-merge", error);
}

/* In the time zone of this host. */
static SnapshotRecord *find_at(struct api_call *call, const char *vm, const char *time, const GError *no_name,
                               GError **error)
{
        g_autoptr(GTimeZone) local = g_time_zone_new_local();
        gint64 now = host_wall_us(call->api->env), at;
        g_autofree char *text = NULL;
        SnapshotRecord *s;

        if (!restore_time_parse(time, now, local, &at)) {
                g_set_error(error, no_name->domain, no_name->code, "%s; and \"%s\" is no time",
                            no_name->message, time);
                return NULL;
        }
        text = restore_time_text(at, local);
        if (at > now) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is yet to come, by the clock of moultd's host", text);
                return NULL;
        }
        s = catalogue_snapshot_at(call->api->catalogue, vm, at, error);
        if (!s)
                g_prefix_error(error, "%s: ", text);
        return s;
}

/* By its name or id, or the last one at or before a time; a name that looks like a time is a name. */
static SnapshotRecord *find_point(struct api_call *call, const char *vm, const char *which, GError **error)
{
        g_autoptr(GError) no_name = NULL;
        SnapshotRecord *s = catalogue_snapshot_find(call->api->catalogue, vm, which, &no_name);

        if (s)
                return s;
        if (g_error_matches(no_name, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return find_at(call, vm, which, no_name, error);
        g_propagate_error(error, g_steal_pointer(&no_name));
        return NULL;
}

static SnapshotRecord *find_named(struct api_call *call, const char *vm, const char *name, GError **error)
{
        return catalogue_snapshot_find(call->api->catalogue, vm, name, error);
}

/* An operation of @kind, whose request is the body with the snapshot's id in place of what it was called,
 * and its name beside it. */
static gboolean add_for_snapshot(struct api_call *call, const char *kind,
                                 SnapshotRecord *(*find)(struct api_call *, const char *, const char *,
                                                         GError **),
                                 GError **error)
{
        g_autofree char *request = NULL, *id = NULL;
        g_autoptr(SnapshotRecord) s = NULL;
        JsonObject *body;

        if (!api_check_room(call->api, error))
                return FALSE;
        s = find(call, json_object_get_string_member(call->body, "vm"),
                 json_object_get_string_member(call->body, "snapshot"), error);
        if (!s)
                return FALSE;
        body = json_object_ref(call->body);
        json_object_set_string_member(body, "snapshot", s->id);
        json_object_set_string_member(body, "name", s->name); /* for whom it is gone by then */
        request = json_object_text(body);
        id = jobs_add(call->api->jobs, kind, request, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

gboolean api_snapshots_upload(struct api_call *call, GError **error)
{
        return add_for_snapshot(call, "snapshot-upload", find_named, error);
}

gboolean api_snapshots_export(struct api_call *call, GError **error)
{
        return add_for_snapshot(call, "snapshot-export", find_named, error);
}

gboolean api_snapshots_rollback(struct api_call *call, GError **error)
{
        return add_for_snapshot(call, "snapshot-rollback", find_point, error);
}

/* Restore points outlive their VM: one that is not known any more may have some. */
static gboolean vm_is_known(struct api_call *call, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) some = catalogue_snapshot_list(call->api->catalogue, vm, 1, error);
        g_autoptr(VmRecord) known = NULL;

        if (!some || some->len > 0)
                return some != NULL;
        known = catalogue_vm_get(call->api->catalogue, vm, error);
        return known != NULL;
}

/* An operation of @kind about all restore points of a VM, or of all VMs. */
static gboolean add_for_all(struct api_call *call, const char *kind, GError **error)
{
        const char *vm = json_object_get_string_member_with_default(call->body, "vm", NULL);
        g_autofree char *request = NULL, *id = NULL;

        if (!api_check_room(call->api, error) || (vm && !vm_is_known(call, vm, error)))
                return FALSE;
        request = json_object_text(json_object_ref(call->body));
        id = jobs_add(call->api->jobs, kind, request, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

gboolean api_snapshots_verify(struct api_call *call, GError **error)
{
        return json_object_has_member(call->body, "snapshot")
                       ? add_for_snapshot(call, "snapshot-verify", find_named, error)
                       : add_for_all(call, "snapshot-verify", error);
}

gboolean api_snapshots_remove(struct api_call *call, GError **error)
{
        return add_for_snapshot(call, "snapshot-remove", find_named, error);
}

gboolean api_snapshots_prune(struct api_call *call, GError **error)
{
        return add_for_all(call, "snapshot-prune", error);
}

gboolean api_snapshots_mount(struct api_call *call, GError **error)
{
        return add_for_snapshot(call, "snapshot-mount", find_point, error);
}

gboolean api_snapshots_unmount(struct api_call *call, GError **error)
{
        return json_object_has_member(call->body, "snapshot")
                       ? add_for_snapshot(call, "snapshot-unmount", find_named, error)
                       : add_for_all(call, "snapshot-unmount", error);
}

gboolean api_snapshots_mounts(struct api_call *call, GError **error)
{
        JsonObject *o = json_object_new();

        json_object_set_array_member(o, "mounts", snapshot_mounts_to_json(call->api->config.mounts));
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

gboolean api_snapshots_list(struct api_call *call, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_snapshot_list(
                call->api->catalogue, g_hash_table_lookup(call->query, "vm"),
                (guint)fields_query_number(call->query, "limit", LIST_DEFAULT), error);
        JsonObject *o;
        JsonArray *a;

        if (!all)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < all->len; i++)
                json_array_add_object_element(a, snapshot_record_to_json(all->pdata[i]));
        json_object_set_array_member(o, "snapshots", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}
