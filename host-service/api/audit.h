/* host-service/api/audit.h - the lines of the audit log: what was asked, and what became of it.
 *
 * Theory of operation: what changes something is written down twice: as "asked" before it is done, and as
 * "answered" before the answer is sent. The first line is on the disk before anything happens: if it cannot
 * be written (a full disk), the request is refused and nothing is done. The second one comes too late for
 * that: if it cannot be written, the event audit-not-written raises the alarm and the answer stands. An
 * "asked" without its "answered" is a request that a killed moultd was working on. */
#pragma once

#include "host-service/api/call.h"

/* TRUE: go on. */
gboolean audit_asked(struct api_call *call, GError **error);
/* Only if audit_asked() has written something. */
void audit_answered(struct api_call *call);
/* Somebody was turned away; best effort. */
void audit_denied(Api *api, const struct api_caller *caller, const char *method, const char *path,
                  guint status, const GError *why);
