/* host-service/api/tree.c - POST /v1/vms/{name}/tree: questions about a guest's files, handed on as they are.
 *
 * Who captures asks many times and keeps the thread itself: each question and each answer stands for itself
 * (guest-agent/tree_look.h), so there is nothing here to be kept, taken up again, or undone. Both pass the
 * content gate (proto/refusal.h): what the API's user gives is judged like what a peer says. */
#include "host-service/api/call.h"
#include "proto/limits.h"
#include "proto/message.h"

#define TREE_TIMEOUT_MS 600000u /* one file of hundreds of GB may have to be read for it */

static void on_answer(const Moult__Message *answer, const GError *error, gpointer user)
{
        struct api_call *call = user;

        if (call->api && answer) {
                g_autoptr(GBytes) packed = message_pack(answer);
                gsize len;
                const guchar *data = g_bytes_get_data(packed, &len);
                g_autofree char *text = g_base64_encode(data, len);
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "answer", text);
                call_answer(call, SOUP_STATUS_OK, o);
        } else if (call->api) {
                call_fail(call, error);
        }
        call_done(call);
}

static gboolean is_about_files(const Message *m)
{
        return m->body_case == MOULT__MESSAGE__BODY_TREE_QUERY ||
               m->body_case == MOULT__MESSAGE__BODY_TREE_READ;
}

gboolean api_vms_tree(struct api_call *call, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(call->api->catalogue, call->params[0], error);
        const struct guest_view *g = call->api->guests;
        gsize len;

        if (!r)
                return FALSE;
        guchar *data = g_base64_decode(json_object_get_string_member(call->body, "question"), &len);
        g_autoptr(GBytes) packed = g_bytes_new_take(data, len);
        g_autoptr(Message) m = message_unpack(packed, error);
        if (!m)
                return FALSE;
        if (!is_about_files(m)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "only questions about files may be asked here: TreeQuery and TreeRead");
                return FALSE;
        }
        call_later(call);
        g->ops->ask(g->self, r->name, m, LIMIT_FRAME_PAYLOAD, TREE_TIMEOUT_MS, on_answer, call);
        return TRUE;
}
