/* host-service/catalogue/operations.h - long work with an id that outlives the daemon. */
#pragma once

#include "host-service/catalogue/catalogue.h"
#include "host-service/catalogue/operation_id.h"

typedef enum {
        OPERATION_QUEUED,
        OPERATION_RUNNING,
        /* final: */
        OPERATION_SUCCEEDED,
        OPERATION_FAILED,
        OPERATION_CANCELLED,
        OPERATION_PARTIAL, /* some VMs succeeded, some did not */
        OPERATION_STATE_MAX
} OperationState;
const char *operation_state_name(OperationState s); /* "queued" */
gboolean operation_state_parse(const char *name, OperationState *ret);
static inline gboolean operation_state_is_final(OperationState s)
{
        return s >= OPERATION_SUCCEEDED;
}

typedef struct operation_record {
        char *id;   /* 26 characters, sorts by creation (operation_id_new) */
        char *kind; /* "push", "rollout", "rollback", "release-import", "release-verify" */
        OperationState state;
        char *request;    /* JSON object: everything needed to start it again */
        char *result;     /* JSON object or NULL */
        MoultError error; /* UNSPECIFIED: none */
        char *text;       /* for people: why it failed; or NULL */
        gint64 created_us, updated_us;
        gboolean cancel_requested;
        char *guest;         /* the VM that asked for it itself; NULL: an operator */
        guint64 done, total; /* its own progress where it has no pushes (bytes); total 0: unknown */
} OperationRecord;
void operation_record_free(OperationRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OperationRecord, operation_record_free)

/* ULID: 48 bit of milliseconds, 80 bit of randomness, Crockford base 32; ascending also within one
 * millisecond. */
char *operation_id_new(Catalogue *c);

/* Row in state queued, event operation.queued. */
gboolean catalogue_operation_add(Catalogue *c, const char *id, const char *kind, const char *request,
                                 GError **error);
/* The same, asked for by VM @guest itself. */
gboolean catalogue_operation_add_for(Catalogue *c, const char *id, const char *kind, const char *request,
                                     const char *guest, GError **error);
OperationRecord *catalogue_operation_get(Catalogue *c, const char *id, GError **error);
struct operation_filter {
        int state;          /* OperationState or -1 */
        const char *kind;   /* or NULL */
        const char *before; /* id or NULL: only older ones */
        guint limit;        /* 0: 100 */
};
GPtrArray *catalogue_operation_list(Catalogue *c, const struct operation_filter *f,
                                    GError **error);                     /* newest first */
GPtrArray *catalogue_operation_unfinished(Catalogue *c, GError **error); /* oldest first */
/* How many are not final: that VM @guest asked for, or, if NULL, that operators did. -1 on error. */
gint64 catalogue_operation_count_open(Catalogue *c, const char *guest);
/* Event operation.STATE. A final state is never left: WRONG_STATE. @why NULL: no error. */
gboolean catalogue_operation_set_state(Catalogue *c, const char *id, OperationState state, const char *result,
                                       const GError *why, GError **error);
gboolean catalogue_operation_progress(Catalogue *c, const char *id, guint64 done, guint64 total,
                                      GError **error);
/* Event operation.cancel-requested. */
gboolean catalogue_operation_request_cancel(Catalogue *c, const char *id, GError **error);
