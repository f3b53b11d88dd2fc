/* proto/requests.h - requests that wait for their answers. Knows time only as numbers that it is given. */
#pragma once

#include <glib.h>

#include "proto/session.h"

typedef struct Requests Requests;

Requests *requests_new(void);
/* Forgets all without a call. */
void requests_free(Requests *r);
/* @message_id 0: never sent; it fails with @failed (taken) at the next requests_take_due(). Returns the
 * handle. */
guint64 requests_add(Requests *r, guint64 message_id, Moult__Message__BodyCase body, gint64 now_us,
                     guint timeout_ms, session_reply_func done, gpointer user, GError *failed);
void requests_forget(Requests *r, guint64 handle);
guint requests_waiting(const Requests *r); /* sent ones */

struct request_call { /* what the caller has to call: done(session, reply or NULL, error, user) */
        session_reply_func done;
        gpointer user;
};
/* The request that @reply answers; FALSE if none waits for it. It stays when more parts are to come. An
 * answer that is refused (@refusal: the content gate's reason, or NULL), of the wrong kind, or an Error ends
 * it, whatever it says of more parts, with @ret_error set. */
gboolean requests_take_answer(Requests *r, const Message *reply, const char *refusal, gint64 now_us,
                              struct request_call *ret, GError **ret_error);
guint64 requests_newest(const Requests *r); /* the last handle given out */
/* The next one up to handle @newest that has failed or whose time is up; FALSE if none. */
gboolean requests_take_due(Requests *r, guint64 newest, gint64 now_us, struct request_call *ret,
                           GError **ret_error);
/* All that wait fail with a copy of @why at the next requests_take_due(). */
void requests_fail_all(Requests *r, const GError *why);
/* When requests_take_due() has to be called next; G_MAXINT64: no need. */
gint64 requests_deadline_us(const Requests *r);
