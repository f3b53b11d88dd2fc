/* host-service/audit_log.h - who has asked for what, with which result: a file of JSON lines that only grows.
 * docs/operation.md has the members.
 *
 * Whoever rotates it renames it: before each line is written, a file that is no longer at its path is let go,
 * and a new one is begun. A line that did not fit on the disk is left as it is; the next one begins a new
 * line.
 */
#pragma once

#include <json-glib/json-glib.h>

typedef struct AuditLog AuditLog;

/* Opens @path for appending (mode 0600 if it is new). */
AuditLog *audit_log_new(const char *path, GError **error);
void audit_log_free(AuditLog *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AuditLog, audit_log_free)
/* Takes @line. @durable: it is on the disk when this returns. NO_SPACE, IO. */
gboolean audit_log_write(AuditLog *a, JsonObject *line, gboolean durable, GError **error);
/* Why the next line could not be written; owned by the caller; NULL: nothing is known against it. */
char *audit_log_problem(AuditLog *a);
const char *audit_log_path(const AuditLog *a);
