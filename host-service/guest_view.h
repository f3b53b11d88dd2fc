/* host-service/guest_view.h - what the API may ask about living guests: the border between api/ and push/.
 *
 * host-service/push/ implements it (push/guest_desk.c); the API's tests use one of their own.
 * Everything is an event-loop call that does not block. */
#pragma once

#include <gio/gio.h>

#include "host-service/hypervisor/hypervisor.h"
#include "proto/channel.pb-c.h"

struct guest_status {
        gboolean connected;    /* a session stands now */
        const char *transport; /* "virtio-serial", "tls", or NULL; static text */
        const char
                *software; /* of the agent that has the session, or NULL; borrowed until the loop goes on */
        gboolean qmp;      /* the hypervisor's control socket answers */
        gboolean tells_facts; /* its agent knows FactsQuery */
        gboolean freezes;     /* its agent knows Freeze */
        const char *away;     /* why its hypervisor does not have it any more; NULL; borrowed */
};

/* Runs exactly once. @history is valid during the call; NULL with @error (TIMEOUT: the guest does not
 * answer). */
typedef void (*guest_history_func)(const Moult__History *history, const GError *error, gpointer user);

/* The same for any question. */
typedef void (*guest_answer_func)(const Moult__Message *answer, const GError *error, gpointer user);

/* Runs exactly once, not within the call. */
typedef void (*guest_looked_func)(gpointer user);

struct guest_view_ops {
        /* What is known by now; of the hypervisor's socket, what it last did. */
        void (*status)(gpointer self, const char *vm, struct guest_status *ret);
        /* Asks the hypervisor anew; then status() knows. */
        void (*look)(gpointer self, const char *vm, guest_looked_func done, gpointer user);
        /* What runs the VM; NULL: nothing that is known. Borrowed until the VM is removed from the catalogue.
         */
        Hypervisor *(*hypervisor)(gpointer self, const char *vm);
        /* Asks the guest itself; at most @timeout_ms. */
        void (*history)(gpointer self, const char *vm, guint count, guint timeout_ms, guest_history_func done,
                        gpointer user);
        /* Any other question, of which no push knows; copied. The answer, of a kind that answers it, has up
         * to
         * @answer_bytes. */
        void (*ask)(gpointer self, const char *vm, const Moult__Message *question, gsize answer_bytes,
                    guint timeout_ms, guest_answer_func done, gpointer user);
        /* A VM was added or removed in the catalogue: connect to it, or let it go. */
        void (*vm_changed)(gpointer self, const char *vm);
        /* A VM into which a window with this pack is plugged, or may be: then its file must not be removed.
         * Owned by the caller; NULL: none. */
        char *(*mapped_by)(gpointer self, const guint8 digest[static 32]);
        /* The operation whose push to this VM is under way: it has begun, or a snapshot is taken for it.
         * Owned by the caller; NULL: none. */
        char *(*pushed_by)(gpointer self, const char *vm);
};

struct guest_view {
        const struct guest_view_ops *ops;
        gpointer self;
};
