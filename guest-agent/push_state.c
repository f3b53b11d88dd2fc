/* guest-agent/push_state.c - copies of TransactionState. */
#include "guest-agent/push_state.h"

#include "proto/limits.h"

gboolean push_phase_is_final(Moult__TransactionPhase phase)
{
        switch (phase) {
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTED:
        case MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK:
        case MOULT__TRANSACTION_PHASE__PHASE_REFUSED:
        case MOULT__TRANSACTION_PHASE__PHASE_FAILED:
                return TRUE;
        default:
                return FALSE;
        }
}

/* What is longer than the other side takes is cut, not sent to be refused. */
static void cut(ProtobufCBinaryData *b, size_t max)
{
        b->len = MIN(b->len, max);
}

Moult__TransactionState *push_state_copy(const Moult__TransactionState *s)
{
        size_t len = moult__transaction_state__get_packed_size(s);
        g_autofree guint8 *buf = g_malloc(MAX(len, 1));
        Moult__TransactionState *copy;

        moult__transaction_state__pack(s, buf);
        copy = moult__transaction_state__unpack(NULL, len, buf);
        g_assert(copy); /* our own bytes */
        cut(&copy->text, LIMIT_TEXT);
        cut(&copy->hook_output, LIMIT_HOOK_OUTPUT);
        cut(&copy->delta_text, LIMIT_TEXT);
        return copy;
}

void push_state_free(Moult__TransactionState *s)
{
        if (s)
                moult__transaction_state__free_unpacked(s, NULL);
}
