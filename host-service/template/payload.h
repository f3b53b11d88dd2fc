/* host-service/template/payload.h - what a template gets: the files of moult-agent's package, or of the
 * archive with the static agent (build-aux/package.sh makes both). */
#pragma once

#include <gio/gio.h>

struct payload_file {
        char *path;   /* absolute, clean */
        guint mode;   /* permissions */
        char *link;   /* a symbolic link's text, or NULL */
        GBytes *data; /* a regular file's bytes, or NULL: a directory or a link */
};

void payload_file_free(gpointer payload_file);

#define PAYLOAD_AGENT "/usr/sbin/moult-agent"
#define PAYLOAD_CONF  "/etc/moult/moult-agent.conf"

/* Of struct payload_file *, by path; freed with g_ptr_array_unref(). @file: moult-agent_*.deb, or a tar
 * archive in any compression. MALFORMED: it is neither, or not moult-agent's. */
GPtrArray *payload_read(const char *file, GError **error);
/* NULL if there is none. */
const struct payload_file *payload_find(const GPtrArray *payload, const char *path);
/* The newest archive of the static agent in @dir, else the newest package; NULL: NOT_FOUND. The caller frees.
 */
char *payload_find_file(const char *dir, GError **error);
