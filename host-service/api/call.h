/* host-service/api/call.h - one request on its way to its answer, and the table of routes. */
#pragma once

#include <libsoup/soup.h>

#include "host-service/api/api.h"
#include "host-service/api/caller.h"
#include "host-service/api/fields.h"
#include "host-service/catalogue/json.h"
#include "host-service/catalogue/push_options.h"

#define API_BODY_MAX   (1024u * 1024u)
#define API_PARAMS_MAX 2

struct Api {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        Releases *releases;
        const struct guest_view *guests;
        struct api_config config;
        SoupServer *server;
        struct api_connections *connections;
        struct api_streams *streams;
        struct api_tls_listener *tls; /* NULL: no network */
        struct api_guard *guard;
        gint64 started_us; /* monotonic */
        GHashTable *calls; /* struct api_call that are answered later */
};

struct api_route;
struct api_call {
        Api *api; /* NULL once the API is gone: only free */
        const struct api_route *route;
        SoupServerMessage *msg;
        struct api_caller caller;
        char *audit_id;               /* its lines in the audit log; NULL: it has none, or has all */
        char *params[API_PARAMS_MAX]; /* of the path, in order */
        GHashTable *query;            /* text -> text; never NULL */
        JsonObject *body;             /* never NULL for a POST: {} if there was none */
        guint status;                 /* 0: no answer yet */
        JsonObject *answer;
        const char *text_type; /* of @text, static; NULL: the answer is @answer */
        char *text;
        JsonObject *kept;       /* what an Idempotency-Key keeps instead: without secrets; NULL: the answer */
        gboolean token_revoked; /* connections over the network are ended */
        const char *changed_vm; /* the guests' side is told of it once the change is on record */
        gboolean later;
        gulong gone_handler;
};

struct api_route {
        const char *method, *pattern; /* "/v1/vms/{name}" */
        const char *(*param_refusal[API_PARAMS_MAX])(const char *text);
        const struct field *query, *body; /* NULL: none allowed */
        /* Pure; for rules over several members; NULL or the reason, owned by the caller. May be NULL. */
        char *(*refusal)(JsonObject *body);
        /* A POST that changes nothing here, and is one for its body only: no transaction, no key, may answer
         * later. */
        gboolean asks;
        /* Answers (call_answer), or calls call_later(), or fails. Within a POST a transaction is open. */
        gboolean (*act)(struct api_call *call, GError **error);
};

extern const struct api_route api_routes[];
extern const guint api_route_count;

/* The route of @method and @raw_path (still escaped); fills @params (owned by the caller). NULL: @ret_allow
 * is NULL if there is no such path, else the methods that it has (owned by the caller). */
const struct api_route *api_route_find(const char *method, const char *raw_path, char *params[API_PARAMS_MAX],
                                       char **ret_allow);

/* Takes @answer. */
void call_answer(struct api_call *call, guint status, JsonObject *answer);
/* An answer that is not JSON, with status 200. Takes @text; @type is static. Only in acts of GET. */
void call_answer_text(struct api_call *call, const char *type, char *text);
guint call_status_of(const GError *error);
/* {"error": {"code", "text", "hint"}} */
JsonObject *call_error_json(const GError *error);
/* The answer comes later: call_answer() or call_fail(), then call_done(), exactly once; also if the client is
 * gone. */
void call_later(struct api_call *call);
void call_fail(struct api_call *call, const GError *error);
void call_done(struct api_call *call);
void call_free(struct api_call *call);
/* Writes the answer into the message. */
void call_write(SoupServerMessage *msg, guint status, JsonObject *answer);
/* The same for the call's own answer, if it has one. */
void call_write_answer(struct api_call *call);
/* {"operation": {...}} with its pushes. */
gboolean call_answer_operation(struct api_call *call, guint status, const char *id, GError **error);

/* The acts. */
gboolean api_status_get(struct api_call *call, GError **error);
gboolean api_metrics_get(struct api_call *call, GError **error);
gboolean api_doctor_get(struct api_call *call, GError **error);
gboolean api_openapi_get(struct api_call *call, GError **error);
gboolean api_vms_list(struct api_call *call, GError **error);
gboolean api_vms_add(struct api_call *call, GError **error);
gboolean api_vms_get(struct api_call *call, GError **error);
gboolean api_vms_labels(struct api_call *call, GError **error);
gboolean api_vms_remove(struct api_call *call, GError **error);
gboolean api_vms_history(struct api_call *call, GError **error);
gboolean api_vms_drift_get(struct api_call *call, GError **error);
gboolean api_vms_drift_set(struct api_call *call, GError **error);
gboolean api_vms_tree(struct api_call *call, GError **error);
gboolean api_vms_rollback(struct api_call *call, GError **error);
gboolean api_releases_list(struct api_call *call, GError **error);
gboolean api_releases_import(struct api_call *call, GError **error);
gboolean api_releases_get(struct api_call *call, GError **error);
gboolean api_releases_verify(struct api_call *call, GError **error);
gboolean api_releases_remove(struct api_call *call, GError **error);
gboolean api_store_verify(struct api_call *call, GError **error);
gboolean api_store_push(struct api_call *call, GError **error);
gboolean api_store_pull(struct api_call *call, GError **error);
gboolean api_store_gc(struct api_call *call, GError **error);
gboolean api_pushes_add(struct api_call *call, GError **error);
gboolean api_fleet_get(struct api_call *call, GError **error);
/* With how long ago it was checked. */
JsonObject *api_drift_json(Api *api, const struct drift_record *r);
/* "KEY=VALUE,KEY=VALUE", checked, to a JSON object; NULL is none. Owned by the caller. */
char *api_labels_of_query(const char *text);
/* What a body says of how to push. */
struct push_options api_push_options(JsonObject *body);
gboolean api_rollouts_add(struct api_call *call, GError **error);
gboolean api_rollouts_list(struct api_call *call, GError **error);
gboolean api_rollouts_stop(struct api_call *call, GError **error);
gboolean api_rollouts_resume(struct api_call *call, GError **error);
gboolean api_rollouts_abort(struct api_call *call, GError **error);
/* NULL, or the reason why @body does not choose VMs in exactly one way. */
char *rollout_body_refusal(JsonObject *body);
gboolean api_operations_list(struct api_call *call, GError **error);
gboolean api_operations_get(struct api_call *call, GError **error);
gboolean api_operations_cancel(struct api_call *call, GError **error);
gboolean api_operations_plan(struct api_call *call, GError **error);
gboolean api_tokens_add(struct api_call *call, GError **error);
gboolean api_snapshots_add(struct api_call *call, GError **error);
gboolean api_snapshots_upload(struct api_call *call, GError **error);
gboolean api_snapshots_export(struct api_call *call, GError **error);
gboolean api_snapshots_rollback(struct api_call *call, GError **error);
gboolean api_snapshots_verify(struct api_call *call, GError **error);
gboolean api_snapshots_remove(struct api_call *call, GError **error);
gboolean api_snapshots_prune(struct api_call *call, GError **error);
gboolean api_snapshots_merge(struct api_call *call, GError **error);
gboolean api_schedules_list(struct api_call *call, GError **error);
gboolean api_schedules_set(struct api_call *call, GError **error);
char *api_schedules_refusal(JsonObject *body);
gboolean api_schedules_remove(struct api_call *call, GError **error);
gboolean api_snapshots_mount(struct api_call *call, GError **error);
gboolean api_snapshots_unmount(struct api_call *call, GError **error);
gboolean api_snapshots_mounts(struct api_call *call, GError **error);
gboolean api_snapshots_timeline(struct api_call *call, GError **error);
gboolean api_snapshots_list(struct api_call *call, GError **error);
gboolean api_tokens_list(struct api_call *call, GError **error);
gboolean api_tokens_revoke(struct api_call *call, GError **error);
gboolean api_events_get(struct api_call *call, GError **error);

/* Refuses with BUSY when too many operations are unfinished. */
gboolean api_check_room(Api *api, GError **error);
