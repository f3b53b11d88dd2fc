/* host-service/hypervisor/qmp_message.h - QMP's bytes to messages: lines of bounded length, JSON of bounded
 * depth.
 *
 * Pure: bytes in, messages out. What QEMU says is judged like any peer's word: a guest that broke out of its
 * VM speaks through this socket. */
#pragma once

#include <json-glib/json-glib.h>

#define QMP_LINE_MAX (1024u * 1024u)
/* json-glib 1.6 recurses per nesting level without a bound: a line of brackets would overflow the stack. */
#define QMP_DEPTH_MAX 64u

/* Cuts a byte stream into lines. */
typedef struct QmpLines QmpLines;
QmpLines *qmp_lines_new(void);
void qmp_lines_free(QmpLines *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpLines, qmp_lines_free)
/* FALSE: a line grew beyond QMP_LINE_MAX; the stream is of no more use. */
gboolean qmp_lines_push(QmpLines *l, const char *data, gsize len, GError **error);
/* The next line without its end, or NULL when more bytes are needed. Empty lines are skipped. Free with
 * g_free(). */
char *qmp_lines_pull(QmpLines *l, gsize *ret_len);

typedef enum { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT } QmpKind;

typedef struct {
        QmpKind kind;
        guint64 id;     /* RETURN, ERROR: of the command; 0 if QEMU could not tell */
        char *name;     /* EVENT: its name; ERROR: its class */
        char *text;     /* ERROR: desc */
        JsonNode *data; /* RETURN: the value; EVENT: data object or NULL */
} QmpMessage;

/* MOULT_ERROR_MALFORMED if the line is no QMP message. */
QmpMessage *qmp_message_parse(const char *line, gsize len, GError **error);
void qmp_message_free(QmpMessage *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpMessage, qmp_message_free)

/* One command as a line, with its end. @arguments may be NULL; not taken over. @id 0: none (libvirt gives its
 * own). */
char *qmp_command_line(const char *command, JsonObject *arguments, guint64 id);

/* Members by name with their type checked: NULL / FALSE when missing or of another type (json-glib's own
 * getters abort or warn). @node may be NULL. */
JsonObject *qmp_object(JsonNode *node);
JsonArray *qmp_array(JsonNode *node);
JsonNode *qmp_member(JsonObject *o, const char *name);
const char *qmp_string(JsonObject *o, const char *name);
gboolean qmp_int(JsonObject *o, const char *name, gint64 *ret);
