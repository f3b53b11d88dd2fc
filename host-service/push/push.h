/* host-service/push/push.h - drives one push to one VM: does what push_state.h says, and keeps the catalogue
 * true.
 *
 * The record is written before the state is entered, so a killed daemon finds in the catalogue a state that
 * is either where it was or where it was about to go; both go on by asking the guest. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/guests/guests.h"
#include "host-service/jobs/jobs.h"

typedef struct Push Push;

struct push_context {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs; /* for snapshots before pushes */
        Guests *guests;
        guint patience_ms; /* how long a silent or absent guest is waited for */
        guint stall_ms;    /* how long a guest may talk without getting on */
        /* A push may begin to talk to its guest: there is a place. */
        gboolean (*has_place)(const Push *p, gpointer user);
        /* One that has its place may still be recorded as begun: nobody has said otherwise meanwhile. */
        gboolean (*may_begin)(const Push *p, gpointer user);
        void (*place_left)(gpointer user); /* one that talked does no longer, by its record */
        gpointer user;                     /* of these three */
};

/* The record's state is final. The callee frees the push. */
typedef void (*push_ended_func)(Push *p, gpointer user);

/* Takes over @record. @context must outlive the push. */
Push *push_new(const struct push_context *context, PushRecord *record, push_ended_func ended, gpointer user);
void push_free(Push *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Push, push_free)
const PushRecord *push_record(const Push *p);

/* Each of these may end the push, and so free it. */
void push_start(Push *p);
void push_cancel(Push *p);
/* The VM's session of this kind came or went. */
void push_session_changed(Push *p, GuestSessionKind kind);
/* A notice from the VM; others' push ids are passed over. */
void push_state_received(Push *p, const Moult__TransactionState *state);
/* TRUE while it takes one of the host's places: from its snapshot, if it has one, or plugging to the
 * confirmation. Waiting for a guest, taking back and taking off are free. */
gboolean push_takes_place(const Push *p);
/* What its guest stages at most: the pack's size; 0 for a rollback, a dry run and before its start. */
guint64 push_bytes(const Push *p);
/* Its guest is there, and there was no place for it. */
gboolean push_wants_place(const Push *p);
/* FALSE: it is only waited for, by its record, or not even that; nothing was said to the guest. It may be
 * freed, and its row taken up by another one later. */
gboolean push_has_begun(const Push *p);
/* It has begun, or the snapshot that it can be undone with is being taken, or was: nobody else changes what
 * the VM's disks hold. */
gboolean push_is_under_way(const Push *p);
/* There is one now; as push_start(). */
void push_take_place(Push *p);
/* TRUE from before the pack is plugged until it is known to be gone. */
gboolean push_may_map(const Push *p);
/* TRUE once the hypervisor has said that no window of ours is plugged any more. */
gboolean push_saw_unplugged(const Push *p);
