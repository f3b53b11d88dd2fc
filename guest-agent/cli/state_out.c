/* guest-agent/cli/state_out.c - states for people. */
#include "guest-agent/cli/state_out.h"

#include "common/error.h"
#include "guest-agent/cli/json_out.h"
#include "proto/message.h"

char *state_out_text(const Moult__TransactionState *s)
{
        g_autofree char *phase = json_out_enum_word(&moult__transaction_phase__descriptor, (int)s->phase);
        g_autofree char *release = message_string(s->release), *text = message_string(s->text);
        GString *out = g_string_new(phase);

        if (release[0])
                g_string_append_printf(out, ": %s", release);
        if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_STAGING && s->bytes_total > 0)
                g_string_append_printf(out, ", %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes",
                                       s->bytes_done, s->bytes_total);
        if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                g_string_append_printf(out,
                                       ", rolled back in %" G_GUINT64_FORMAT " s unless the host confirms",
                                       s->confirm_left_ms / 1000);
        if (s->generation > 0)
                g_string_append_printf(out, " (generation %" G_GUINT64_FORMAT ")", s->generation);
        if (text[0])
                g_string_append_printf(out, "\n  %s", text);
        return g_string_free(out, FALSE);
}

int state_out_exit(const Moult__TransactionState *s, Moult__TransactionPhase wanted)
{
        g_autoptr(GError) error = NULL;

        if (s->phase == wanted)
                return AGENT_EXIT_OK;
        if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK)
                return AGENT_EXIT_ROLLED_BACK;
        error = g_error_new_literal(MOULT_ERROR, (int)s->error, "");
        return command_exit_status(error);
}

void state_out_json(const ProtobufCMessage *m)
{
        g_autoptr(GString) out = g_string_new(NULL);

        json_out_message(out, m);
        g_print("%s\n", out->str);
}
