/* host-service/catalogue/pushes.h - one VM's part of an operation: its state machine, made durable. */
#pragma once

#include "host-service/catalogue/catalogue.h"
#include "proto/channel.pb-c.h"

/* In the order in which a push walks through them. Each is in the catalogue before it is entered. */
typedef enum {
        PUSH_STATE_QUEUED,
        PUSH_STATE_CONNECT, /* waiting for the guest's session */
        PUSH_STATE_PLUG,
        PUSH_STATE_OFFER,
        PUSH_STATE_PLAN,
        PUSH_STATE_STAGE,
        PUSH_STATE_COMMIT, /* from here the guest decides; the host only asks */
        PUSH_STATE_CONFIRM,
        PUSH_STATE_ABORT,  /* taking it back before the confirmation (cancelled) */
        PUSH_STATE_UNPLUG, /* `outcome` is decided and durable */
        /* final: */
        PUSH_STATE_DONE, /* committed; or planned, in a dry run; or rolled back, in a rollback operation */
        PUSH_STATE_ROLLED_BACK, /* was active, or on its way, and was taken back */
        PUSH_STATE_REFUSED,     /* by the guest; nothing was touched */
        PUSH_STATE_FAILED,
        PUSH_STATE_CANCELLED,
        PUSH_STATE_SKIPPED, /* of a rollout: there was nothing to do, or nobody to do it to; see the text */
        PUSH_STATE_MAX
} PushState;
const char *push_state_name(PushState s); /* "rolled-back" */
gboolean push_state_parse(const char *name, PushState *ret);
static inline gboolean push_state_is_final(PushState s)
{
        return s >= PUSH_STATE_DONE;
}

typedef enum {
        PUSH_TRANSPORT_AUTO,
        PUSH_TRANSPORT_IVSHMEM,
        PUSH_TRANSPORT_PMEM,
        PUSH_TRANSPORT_SERIAL,
        PUSH_TRANSPORT_TLS,
        PUSH_TRANSPORT_MAX
} PushTransport;
const char *push_transport_name(PushTransport t); /* "auto", "ivshmem", "pmem", "virtio-serial", "tls" */
/* One of the shared-memory ones was asked for. */
static inline gboolean push_transport_is_window(PushTransport t)
{
        return t == PUSH_TRANSPORT_IVSHMEM || t == PUSH_TRANSPORT_PMEM;
}
gboolean push_transport_parse(const char *name, PushTransport *ret);

struct push_options { /* the same for all VMs of an operation */
        gboolean dry_run, allow_drift, strict_window, instant;
        gboolean snapshot;        /* one is taken before it begins; no snapshot, no push */
        gboolean restart_stale;   /* units of the release that still run replaced files, after the commit */
        Moult__MergeMethod merge; /* forced for what cannot be written */
        PushTransport transport;
        Moult__SyncMode sync_mode;
        guint32 confirm_timeout_ms;
        guint32 workers;   /* 0: the agent's choice */
        gboolean rollback; /* kind "rollback": no release; generation and force count */
        gboolean force;
        guint64 rollback_generation; /* 0: the newest */
        guint8 rollback_of[16];      /* only if this push has made it; 0: whichever */
        GStrv selection;             /* U1; NULL: all */
};

typedef struct push_record {
        char *operation, *vm;
        guint8 push_id[16];
        char *release_name, *release_version; /* NULL for a rollback */
        guint8 digest[DIGEST_SIZE];           /* the release's manifest digest; zero for a rollback */
        struct push_options options;          /* selection owned */
        PushState state;
        PushState outcome; /* the final state that UNPLUG leads to; QUEUED: not decided */
        MoultError error;
        char *text; /* why; for people; or NULL */
        guint64 bytes_total, bytes_done;
        guint32 entries_total, entries_change, entries_equal, entries_blocked;
        guint32 entries_merged; /* of entries_change: through the target file system */
        guint64 generation;     /* in the guest's history; 0: none */
        int source;             /* Moult__SourceKind staging read from last */
        guint32 source_changes; /* how often it climbed down */
        guint64 staging_us, switch_us;
        guint32 delta_files, delta_unsuited, delta_failed; /* as in TransactionState */
        guint64 delta_bytes, delta_saved;
        char *delta_text; /* or NULL */
        char *plug;       /* hypervisor's name of the plugged window, so that a restart can unplug; or NULL */
        gboolean held;    /* it was offered, and the guest has not said since that it has no more of it */
        char *hook;       /* that failed, or NULL */
        char *hook_output;              /* or NULL */
        char *snapshot, *snapshot_name; /* that was taken before it, or is to be: its operation's id, which is
                                           its own; NULL: none */
        char *stale;                    /* who still runs old code: a JSON object; NULL: was not asked */
        gint64 created_us, updated_us;
        gint64 stage_started_us; /* 0: not yet */
        guint wave;              /* of a rollout; from 0 */
        gboolean held_back;      /* its rollout has not opened its wave: nobody begins it */
        gboolean begun;          /* the guest was there: it was more than waited for */
} PushRecord;
void push_record_free(PushRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PushRecord, push_record_free)

/* State queued; created_us, updated_us set here; push_id, wave and held_back are the caller's. Event
 * push.queued. */
gboolean catalogue_push_add(Catalogue *c, const PushRecord *r, GError **error);
/* One that is held back ends before it has begun. WRONG_STATE if it is not (any more). */
gboolean catalogue_push_end_held_back(Catalogue *c, const char *operation, const char *vm, PushState state,
                                      MoultError error_code, const char *text, GError **error);
PushRecord *catalogue_push_get(Catalogue *c, const char *operation, const char *vm, GError **error);
PushRecord *catalogue_push_by_id(Catalogue *c, const guint8 push_id[static 16], GError **error);
GPtrArray *catalogue_push_list(Catalogue *c, const char *operation, GError **error); /* by VM name */
GPtrArray *catalogue_push_list_vm(Catalogue *c, const char *vm, guint limit,
                                  GError **error); /* newest first */
/* Those that changed the VM, or tried to: begun, no dry runs, last heard of at or after @since_us; the one
 * that ended last is the first. */
GPtrArray *catalogue_push_list_since(Catalogue *c, const char *vm, gint64 since_us, guint limit,
                                     GError **error);
/* Those that are more than waited for, of all unfinished operations; by operation. */
GPtrArray *catalogue_push_list_begun(Catalogue *c, GError **error);
/* Writes every field that may change (all but operation, vm, push_id, release, digest, options, snapshot,
 * created, wave, held_back). A new state gives event push.STATE, else event push.progress (callers coalesce:
 * at most one in 500 ms for a push). A final state is never left: WRONG_STATE. @r->updated_us is set. */
gboolean catalogue_push_update(Catalogue *c, PushRecord *r, GError **error);
/* NULL, NULL: it has none (any more). */
gboolean catalogue_push_set_snapshot(Catalogue *c, const guint8 push_id[static 16], const char *snapshot,
                                     const char *name, GError **error);
/* The newest ended push that the guest may still hold; NOT_FOUND. */
PushRecord *catalogue_push_held(Catalogue *c, const char *vm, GError **error);
/* The guest has said that it does not. */
gboolean catalogue_push_let_go(Catalogue *c, const guint8 push_id[static 16], GError **error);
/* Ended pushes whose window may still be plugged, of all VMs. */
GPtrArray *catalogue_push_left_plugged(Catalogue *c, GError **error);
/* No window is plugged into the VM: its ended pushes have left none. */
gboolean catalogue_push_unplugged(Catalogue *c, const char *vm, GError **error);
/* TRUE if a push that is not final uses the pack with this digest. */
gboolean catalogue_push_uses_digest(Catalogue *c, const guint8 digest[static DIGEST_SIZE]);

/* The plan as the guest reported it, page by page; kept with the push, so that `plan` works after a restart
 * and without the guest. @first 0 forgets an older plan of this push. At most as many items are kept as
 * the release has entries, and 200,000; the total is always known. While a VM's plan comes in, its plans
 * before the newest 8 pushes go. */
gboolean catalogue_plan_put(Catalogue *c, const char *operation, const char *vm, const Moult__PlanPage *page,
                            GError **error);
/* Forgets about @rows items of a push's plan; when none is left, its total is 0. */
gboolean catalogue_plan_forget(Catalogue *c, const char *operation, const char *vm, gint64 rows,
                               GError **error);
typedef struct plan_item {
        guint index;
        char *path; /* printable; bad bytes escaped */
        Moult__PlanAction action;
        Moult__EntryType type;
        char *reason, *mount, *owner_package; /* or NULL */
        gboolean merged;                      /* through the target file system */
        char *merge;                          /* the place that is merged for it; or NULL */
        Moult__MergeMethod method;
        guint64 size;
} PlanItem;
void plan_item_free(PlanItem *i);
GPtrArray *catalogue_plan_list(Catalogue *c, const char *operation, const char *vm, guint first, guint count,
                               guint *ret_total, GError **error);
const char *push_merge_name(Moult__MergeMethod m); /* "auto", "overlay", ... */
gboolean push_merge_parse(const char *name, Moult__MergeMethod *ret);
const char *plan_action_name(Moult__PlanAction a); /* "equal", "create", ... */
