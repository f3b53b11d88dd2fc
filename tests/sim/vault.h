/* tests/sim/vault.h - the packs of the simulated store: made once for all seeds, also as a store shows them
 * that lies. */
#pragma once

#include <gio/gio.h>

#include "common/digest.h"

#define VAULT_RELEASES  3u
#define VAULT_PACK_SIZE 5000u

typedef enum { VAULT_HONEST, VAULT_FLIPPED, VAULT_SHORT, VAULT_MANNERS } VaultManner;

typedef struct Vault Vault;

Vault *vault_new(void);
void vault_free(Vault *v);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vault, vault_free)

const char *vault_version(guint release); /* "1.0" is release 1; 0 is what VMs begin with */
const char *vault_file(guint release);    /* the pack's name in the store */
void vault_digest(guint release, guint8 ret[static DIGEST_SIZE]); /* that names it */
guint vault_find_digest(const guint8 *digest, gsize len);         /* 0: none */
guint vault_find_file(const char *name);                          /* likewise */
/* A new descriptor, or -1. */
int vault_open(const Vault *v, guint release, VaultManner manner);
/* Whether these are the pack's bytes at @at. */
gboolean vault_is(guint release, const guint8 *bytes, gsize len, gsize at);
