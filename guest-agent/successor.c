/* guest-agent/successor.c - when an agent whose path leads to another program gives way to it. */
#include "guest-agent/successor.h"

#include "guest-agent/push_state.h"

enum successor_when successor_rule(Moult__TransactionPhase phase, gboolean replaced, gboolean working)
{
        if (!replaced)
                return SUCCESSOR_NOT;
        if (phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE || phase == MOULT__TRANSACTION_PHASE__PHASE_NONE)
                return working ? SUCCESSOR_NOT : SUCCESSOR_NOW;
        return push_phase_is_final(phase) ? SUCCESSOR_AFTER_REST : SUCCESSOR_NOT;
}
