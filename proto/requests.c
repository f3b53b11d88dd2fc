/* proto/requests.c - requests that wait for their answers. Knows time only as numbers that it is given. */
#include "proto/requests.h"

#include "proto/legality.h"

struct request {
        guint64 handle, message_id; /* message_id 0 once it cannot be answered any more */
        Moult__Message__BodyCase body;
        gint64 deadline_us; /* G_MAXINT64: none */
        guint timeout_ms;
        struct request_call call;
        GError *failed;
};

struct Requests {
        GQueue list; /* of struct request, oldest first: a few dozen at most, searched front to back */
        guint64 last_handle;
};

static void request_free(struct request *q)
{
        g_clear_error(&q->failed);
        g_free(q);
}

static void drop(Requests *r, GList *link)
{
        request_free(link->data);
        g_queue_delete_link(&r->list, link);
}

Requests *requests_new(void)
{
        Requests *r = g_new0(Requests, 1);

        g_queue_init(&r->list);
        return r;
}

void requests_free(Requests *r)
{
        if (!r)
                return;
        g_queue_clear_full(&r->list, (GDestroyNotify)request_free);
        g_free(r);
}

static gint64 deadline(gint64 now_us, guint timeout_ms)
{
        return timeout_ms == 0 ? G_MAXINT64 : now_us + (gint64)timeout_ms * 1000;
}

guint64 requests_add(Requests *r, guint64 message_id, Moult__Message__BodyCase body, gint64 now_us,
                     guint timeout_ms, session_reply_func done, gpointer user, GError *failed)
{
        struct request *q = g_new0(struct request, 1);

        *q = (struct request){
                .handle = ++r->last_handle,
                .message_id = message_id,
                .body = body,
                .deadline_us = deadline(now_us, timeout_ms),
                .timeout_ms = timeout_ms,
                .call = {done, user},
                .failed = failed,
        };
        g_queue_push_tail(&r->list, q);
        return q->handle;
}

void requests_forget(Requests *r, guint64 handle)
{
        for (GList *l = r->list.head; l; l = l->next) {
                if (((struct request *)l->data)->handle == handle) {
                        drop(r, l);
                        return;
                }
        }
}

guint requests_waiting(const Requests *r)
{
        guint n = 0;

        for (GList *l = r->list.head; l; l = l->next)
                n += ((struct request *)l->data)->message_id != 0;
        return n;
}

/* Only judged answers are looked into: a refused one may be any nonsense. */
static GError *answer_error(const struct request *q, const Message *reply, const char *refusal)
{
        if (refusal)
                return g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                   "the other side's answer is refused: %s", refusal);
        if (!legality_answers(q->body, reply->body_case))
                return g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                   "the other side's answer (message kind %d) does not fit the request "
                                   "(kind %d)",
                                   (int)reply->body_case, (int)q->body);
        if (reply->body_case == MOULT__MESSAGE__BODY_ERROR)
                return message_error_get(reply->error);
        return NULL;
}

gboolean requests_take_answer(Requests *r, const Message *reply, const char *refusal, gint64 now_us,
                              struct request_call *ret, GError **ret_error)
{
        for (GList *l = r->list.head; l; l = l->next) {
                struct request *q = l->data;

                if (q->message_id == 0 || q->message_id != reply->reply_to)
                        continue;
                *ret = q->call;
                *ret_error = answer_error(q, reply, refusal);
                if (!*ret_error && reply->body_case == MOULT__MESSAGE__BODY_DATA && !reply->data->last)
                        q->deadline_us = deadline(now_us, q->timeout_ms); /* each part has the whole time */
                else
                        drop(r, l);
                return TRUE;
        }
        return FALSE;
}

guint64 requests_newest(const Requests *r)
{
        return r->last_handle;
}

gboolean requests_take_due(Requests *r, guint64 newest, gint64 now_us, struct request_call *ret,
                           GError **ret_error)
{
        for (GList *l = r->list.head; l; l = l->next) {
                struct request *q = l->data;

                if (q->handle > newest || (!q->failed && q->deadline_us > now_us))
                        continue;
                *ret = q->call;
                if (q->failed)
                        *ret_error = g_steal_pointer(&q->failed);
                else
                        *ret_error = g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                                 "the other side did not answer within %u ms", q->timeout_ms);
                drop(r, l);
                return TRUE;
        }
        return FALSE;
}

void requests_fail_all(Requests *r, const GError *why)
{
        for (GList *l = r->list.head; l; l = l->next) {
                struct request *q = l->data;

                q->message_id = 0;
                if (!q->failed)
                        q->failed = g_error_copy(why);
        }
}

gint64 requests_deadline_us(const Requests *r)
{
        gint64 next = G_MAXINT64;

        for (GList *l = r->list.head; l; l = l->next) {
                struct request *q = l->data;

                next = MIN(next, q->failed ? 0 : q->deadline_us);
        }
        return next;
}
