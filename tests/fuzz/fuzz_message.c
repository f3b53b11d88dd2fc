/* tests/fuzz/fuzz_message.c - a payload through unpacking, the content gate, and back.
 *
 * Also checked: what passed the gate still does after a round trip, and can be shown to people. */
#include <stdint.h>

#include "proto/limits.h"
#include "proto/message.h"
#include "proto/refusal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(const Message *m)
{
        if (m->body_case == MOULT__MESSAGE__BODY_ERROR) {
                g_autoptr(GError) e = message_error_get(m->error);
                g_autofree char *text = message_text(m->error->text);

                g_assert(e->code >= 0 && e->code < MOULT_ERROR_MAX);
                g_assert(g_utf8_validate(e->message, -1, NULL) && g_utf8_validate(text, -1, NULL));
        }
        if (m->body_case == MOULT__MESSAGE__BODY_HELLO) {
                g_autofree char *name = message_string(m->hello->hostname);

                g_assert(g_utf8_validate(name, -1, NULL));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(GBytes) payload = NULL, again = NULL;
        g_autoptr(Message) m = NULL, second = NULL;

        if (size > LIMIT_FRAME_PAYLOAD)
                return 0;
        payload = g_bytes_new_static(data, size);
        m = message_unpack(payload, NULL);
        if (!m)
                return 0;
        show(m);
        again = message_pack(m);
        second = message_unpack(again, NULL);
        g_assert(second && second->body_case == m->body_case && second->id == m->id);
        return 0;
}
