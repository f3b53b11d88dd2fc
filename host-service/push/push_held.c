/* host-service/push/push_held.c - the earlier push that a guest is busy with although it has ended here. */
#include "host-service/push/push_held.h"

#include <string.h>

#include "common/events.h"
#include "host-service/push/push_report.h"

void push_held_ask(struct push_held *h, Catalogue *c, PushTalk *talk, const char *vm)
{
        g_autoptr(PushRecord) old = catalogue_push_held(c, vm, NULL);

        if (!old)
                return;
        memcpy(h->id, old->push_id, sizeof h->id);
        h->known = h->asked = TRUE;
        push_talk_command(talk, old, MOULT__PUSH_ACTION__PUSH_ABORT);
}

void push_held_received(struct push_held *h, Catalogue *c, const Moult__TransactionState *s)
{
        g_autoptr(GError) error = NULL;

        if (!h->known || !push_phase_is_over(s->phase) || s->push_id.len != sizeof h->id ||
            memcmp(s->push_id.data, h->id, sizeof h->id) != 0)
                return;
        h->known = FALSE;
        if (!catalogue_push_let_go(c, h->id, &error)) /* the guest is asked again when it is busy again */
                event_log(EVENT_WARNING, "push-progress-lost", error->message, NULL);
}
