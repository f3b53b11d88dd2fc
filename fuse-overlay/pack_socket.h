/* fuse-overlay/pack_socket.h - how moult-targetfs asks the agent for bytes of a pack: a Unix stream socket of
 * root's.
 *
 * Both ends are on one machine, so numbers are in its byte order. A request names the pack by its manifest's
 * digest; the answer is exactly the bytes, or why not. The bytes are verified by whoever asked. One request
 * at a time on each connection. */
#pragma once

#include <glib.h>

/* Beside the agent's command socket; the caller frees. */
static inline char *pack_socket_path(const char *agent_socket)
{
        g_autofree char *directory = g_path_get_dirname(agent_socket);
        return g_build_filename(directory, "pack.sock", NULL);
}

#define PACK_SOCKET_MAGIC      0x314b504du /* "MPK1" */
#define PACK_SOCKET_LENGTH_MAX (1024u * 1024u)
#define PACK_SOCKET_TEXT_MAX   1024u

struct pack_socket_request {
        guint32 magic;
        guint32 length; /* 1 to PACK_SOCKET_LENGTH_MAX */
        guint64 offset;
        guint8 manifest_digest[32];
};

struct pack_socket_answer {
        guint32 magic;
        guint32 code;   /* 0, or a MoultError */
        guint32 length; /* that of the request; of an error: of its text, at most PACK_SOCKET_TEXT_MAX */
        guint32 reserved;
};
G_STATIC_ASSERT(sizeof(struct pack_socket_request) == 48 && sizeof(struct pack_socket_answer) == 16);
