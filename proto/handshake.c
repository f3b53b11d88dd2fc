/* proto/handshake.c - the hello state machine: pure, decides what a received hello means and what to answer.
 */
#include "proto/handshake.h"

#include <string.h>

#include "proto/legality.h"

void handshake_init(Handshake *h, Moult__Role role)
{
        *h = (Handshake){.role = role};
}

void handshake_begin(Handshake *h, const guint8 nonce[static HANDSHAKE_NONCE_SIZE])
{
        handshake_init(h, h->role);
        memcpy(h->nonce, nonce, HANDSHAKE_NONCE_SIZE);
}

static gboolean names(const ProtobufCBinaryData *b, const guint8 nonce[static HANDSHAKE_NONCE_SIZE])
{
        return b->len == HANDSHAKE_NONCE_SIZE && memcmp(b->data, nonce, HANDSHAKE_NONCE_SIZE) == 0;
}

static const char *peer_refusal(const Handshake *h, const Moult__Hello *hello)
{
        if (hello->version_min > PROTOCOL_VERSION_MAX)
                return "it speaks only newer versions of the protocol: upgrade this side";
        if (hello->version_max < PROTOCOL_VERSION_MIN)
                return "it speaks only older versions of the protocol: upgrade the other side";
        if (!legality_roles_fit(h->role, hello->role))
                return "its role does not fit ours (an agent talks to a host or to the guest's own command)";
        return NULL;
}

enum handshake_verdict handshake_receive(Handshake *h, const Moult__Hello *hello, gboolean *ret_answer,
                                         const char **ret_why)
{
        gboolean same_peer = h->peer_known && names(&hello->nonce, h->peer_nonce);
        gboolean was_refused = h->refused;

        *ret_answer = FALSE;
        *ret_why = NULL;
        if (names(&hello->nonce, h->nonce)) /* our own bytes: the line echoes */
                return HANDSHAKE_IGNORE;
        if (h->established) {
                if (!same_peer)
                        return HANDSHAKE_PEER_ANEW;
                return hello->settled ? HANDSHAKE_IGNORE : HANDSHAKE_ANSWER;
        }

        memcpy(h->peer_nonce, hello->nonce.data, HANDSHAKE_NONCE_SIZE);
        h->peer_known = TRUE;
        if (!same_peer)
                h->echo_sent = FALSE;
        *ret_why = peer_refusal(h, hello);
        h->refused = *ret_why != NULL;
        if (h->refused) {
                *ret_answer = !same_peer || !was_refused;
                return HANDSHAKE_REFUSED;
        }
        if (!names(&hello->echo, h->nonce))
                return HANDSHAKE_ANSWER;

        h->established = TRUE;
        h->version = MIN(hello->version_max, PROTOCOL_VERSION_MAX);
        h->peer_role = hello->role;
        *ret_answer = !hello->settled || !h->echo_sent;
        return HANDSHAKE_ESTABLISHED;
}

guint64 handshake_first_number(const guint8 nonce[static HANDSHAKE_NONCE_SIZE])
{
        guint64 n = 0;

        for (int i = 5; i >= 0; i--)
                n = n << 8 | nonce[i];
        return n;
}

void handshake_fill(Handshake *h, Moult__Hello *ret)
{
        ret->version_min = PROTOCOL_VERSION_MIN;
        ret->version_max = PROTOCOL_VERSION_MAX;
        ret->nonce = message_blob(h->nonce, sizeof h->nonce);
        ret->role = h->role;
        ret->settled = h->established;
        if (h->peer_known) {
                ret->echo = message_blob(h->peer_nonce, sizeof h->peer_nonce);
                h->echo_sent = TRUE;
        }
}
