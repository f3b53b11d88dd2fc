/* host-service/api/store.c - /v1/store: the store as a whole. */
#include "host-service/api/call.h"

/* The body, checked by its fields, is the operation's request. */
static gboolean start(struct api_call *call, const char *kind, GError **error)
{
        g_autofree char *text = json_object_text(json_object_ref(call->body)), *id = NULL;

        if (!api_check_room(call->api, error))
                return FALSE;
        id = jobs_add(call->api->jobs, kind, text, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

static gboolean is_shared(const struct api_call *call)
{
        return json_object_get_boolean_member_with_default(call->body, "shared", FALSE);
}

gboolean api_store_verify(struct api_call *call, GError **error)
{
        return start(call, is_shared(call) ? "store-verify-shared" : "store-verify", error);
}

gboolean api_store_gc(struct api_call *call, GError **error)
{
        return start(call, is_shared(call) ? "store-gc-shared" : "store-gc", error);
}

gboolean api_store_push(struct api_call *call, GError **error)
{
        return start(call, "store-push", error);
}

gboolean api_store_pull(struct api_call *call, GError **error)
{
        return start(call, "store-pull", error);
}
