/* guest-agent/command_socket.c - accepts commands: root's, a few at a time, and only if they say hello. */
#include "guest-agent/command_socket.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "proto/transport_fd.h"

#define MAX_COMMANDS   8u
#define HELLO_WITHIN_S 10u

struct CommandSocket {
        char *path;
        Peers *peers;
        int fd;
        guint source;
        GQueue open; /* struct caller */
};

struct caller {
        CommandSocket *socket;
        Peer *peer;
        guint timer; /* until it has said hello */
};

static void caller_free(struct caller *c)
{
        g_clear_handle_id(&c->timer, g_source_remove);
        g_queue_remove(&c->socket->open, c);
        g_free(c);
}

static void on_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
        struct caller *c = user;

        g_clear_handle_id(&c->timer, g_source_remove);
}

static void on_closed(Peer *p, const GError *why, gpointer user)
{
        caller_free(user);
}

static gboolean on_silent(gpointer user)
{
        struct caller *c = user;

        c->timer = 0;
        peers_remove(c->socket->peers, c->peer);
        caller_free(c);
        return G_SOURCE_REMOVE;
}

/* The mode of the socket says this too, but for a descriptor that was handed on. */
static gboolean is_allowed(int fd)
{
        struct ucred cred;
        socklen_t len = sizeof cred;

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
               (cred.uid == 0 || cred.uid == geteuid());
}

static gboolean on_connection(gint listener, GIOCondition condition, gpointer user)
{
        static const struct peer_link link = {on_established, on_closed};
        CommandSocket *s = user;
        scoped_fd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct caller *c;

        if (fd < 0)
                return G_SOURCE_CONTINUE;
        if (!is_allowed(fd) || s->open.length >= MAX_COMMANDS) {
                event_log(EVENT_WARNING, "agent-command-refused",
                          "a command was turned away: it is not root's, or too many are connected", NULL);
                return G_SOURCE_CONTINUE;
        }
        c = g_new0(struct caller, 1);
        c->socket = s;
        g_queue_push_tail(&s->open, c);
        c->timer = g_timeout_add_seconds(HELLO_WITHIN_S, on_silent, c);
        c->peer = peers_add(
                s->peers, transport_fd_new(g_steal_fd(&fd), "unix", "command", /* reopens= */ FALSE),
                MOULT__ROLE__ROLE_COMMAND, MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED, NULL, &link, c);
        return G_SOURCE_CONTINUE;
}

static gboolean listen_at(CommandSocket *s, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        g_autofree char *dir = g_path_get_dirname(s->path);
        mode_t mask;
        int r;

        if (strlen(s->path) >= sizeof address.sun_path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "command socket %s: the path is too long", s->path);
                return FALSE;
        }
        strcpy(address.sun_path, s->path);
        if (g_mkdir_with_parents(dir, 0755) < 0)
                return moult_error_errno(error, errno, "making %s for the command socket", dir);
        if (unlink(s->path) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing the old command socket %s", s->path);
        s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->fd < 0)
                return moult_error_errno(error, errno, "making the command socket");
        mask = umask(0177); /* 0600 from its birth; only the main thread makes files at this time */
        r = bind(s->fd, (struct sockaddr *)&address, sizeof address);
        umask(mask);
        if (r < 0 || listen(s->fd, (int)MAX_COMMANDS) < 0)
                return moult_error_errno(error, errno, "listening on the command socket %s", s->path);
        return TRUE;
}

CommandSocket *command_socket_new(const char *path, Peers *peers, GError **error)
{
        g_autoptr(CommandSocket) s = g_new0(CommandSocket, 1);

        s->path = g_strdup(path);
        s->peers = peers;
        s->fd = -1;
        g_queue_init(&s->open);
        if (!listen_at(s, error))
                return NULL;
        s->source = g_unix_fd_add(s->fd, G_IO_IN, on_connection, s);
        return g_steal_pointer(&s);
}

void command_socket_free(CommandSocket *s)
{
        struct caller *c;

        if (!s)
                return;
        g_clear_handle_id(&s->source, g_source_remove);
        while ((c = g_queue_peek_head(&s->open))) {
                peers_remove(s->peers, c->peer);
                caller_free(c);
        }
        if (s->fd >= 0) {
                unlink(s->path);
                close(s->fd);
        }
        g_free(s->path);
        g_free(s);
}
