/* guest-agent/push_log.c - what is logged of an operation's way. */
#include "guest-agent/push_log.h"

#include "common/error.h"
#include "common/events.h"
#include "proto/message.h"

char *push_id_text(const guint8 id[static 16])
{
        GString *s = g_string_sized_new(32);

        for (int i = 0; i < 16; i++)
                g_string_append_printf(s, "%02x", id[i]);
        return g_string_free(s, FALSE);
}

const char *push_phase_name(Moult__TransactionPhase phase)
{
        const ProtobufCEnumValue *v =
                protobuf_c_enum_descriptor_get_value(&moult__transaction_phase__descriptor, (int)phase);

        return v ? v->name : "?";
}

void push_log_phase(Operation *op, Moult__TransactionPhase phase)
{
        g_autoptr(GString) fields = g_string_new(NULL);
        g_autofree char *id = push_id_text(operation_id(op));
        Moult__TransactionState *s = operation_state(op);
        g_autofree char *text = message_string(s->text), *release = message_string(s->release);
        gboolean bad = phase == MOULT__TRANSACTION_PHASE__PHASE_FAILED ||
                       phase == MOULT__TRANSACTION_PHASE__PHASE_REFUSED ||
                       phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK;

        event_log(bad && s->error != MOULT__ERROR_CODE__ERROR_UNSPECIFIED ? EVENT_WARNING : EVENT_INFO,
                  "agent-phase", text[0] ? text : "the push has a new phase", "push", id, "phase",
                  push_phase_name(phase), "release", release, "error", moult_error_name((MoultError)s->error),
                  NULL);
        push_state_free(s);
}
