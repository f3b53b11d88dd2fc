/* shm/pack_signature.c - the signatures of a pack: what they are over, making them, judging them. */
#include "shm/pack_signature.h"

#include <string.h>

#include "common/error.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/pack_wire.h"

#define PREFIX_SIZE      (sizeof PACK_SIGNED_PREFIX - 1)
#define SIGNED_SIZE      (PREFIX_SIZE + DIGEST_SIZE + sizeof(uint64_t))
#define SIGNATURE_MEMORY (64u * 1024u)

/* The bytes that are signed. The list's size is among them, so that nobody but who signed it makes a reader
 * fetch and hold a large one. */
static void signed_text(const struct pack_header *h, uint8_t ret[static SIGNED_SIZE])
{
        uint64_t size = GUINT64_TO_LE(h->manifest_size);

        memcpy(ret, PACK_SIGNED_PREFIX, PREFIX_SIZE);
        memcpy(ret + PREFIX_SIZE, h->manifest_digest, DIGEST_SIZE);
        memcpy(ret + PREFIX_SIZE + DIGEST_SIZE, &size, sizeof size);
}

GBytes *pack_signature_make(const struct pack_header *h, SigningKey *const *keys, unsigned n_keys,
                            GError **error)
{
        uint8_t text[SIGNED_SIZE];
        uint8_t ids[LIMIT_SIGNATURES][DIGEST_SIZE], sigs[LIMIT_SIGNATURES][KEY_SIGNATURE_SIZE];
        Moult__Signature signatures[LIMIT_SIGNATURES], *pointers[LIMIT_SIGNATURES];
        Moult__SignatureBlock block = MOULT__SIGNATURE_BLOCK__INIT;

        if (n_keys > LIMIT_SIGNATURES) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "more than %u signatures",
                            LIMIT_SIGNATURES);
                return NULL;
        }
        if (n_keys == 0)
                return g_bytes_new(NULL, 0);
        signed_text(h, text);
        for (unsigned i = 0; i < n_keys; i++) {
                signing_key_id(keys[i], ids[i]);
                if (!signing_key_sign(keys[i], text, sizeof text, sigs[i], error))
                        return NULL;
                moult__signature__init(&signatures[i]);
                signatures[i].key_id = message_blob(ids[i], DIGEST_SIZE);
                signatures[i].ed25519 = message_blob(sigs[i], KEY_SIGNATURE_SIZE);
                pointers[i] = &signatures[i];
        }
        block.n_signatures = n_keys;
        block.signatures = pointers;
        size_t len = moult__signature_block__get_packed_size(&block);
        g_autofree uint8_t *buf = g_malloc(len);
        moult__signature_block__pack(&block, buf);
        return g_bytes_new_take(g_steal_pointer(&buf), len);
}

static const char *signatures_refusal(const Moult__SignatureBlock *b)
{
        if (b->base.n_unknown_fields != 0)
                return "the signature has fields that format 1 does not know";
        if (b->n_signatures == 0 || b->n_signatures > LIMIT_SIGNATURES)
                return "there are not 1 to 8 signatures";
        for (size_t i = 0; i < b->n_signatures; i++) {
                const Moult__Signature *s = b->signatures[i];
                if (s->base.n_unknown_fields != 0)
                        return "a signature has fields that format 1 does not know";
                if (s->key_id.len != DIGEST_SIZE || s->ed25519.len != KEY_SIGNATURE_SIZE)
                        return "a signature or key id has the wrong size";
        }
        return NULL;
}

static gboolean verify_one_of(const struct pack_header *h, const TrustStore *trust,
                              const Moult__SignatureBlock *b, uint8_t ret_key_id[static DIGEST_SIZE],
                              GError **error)
{
        uint8_t text[SIGNED_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        signed_text(h, text);

        const uint8_t *wrong = NULL;
        for (size_t i = 0; i < b->n_signatures; i++) {
                const Moult__Signature *s = b->signatures[i];
                if (trust_store_verify(trust, s->key_id.data, text, sizeof text, s->ed25519.data)) {
                        memcpy(ret_key_id, s->key_id.data, DIGEST_SIZE);
                        return TRUE;
                }
                if (trust_store_has(trust, s->key_id.data))
                        wrong = s->key_id.data;
        }
        if (wrong != NULL) {
                digest_to_hex(wrong, hex);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "opening the pack: the signature of trusted key %.16s is wrong: the pack was "
                            "altered after it was signed",
                            hex);
        } else {
                digest_to_hex(b->signatures[0]->key_id.data, hex);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "opening the pack: it is signed by key %.16s, which is none of the %u trusted "
                            "here; if it should be, add its .pub file to the directory of trusted keys",
                            hex, trust_store_count(trust));
        }
        return FALSE;
}

static gboolean malformed(GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "opening the pack: %s", why);
        return FALSE;
}

gboolean pack_signature_verify(const struct pack_header *h, GBytes *block, const TrustStore *trust,
                               uint8_t ret_key_id[static DIGEST_SIZE], GError **error)
{
        gsize len;
        const void *data = g_bytes_get_data(block, &len);
        if (len == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "opening the pack: it is not signed; build it with --sign");
                return FALSE;
        }
        const char *why = pack_wire_refusal(&moult__signature_block__descriptor, data, len);
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "opening the pack: its signature: %s",
                            why);
                return FALSE;
        }
        MessageBudget budget;
        message_budget_init(&budget, SIGNATURE_MEMORY);
        Moult__SignatureBlock *b = moult__signature_block__unpack(&budget.base, len, data);
        if (b == NULL)
                return malformed(error, "the signature is not a SignatureBlock message");
        why = signatures_refusal(b);
        gboolean ok = why == NULL ? verify_one_of(h, trust, b, ret_key_id, error) : malformed(error, why);
        moult__signature_block__free_unpacked(b, message_free_allocator());
        return ok;
}
