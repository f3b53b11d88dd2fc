/* host-service/api/routes.c - every path that the API has, and what its requests may hold. docs/openapi.yaml
 * has the same for readers; a test compares the two. */
#include "host-service/api/call.h"
#include "host-service/api/refusal.h"
#include "host-service/rollout/rollout_add.h"
#include "host-service/snapshot/prune_plan.h"
#include "host-service/snapshot/schedule_time.h"
#include "host-service/store/share.h"
#include "host-service/store/store.h"
#include "proto/limits.h"

#define TOKEN_LIFE_MAX_S       (10 * 366 * 24 * 3600)
#define DRIFT_FILES_MAX        1000000000
#define VMS_IN_PUSH_MAX        1024
#define CONFIRM_TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define ROLLOUT_PAUSE_MAX_MS   (7 * CONFIRM_TIMEOUT_MAX_MS)

static const struct field vm_body[] = {
        {"name", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"qmp", FIELD_TEXT, FALSE, 0, 0, socket_path_refusal},
        {"agent", FIELD_TEXT, FALSE, 0, 0, socket_path_refusal},
        {"libvirt", FIELD_TEXT, FALSE, 0, 0, libvirt_uri_refusal},
        {"domain", FIELD_TEXT, FALSE, 0, 0, domain_refusal},
        {"network", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"token", FIELD_FLAG_OR_TEXT, FALSE, 0, 0, join_token_refusal},
        {"labels", FIELD_MAP, FALSE, 0, VM_LABELS_MAX, label_refusal},
        {0},
};

static const struct field labels_body[] = {
        {"set", FIELD_MAP, FALSE, 0, VM_LABELS_MAX, label_refusal},
        {"remove", FIELD_TEXTS, FALSE, 0, VM_LABELS_MAX, label_key_refusal},
        {0},
};

static const struct field vms_query[] = {
        {"label", FIELD_TEXT, FALSE, 0, 0, labels_refusal},
        {0},
};

static char *vm_body_refusal(JsonObject *body)
{
        gboolean network = json_object_get_boolean_member_with_default(body, "network", FALSE);

        gboolean libvirt = json_object_has_member(body, "libvirt");

        if (!network && !libvirt && !json_object_has_member(body, "agent"))
                return g_strdup("a VM needs \"libvirt\" and \"domain\", or \"agent\" (the socket of its "
                                "virtio-serial port), or \"network\": true");
        if (libvirt != json_object_has_member(body, "domain"))
                return g_strdup("\"libvirt\" and \"domain\" go together");
        if (libvirt && (json_object_has_member(body, "qmp") || json_object_has_member(body, "agent")))
                return g_strdup("a VM of a \"libvirt\" has no \"qmp\" and no \"agent\": libvirt holds them");
        if (!network && json_object_has_member(body, "token"))
                return g_strdup("\"token\" is for VMs with \"network\": true");
        return NULL;
}

static const struct field release_body[] = {
        {"path", FIELD_TEXT, TRUE, 0, 0, file_path_refusal},
        {0},
};

/* How to push, whether to one VM or in waves. */
#define PUSH_FIELDS                                                                                          \
        {"release", FIELD_TEXT, TRUE, 0, 0, release_spec_refusal},                                           \
                {"dry_run", FIELD_FLAG, FALSE, 0, 0, NULL},                                                  \
                {"transport", FIELD_TEXT, FALSE, 0, 0, transport_refusal},                                   \
                {"allow_drift", FIELD_FLAG, FALSE, 0, 0, NULL},                                              \
                {"sync", FIELD_TEXT, FALSE, 0, 0, sync_mode_refusal},                                        \
                {"confirm_timeout_ms", FIELD_NUMBER, FALSE, 1000, CONFIRM_TIMEOUT_MAX_MS, NULL},             \
                {"strict_window", FIELD_FLAG, FALSE, 0, 0, NULL},                                            \
                {"merge", FIELD_TEXT, FALSE, 0, 0, merge_method_refusal},                                    \
                {"instant", FIELD_FLAG, FALSE, 0, 0, NULL},                                                  \
                {"restart_stale", FIELD_FLAG, FALSE, 0, 0, NULL},                                            \
                {"snapshot", FIELD_FLAG, FALSE, 0, 0, NULL},                                                 \
        {                                                                                                    \
                "workers", FIELD_NUMBER, FALSE, 0, 64, NULL                                                  \
        }

static const struct field push_body[] = {
        PUSH_FIELDS,
        {"vms", FIELD_TEXTS, TRUE, 1, VMS_IN_PUSH_MAX, vm_name_refusal},
        {0},
};

static const struct field rollout_body[] = {
        PUSH_FIELDS,
        {"vms", FIELD_TEXTS, FALSE, 1, ROLLOUT_VMS_MAX, vm_name_refusal},
        {"all", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"labels", FIELD_MAP, FALSE, 0, VM_LABELS_MAX, label_refusal},
        {"canary", FIELD_NUMBER, FALSE, 0, ROLLOUT_VMS_MAX, NULL},
        {"batch", FIELD_TEXT, FALSE, 0, 0, NULL},
        {"max_failures", FIELD_NUMBER, FALSE, 0, ROLLOUT_VMS_MAX, NULL},
        {"pause_ms", FIELD_NUMBER, FALSE, 0, ROLLOUT_PAUSE_MAX_MS, NULL},
        {0},
};

static const struct field abort_body[] = {
        {"rollback", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

static const struct field rollouts_query[] = {
        {"before", FIELD_TEXT, FALSE, 0, 0, operation_id_refusal},
        {"limit", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};

static const struct field verify_body[] = {
        {"shared", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

static const struct field gc_body[] = {
        {"dry_run", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"shared", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"grace_hours", FIELD_NUMBER, FALSE, SHARE_GRACE_HOURS_MIN, SHARE_GRACE_HOURS_MAX, NULL},
        {"keep", FIELD_NUMBER, FALSE, 0, STORE_KEEP_MAX, NULL},
        {"ways_back", FIELD_NUMBER, FALSE, 0, STORE_WAYS_BACK_MAX, NULL},
        {0},
};

static char *gc_body_refusal(JsonObject *body)
{
        gboolean shared = json_object_get_boolean_member_with_default(body, "shared", FALSE);

        if (shared && (json_object_has_member(body, "keep") || json_object_has_member(body, "ways_back")))
                return g_strdup(
                        "\"keep\" and \"ways_back\" are for this host's store: releases never go from "
                        "the shared one");
        if (!shared && json_object_has_member(body, "grace_hours"))
                return g_strdup("\"grace_hours\" is for the shared store (\"shared\": true)");
        return NULL;
}

static const struct field share_body[] = {
        {"release", FIELD_TEXT, TRUE, 0, 0, release_name_refusal},
        {"version", FIELD_TEXT, TRUE, 0, 0, release_version_refusal},
        {0},
};

static const struct field rollback_body[] = {
        {"generation", FIELD_NUMBER, FALSE, 0, G_MAXINT64, NULL},
        {"force", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

static const struct field release_query[] = {
        {"entries", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"first", FIELD_NUMBER, FALSE, 0, LIMIT_ENTRIES, NULL},
        {"count", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};

static const struct field releases_query[] = {
        {"name", FIELD_TEXT, FALSE, 0, 0, release_name_refusal},
        {0},
};

static const struct field history_query[] = {
        {"limit", FIELD_NUMBER, FALSE, 1, LIMIT_HISTORY, NULL},
        {0},
};

static const struct field tree_body[] = {
        {"question", FIELD_TEXT, TRUE, 0, 0, NULL},
        {0},
};

static const struct field drift_body[] = {
        {"as_of", FIELD_NUMBER, TRUE, 0, G_MAXINT64, NULL},
        {"files", FIELD_NUMBER, TRUE, 0, DRIFT_FILES_MAX, NULL},
        {0},
};

static const struct field operations_query[] = {
        {"state", FIELD_TEXT, FALSE, 0, 0, operation_state_refusal},
        {"kind", FIELD_TEXT, FALSE, 0, 0, operation_kind_refusal},
        {"before", FIELD_TEXT, FALSE, 0, 0, operation_id_refusal},
        {"limit", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};

static const struct field doctor_query[] = {
        {"vm", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {0},
};

static const struct field plan_query[] = {
        {"vm", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {"first", FIELD_NUMBER, FALSE, 0, LIMIT_ENTRIES, NULL},
        {"count", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};

static const struct field events_query[] = {
        {"after", FIELD_NUMBER, FALSE, 0, G_MAXINT64, NULL},
        {"operation", FIELD_TEXT, FALSE, 0, 0, operation_id_refusal},
        {"vm", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {0},
};

static const struct field token_body[] = {
        {"name", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"scope", FIELD_TEXT, TRUE, 0, 0, scope_refusal},
        {"expires_s", FIELD_NUMBER, FALSE, 1, TOKEN_LIFE_MAX_S, NULL},
        {0},
};

static char *snapshot_body_refusal(JsonObject *body)
{
        if (!json_object_get_boolean_member_with_default(body, "quiesce", TRUE) &&
            json_object_get_boolean_member_with_default(body, "require_quiesce", FALSE))
                return g_strdup("\"require_quiesce\" is for snapshots with \"quiesce\"");
        return NULL;
}

static const struct field snapshot_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"name", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {"quiesce", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"require_quiesce", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"disks", FIELD_TEXTS, FALSE, 1, 64, NULL},
        {"upload", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

static const struct field snapshot_upload_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"rate", FIELD_NUMBER, FALSE, 0, G_MAXINT64, NULL},
        {0},
};

static const struct field snapshot_export_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"disk", FIELD_TEXT, FALSE, 0, 0, NULL},
        {"path", FIELD_TEXT, TRUE, 0, 0, file_path_refusal},
        {0},
};

static const struct field snapshot_rollback_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, TRUE, 0, 0, restore_point_refusal},
        {"restart", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

static const struct field snapshot_mount_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, TRUE, 0, 0, restore_point_refusal},
        {"disk", FIELD_TEXT, FALSE, 0, 0, NULL},
        {"scratch", FIELD_TEXT, FALSE, 0, 0, file_path_refusal},
        {0},
};

static const struct field snapshot_unmount_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {0},
};

static const struct field snapshot_merge_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {0},
};

static const struct field snapshot_verify_body[] = {
        {"vm", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {"deep", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"scratch", FIELD_TEXT, FALSE, 0, 0, file_path_refusal},
        {0},
};

static const struct field snapshot_remove_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"snapshot", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {0},
};

#define KEEP_FIELDS                                                                                          \
        {"keep_last", FIELD_NUMBER, FALSE, 0, SNAPSHOT_KEEP_MAX, NULL},                                      \
                {"keep_hourly", FIELD_NUMBER, FALSE, 0, SNAPSHOT_KEEP_MAX, NULL},                            \
                {"keep_daily", FIELD_NUMBER, FALSE, 0, SNAPSHOT_KEEP_MAX, NULL},                             \
                {"keep_weekly", FIELD_NUMBER, FALSE, 0, SNAPSHOT_KEEP_MAX, NULL},                            \
        {                                                                                                    \
                "keep_monthly", FIELD_NUMBER, FALSE, 0, SNAPSHOT_KEEP_MAX, NULL                              \
        }

static const struct field snapshot_prune_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        KEEP_FIELDS,
        {"dry_run", FIELD_FLAG, FALSE, 0, 0, NULL},
        {0},
};

/* Without a rule all but the newest would go. */
static char *snapshot_prune_body_refusal(JsonObject *body)
{
        const struct prune_policy policy = prune_policy_from_json(body);

        return prune_policy_is_empty(&policy)
                       ? g_strdup("say what to keep: at least one of \"keep_last\", \"keep_hourly\", "
                                  "\"keep_daily\", \"keep_weekly\", \"keep_monthly\" has to be above 0")
                       : NULL;
}

static char *snapshot_verify_body_refusal(JsonObject *body)
{
        if (json_object_has_member(body, "snapshot") && !json_object_has_member(body, "vm"))
                return g_strdup("\"snapshot\" is one of a VM's: say which VM");
        if (json_object_has_member(body, "scratch") &&
            !json_object_get_boolean_member_with_default(body, "deep", FALSE))
                return g_strdup("\"scratch\" is for what \"deep\" rebuilds");
        return NULL;
}

static const struct field schedule_body[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"every_s", FIELD_NUMBER, TRUE, SCHEDULE_EVERY_MIN_S, SCHEDULE_EVERY_MAX_S, NULL},
        {"at", FIELD_TEXT, FALSE, 0, 0, NULL},
        {"quiesce", FIELD_FLAG, FALSE, 0, 0, NULL},
        {"upload", FIELD_FLAG, FALSE, 0, 0, NULL},
        KEEP_FIELDS,
        {0},
};

static const struct field timeline_query[] = {
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"limit", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};
static const struct field snapshots_query[] = {
        {"vm", FIELD_TEXT, FALSE, 0, 0, vm_name_refusal},
        {"limit", FIELD_NUMBER, FALSE, 1, 1000, NULL},
        {0},
};

#define VM                                                                                                   \
        {                                                                                                    \
                vm_name_refusal                                                                              \
        }
#define RELEASE                                                                                              \
        {                                                                                                    \
                release_name_refusal, release_version_refusal                                                \
        }
#define ID                                                                                                   \
        {                                                                                                    \
                operation_id_refusal                                                                         \
        }

const struct api_route api_routes[] = {
        {"GET", "/v1/status", {NULL}, NULL, NULL, NULL, FALSE, api_status_get},
        {"GET", "/v1/doctor", {NULL}, doctor_query, NULL, NULL, FALSE, api_doctor_get},
        {"GET", "/metrics", {NULL}, NULL, NULL, NULL, FALSE, api_metrics_get},
        {"GET", "/v1/openapi.json", {NULL}, NULL, NULL, NULL, FALSE, api_openapi_get},
        {"GET", "/v1/fleet", {NULL}, vms_query, NULL, NULL, FALSE, api_fleet_get},
        {"GET", "/v1/vms", {NULL}, vms_query, NULL, NULL, FALSE, api_vms_list},
        {"POST", "/v1/vms", {NULL}, NULL, vm_body, vm_body_refusal, FALSE, api_vms_add},
        {"GET", "/v1/vms/{name}", VM, NULL, NULL, NULL, FALSE, api_vms_get},
        {"DELETE", "/v1/vms/{name}", VM, NULL, NULL, NULL, FALSE, api_vms_remove},
        {"POST", "/v1/vms/{name}/labels", VM, NULL, labels_body, NULL, FALSE, api_vms_labels},
        {"GET", "/v1/vms/{name}/history", VM, history_query, NULL, NULL, FALSE, api_vms_history},
        {"POST", "/v1/vms/{name}/tree", VM, NULL, tree_body, NULL, TRUE, api_vms_tree},
        {"GET", "/v1/vms/{name}/drift", VM, NULL, NULL, NULL, FALSE, api_vms_drift_get},
        {"POST", "/v1/vms/{name}/drift", VM, NULL, drift_body, NULL, FALSE, api_vms_drift_set},
        {"POST", "/v1/vms/{name}/rollback", VM, NULL, rollback_body, NULL, FALSE, api_vms_rollback},
        {"GET", "/v1/releases", {NULL}, releases_query, NULL, NULL, FALSE, api_releases_list},
        {"POST", "/v1/releases", {NULL}, NULL, release_body, NULL, FALSE, api_releases_import},
        {"GET", "/v1/releases/{name}/{version}", RELEASE, release_query, NULL, NULL, FALSE, api_releases_get},
        {"DELETE", "/v1/releases/{name}/{version}", RELEASE, NULL, NULL, NULL, FALSE, api_releases_remove},
        {"POST", "/v1/releases/{name}/{version}/verify", RELEASE, NULL, NULL, NULL, FALSE,
         api_releases_verify},
        {"POST", "/v1/store/verify", {NULL}, NULL, verify_body, NULL, FALSE, api_store_verify},
        {"POST", "/v1/store/gc", {NULL}, NULL, gc_body, gc_body_refusal, FALSE, api_store_gc},
        {"POST", "/v1/store/push", {NULL}, NULL, share_body, NULL, FALSE, api_store_push},
        {"POST", "/v1/store/pull", {NULL}, NULL, share_body, NULL, FALSE, api_store_pull},
        {"POST", "/v1/pushes", {NULL}, NULL, push_body, NULL, FALSE, api_pushes_add},
        {"POST", "/v1/rollouts", {NULL}, NULL, rollout_body, rollout_body_refusal, FALSE, api_rollouts_add},
        {"GET", "/v1/rollouts", {NULL}, rollouts_query, NULL, NULL, FALSE, api_rollouts_list},
        {"POST", "/v1/rollouts/{id}/stop", ID, NULL, NULL, NULL, FALSE, api_rollouts_stop},
        {"POST", "/v1/rollouts/{id}/resume", ID, NULL, NULL, NULL, FALSE, api_rollouts_resume},
        {"POST", "/v1/rollouts/{id}/abort", ID, NULL, abort_body, NULL, FALSE, api_rollouts_abort},
        {"GET", "/v1/operations", {NULL}, operations_query, NULL, NULL, FALSE, api_operations_list},
        {"GET", "/v1/operations/{id}", ID, NULL, NULL, NULL, FALSE, api_operations_get},
        {"POST", "/v1/operations/{id}/cancel", ID, NULL, NULL, NULL, FALSE, api_operations_cancel},
        {"GET", "/v1/operations/{id}/plan", ID, plan_query, NULL, NULL, FALSE, api_operations_plan},
        {"GET", "/v1/snapshots", {NULL}, snapshots_query, NULL, NULL, FALSE, api_snapshots_list},
        {"GET", "/v1/snapshots/schedules", {NULL}, NULL, NULL, NULL, FALSE, api_schedules_list},
        {"POST",
         "/v1/snapshots/schedules",
         {NULL},
         NULL,
         schedule_body,
         api_schedules_refusal,
         FALSE,
         api_schedules_set},
        {"DELETE", "/v1/snapshots/schedules/{name}", VM, NULL, NULL, NULL, FALSE, api_schedules_remove},
        {"GET", "/v1/snapshots/mounts", {NULL}, NULL, NULL, NULL, FALSE, api_snapshots_mounts},
        {"POST", "/v1/snapshots/mount", {NULL}, NULL, snapshot_mount_body, NULL, FALSE, api_snapshots_mount},
        {"POST",
         "/v1/snapshots/unmount",
         {NULL},
         NULL,
         snapshot_unmount_body,
         NULL,
         FALSE,
         api_snapshots_unmount},
        {"GET", "/v1/snapshots/timeline", {NULL}, timeline_query, NULL, NULL, FALSE, api_snapshots_timeline},
        {"POST",
         "/v1/snapshots",
         {NULL},
         NULL,
         snapshot_body,
         snapshot_body_refusal,
         FALSE,
         api_snapshots_add},
        {"POST",
         "/v1/snapshots/upload",
         {NULL},
         NULL,
         snapshot_upload_body,
         NULL,
         FALSE,
         api_snapshots_upload},
        {"POST",
         "/v1/snapshots/export",
         {NULL},
         NULL,
         snapshot_export_body,
         NULL,
         FALSE,
         api_snapshots_export},
        {"POST",
         "/v1/snapshots/rollback",
         {NULL},
         NULL,
         snapshot_rollback_body,
         NULL,
         FALSE,
         api_snapshots_rollback},
        {"POST",
         "/v1/snapshots/verify",
         {NULL},
         NULL,
         snapshot_verify_body,
         snapshot_verify_body_refusal,
         FALSE,
         api_snapshots_verify},
        {"POST",
         "/v1/snapshots/remove",
         {NULL},
         NULL,
         snapshot_remove_body,
         NULL,
         FALSE,
         api_snapshots_remove},
        {"POST",
         "/v1/snapshots/prune",
         {NULL},
         NULL,
         snapshot_prune_body,
         snapshot_prune_body_refusal,
         FALSE,
         api_snapshots_prune},
        {"POST", "/v1/snapshots/merge", {NULL}, NULL, snapshot_merge_body, NULL, FALSE, api_snapshots_merge},
        {"GET", "/v1/tokens", {NULL}, NULL, NULL, NULL, FALSE, api_tokens_list},
        {"POST", "/v1/tokens", {NULL}, NULL, token_body, NULL, FALSE, api_tokens_add},
        {"DELETE", "/v1/tokens/{name}", VM, NULL, NULL, NULL, FALSE, api_tokens_revoke},
        {"GET", "/v1/events", {NULL}, events_query, NULL, NULL, FALSE, api_events_get},
};
const guint api_route_count = G_N_ELEMENTS(api_routes);
