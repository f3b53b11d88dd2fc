/* host-service/catalogue/names.c - the words for states, as they stand in the catalogue and in the API. */
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/pushes.h"

static const char *const operation_states[OPERATION_STATE_MAX] = {
        [OPERATION_QUEUED] = "queued",       [OPERATION_RUNNING] = "running",
        [OPERATION_SUCCEEDED] = "succeeded", [OPERATION_FAILED] = "failed",
        [OPERATION_CANCELLED] = "cancelled", [OPERATION_PARTIAL] = "partial",
};

static const char *const push_states[PUSH_STATE_MAX] = {
        [PUSH_STATE_QUEUED] = "queued",       [PUSH_STATE_CONNECT] = "connect",
        [PUSH_STATE_PLUG] = "plug",           [PUSH_STATE_OFFER] = "offer",
        [PUSH_STATE_PLAN] = "plan",           [PUSH_STATE_STAGE] = "stage",
        [PUSH_STATE_COMMIT] = "commit",       [PUSH_STATE_CONFIRM] = "confirm",
        [PUSH_STATE_ABORT] = "abort",         [PUSH_STATE_UNPLUG] = "unplug",
        [PUSH_STATE_DONE] = "done",           [PUSH_STATE_ROLLED_BACK] = "rolled-back",
        [PUSH_STATE_REFUSED] = "refused",     [PUSH_STATE_FAILED] = "failed",
        [PUSH_STATE_CANCELLED] = "cancelled", [PUSH_STATE_SKIPPED] = "skipped",
};

static const char *const transports[PUSH_TRANSPORT_MAX] = {
        [PUSH_TRANSPORT_AUTO] = "auto", [PUSH_TRANSPORT_IVSHMEM] = "ivshmem",
        [PUSH_TRANSPORT_PMEM] = "pmem", [PUSH_TRANSPORT_SERIAL] = "virtio-serial",
        [PUSH_TRANSPORT_TLS] = "tls",
};

static const char *const plan_actions[] = {
        [MOULT__PLAN_ACTION__PLAN_EQUAL] = "equal",     [MOULT__PLAN_ACTION__PLAN_CREATE] = "create",
        [MOULT__PLAN_ACTION__PLAN_REPLACE] = "replace", [MOULT__PLAN_ACTION__PLAN_METADATA] = "metadata",
        [MOULT__PLAN_ACTION__PLAN_DELETE] = "delete",   [MOULT__PLAN_ACTION__PLAN_BLOCKED] = "blocked",
        [MOULT__PLAN_ACTION__PLAN_DRIFT] = "drift",     [MOULT__PLAN_ACTION__PLAN_KEPT] = "kept",
};

static int find(const char *const *table, int n, const char *name)
{
        for (int i = 0; i < n; i++)
                if (g_strcmp0(table[i], name) == 0)
                        return i;
        return -1;
}

const char *operation_state_name(OperationState s)
{
        g_assert(s >= 0 && s < OPERATION_STATE_MAX);
        return operation_states[s];
}

gboolean operation_state_parse(const char *name, OperationState *ret)
{
        int i = find(operation_states, OPERATION_STATE_MAX, name);

        if (i >= 0)
                *ret = (OperationState)i;
        return i >= 0;
}

const char *push_state_name(PushState s)
{
        g_assert(s >= 0 && s < PUSH_STATE_MAX);
        return push_states[s];
}

gboolean push_state_parse(const char *name, PushState *ret)
{
        int i = find(push_states, PUSH_STATE_MAX, name);

        if (i >= 0)
                *ret = (PushState)i;
        return i >= 0;
}

const char *push_transport_name(PushTransport t)
{
        g_assert(t >= 0 && t < PUSH_TRANSPORT_MAX);
        return transports[t];
}

gboolean push_transport_parse(const char *name, PushTransport *ret)
{
        int i = find(transports, PUSH_TRANSPORT_MAX, name);

        if (i >= 0)
                *ret = (PushTransport)i;
        return i >= 0;
}

static const char *const merge_methods[] = {"auto", "overlay", "bind", "union"};

const char *push_merge_name(Moult__MergeMethod m)
{
        /* The guest chose the number. */
        return (guint)m < G_N_ELEMENTS(merge_methods) ? merge_methods[m] : "unknown";
}

gboolean push_merge_parse(const char *name, Moult__MergeMethod *ret)
{
        int i = find(merge_methods, G_N_ELEMENTS(merge_methods), name);

        if (i >= 0)
                *ret = (Moult__MergeMethod)i;
        return i >= 0;
}

const char *plan_action_name(Moult__PlanAction a)
{
        /* The guest chose the number. */
        return (guint)a < G_N_ELEMENTS(plan_actions) ? plan_actions[a] : "unknown";
}
