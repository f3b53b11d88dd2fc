/* host-service/guests/guests.h - the living side of the catalogue's VMs: their sessions and hypervisors.
 *
 * Theory of operation: every VM has up to two sessions, one over its virtio port (we connect to QEMU's socket
 * and keep trying) and one over TLS (the agent calls; its key is pinned, or its first Hello carries a join
 * token). Both speak the same protocol; whoever asks takes either. Every byte from a guest is hostile: it
 * passes a byte budget (metered.h), the frame and content gates (proto/), a message budget, and only then
 * somebody acts. A guest that misbehaves loses its session and waits longer for the next one; no other guest
 * notices. */
#pragma once

#include "host-service/catalogue/vms.h"
#include "host-service/guests/fetch.h"
#include "host-service/hypervisor/hypervisor.h"
#include "proto/session.h"

typedef struct Guests Guests;

typedef enum { GUEST_SESSION_SERIAL, GUEST_SESSION_TLS, GUEST_SESSION_KINDS } GuestSessionKind;

struct guests_config {
        const TlsIdentity *identity;      /* must outlive the Guests; NULL: no network */
        const char *const *tls_endpoints; /* "ADDRESS:PORT", NULL-terminated; NULL: none */
};

struct guests_events {
        void (*up)(const char *vm, GuestSessionKind kind, gpointer user);
        void (*down)(const char *vm, GuestSessionKind kind, gpointer user);
        /* A notice that no request waited for. */
        void (*state)(const char *vm, const Moult__TransactionState *state, gpointer user);
        /* Already counted by the budget. @session: to answer on. */
        void (*upgrade_request)(const char *vm, Session *session, const Message *request, gpointer user);
        /* The VM's window vanished without our doing; may be NULL. */
        void (*window_gone)(const char *vm, gpointer user);
};

/* Does not connect yet. Copies nothing of @config but the pointers. */
Guests *guests_new(const struct host_env *env, Catalogue *c, const struct guests_config *config,
                   const struct guests_events *events, gpointer user);
/* Listens on the endpoints and begins to connect to every VM of the catalogue. A listener that fails is an
 * error; the others stand. */
gboolean guests_begin(Guests *g, GError **error);
void guests_free(Guests *g);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Guests, guests_free)

/* The VM was added, removed or changed in the catalogue. */
void guests_vm_changed(Guests *g, const char *vm);

/* NULL if the VM is not known or has neither QMP socket nor libvirt. */
Hypervisor *guests_hypervisor(Guests *g, const char *vm);
/* Why the VM cannot be met at its hypervisor any more, and what to do, for people: it was migrated to another
 * host, or removed. NULL: nothing of that is known. Borrowed, as a session. */
const char *guests_away(Guests *g, const char *vm);
/* An established session of this kind, or NULL. Borrowed: valid until control returns to the loop. */
Session *guests_session(Guests *g, const char *vm, GuestSessionKind kind);
/* What the guest's agent called itself in its last hello ("moult-agent 0.1.0"): its own words. Borrowed
 * likewise; NULL: none since the start. */
const char *guests_software(Guests *g, const char *vm);

/* @s of this VM was asked for an answer of up to @bytes: they are not taken for a flood. */
void guests_expect(Guests *g, const char *vm, const Session *s, gsize bytes);

/* Blocks of this pack may be fetched by this VM until it is withdrawn. */
void guests_offer_pack(Guests *g, const char *vm, const guint8 digest[static DIGEST_SIZE],
                       const char *store_name, guint64 size_bytes);
void guests_withdraw_pack(Guests *g, const char *vm, const guint8 digest[static DIGEST_SIZE]);
