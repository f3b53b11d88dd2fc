/* host-service/catalogue/vms.h - the VMs that moultd knows. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct vm_record {
        char *name;       /* [A-Za-z0-9][A-Za-z0-9._-]*, at most 64 */
        char *qmp;        /* path of the QMP socket, or NULL: no hot-plug */
        char *libvirt;    /* URI of the libvirt that has it, or NULL; then neither qmp nor agent */
        char *domain;     /* its name or UUID there */
        char *agent;      /* path of the agent port's socket, or NULL: network only */
        gboolean network; /* its first contact may be over TLS, by a join token: no guard of what is pinned */
        gboolean has_pin;
        guint8 pin[DIGEST_SIZE]; /* SHA-256 of the agent's public key */
        char *token_hash;        /* SHA-256 (hex) of a join token not yet used, or NULL */
        gint64 created_us;
        gint64 last_seen_us;      /* 0: never */
        char *boot_id, *hostname; /* what the agent said last, or NULL */
        char *last_release; /* "NAME VERSION" that the guest says it runs, or NULL: none that it knows of */
        gint64 booted_us; /* when a boot id was seen for the first time that is not the one before; 0: not yet
                           */
        char *labels;     /* a JSON object, key -> text, by key; in an added record NULL is none */
} VmRecord;
#define VM_LABELS_MAX 64 /* of one VM */
void vm_record_free(VmRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmRecord, vm_record_free)

/* Event vm.added. BUSY if the name (or the agent or QMP socket, or the domain) is taken. created_us is set
 * here. */
gboolean catalogue_vm_add(Catalogue *c, const VmRecord *r, GError **error);
VmRecord *catalogue_vm_get(Catalogue *c, const char *name, GError **error);
GPtrArray *catalogue_vm_list(Catalogue *c, GError **error); /* by name */
/* Those that have every label of @labels, a JSON object (NULL or {}: all); by name. */
GPtrArray *catalogue_vm_select(Catalogue *c, const char *labels, GError **error);
/* Takes off the labels with the keys @without (NULL: none), then sets those of @labels (NULL: none); others
 * stay. Event vm.labels. REFUSED if they would be more than VM_LABELS_MAX. */
gboolean catalogue_vm_set_labels(Catalogue *c, const char *name, const char *labels,
                                 const char *const *without, GError **error);
/* Event vm.removed. BUSY while a push to it is not final, but for what a rollout holds back: that is skipped.
 * Its pushes stay as history. */
gboolean catalogue_vm_remove(Catalogue *c, const char *name, GError **error);
/* A session was established. Event vm.seen only if boot id or host name changed; last_seen always. */
gboolean catalogue_vm_seen(Catalogue *c, const char *name, const char *boot_id, const char *hostname,
                           GError **error);
/* It is seen still, or was a moment ago: last_seen only. */
gboolean catalogue_vm_touch(Catalogue *c, const char *name, GError **error);
/* @release NULL: none. Event vm.release if it is another one. */
gboolean catalogue_vm_set_release(Catalogue *c, const char *name, const char *release, GError **error);
/* Pins the agent's key (vouched for by the hypervisor's own port). Event vm.pinned if it is new or another.
 */
gboolean catalogue_vm_pin(Catalogue *c, const char *name, const guint8 fingerprint[static DIGEST_SIZE],
                          GError **error);
/* The VM with this key: NOT_FOUND if nobody has it. It may use the network however it was added: its key was
 * pinned by a join token or by the hypervisor's own port. */
VmRecord *catalogue_vm_by_pin(Catalogue *c, const guint8 fingerprint[static DIGEST_SIZE], GError **error);
/* TRUE if any network VM waits for its first contact (the TLS handshake may then accept an unknown key). */
gboolean catalogue_vm_join_pending(Catalogue *c);
/* First contact over the network: the token is spent and the key pinned in one transaction. UNTRUSTED if no
 * VM has this token. */
VmRecord *catalogue_vm_join(Catalogue *c, const char *token, const guint8 fingerprint[static DIGEST_SIZE],
                            GError **error);
