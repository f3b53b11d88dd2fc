/* shm/pack_signature.h - the signatures of a pack: what they are over, making them, judging them. */
#pragma once

#include "shm/keys.h"
#include "shm/pack_layout.h"

/* The signature block for a pack with this header, of which manifest_digest and manifest_size are signed; one
 * signature for each key; no bytes for no keys. Errors: REFUSED (more than LIMIT_SIGNATURES keys), and of
 * signing. */
GBytes *pack_signature_make(const struct pack_header *h, SigningKey *const *keys, unsigned n_keys,
                            GError **error);

/* True if one of the trusted keys has signed this header; *ret_key_id says which. @block: the signature block
 * as it was copied from the pack. Errors: MALFORMED, UNTRUSTED (not signed, by no trusted key, or wrongly).
 */
gboolean pack_signature_verify(const struct pack_header *h, GBytes *block, const TrustStore *trust,
                               uint8_t ret_key_id[static DIGEST_SIZE], GError **error);
