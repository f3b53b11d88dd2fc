/* host-service/push/push_closing.h - the end of a push whose outcome is decided: its window goes, and the
 * guest is asked who still runs old code.
 *
 * Both at once, and neither can change the outcome: a window that stays is taken off later, a guest that does
 * not answer leaves the question open, which the record says. */
#pragma once

#include "host-service/push/push_window.h"

typedef struct PushClosing PushClosing;

/* @session: to ask on, or NULL. What the guest says is in @r->stale when @done runs: once after
 * push_closing_begin(), perhaps before that returns, never after push_closing_free(). All must outlive it. */
PushClosing *push_closing_new(const struct host_env *env, Guests *g, PushWindow *w, PushRecord *r,
                              Session *session, void (*done)(gpointer user), gpointer user);
void push_closing_begin(PushClosing *c);
/* A session of the VM came or went: one that is gone answers no more. May run @done. */
void push_closing_session_changed(PushClosing *c);
void push_closing_free(PushClosing *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PushClosing, push_closing_free)
