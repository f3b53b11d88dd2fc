/* guest-agent/cli/client.c - a session of role COMMAND, run until the answer is there. */
#include "guest-agent/cli/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest-agent/config.h"
#include "guest-agent/version.h"
#include "proto/session.h"
#include "proto/transport_fd.h"

#define HELLO_TIMEOUT_MS 10000u

struct Client {
        GMainContext *context;
        Session *session;
        GQueue states; /* Message */
        Message *answer;
        GError *failure; /* of the request that waits */
        GError *closed;  /* of the connection: final */
        gboolean timed_out;
};

static Message *copy_message(const Message *m, GError **error)
{
        g_autoptr(GBytes) bytes = message_pack(m);

        return message_unpack(bytes, error);
}

static void on_established(Session *s, const Moult__Hello *peer, gpointer user)
{
}

static void on_closed(Session *s, const GError *why, gpointer user)
{
        Client *c = user;

        if (!c->closed)
                c->closed = why ? g_error_copy(why)
                                : g_error_new_literal(MOULT_ERROR, MOULT_ERROR_IO,
                                                      "the daemon closed the connection");
}

static void on_message(Session *s, const Message *m, gpointer user)
{
        Client *c = user;
        gboolean is_state = m->body_case == MOULT__MESSAGE__BODY_STATE ||
                            m->body_case == MOULT__MESSAGE__BODY_FREEZE_STATE;
        Message *copy = is_state ? copy_message(m, NULL) : NULL;

        if (copy)
                g_queue_push_tail(&c->states, copy);
}

static const struct session_events events = {
        .established = on_established, .lost = on_closed, .closed = on_closed, .message = on_message};

static gboolean on_timeout(gpointer user)
{
        ((Client *)user)->timed_out = TRUE;
        return G_SOURCE_REMOVE;
}

static int connect_to(const char *path, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        g_strlcpy(address.sun_path, path, sizeof address.sun_path);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
                return g_steal_fd(&fd);
        if (errno == EACCES)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s: only root may talk to the agent",
                            path);
        else
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "the agent does not run here (%s: %s); start it with `systemctl start moult-agent`",
                        path, g_strerror(errno));
        return -1;
}

static gboolean wait_established(Client *c, GError **error)
{
        GSource *timer = g_timeout_source_new(HELLO_TIMEOUT_MS);

        g_source_set_callback(timer, on_timeout, c, NULL);
        g_source_attach(timer, c->context);
        while (!session_is_established(c->session) && !c->closed && !c->timed_out)
                g_main_context_iteration(c->context, TRUE);
        g_source_destroy(timer);
        g_source_unref(timer);
        if (session_is_established(c->session))
                return TRUE;
        if (c->closed)
                g_propagate_error(error, g_error_copy(c->closed));
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                            "the agent does not answer on its socket");
        return FALSE;
}

Client *client_connect(const struct client_options *options, GError **error)
{
        const char *path = options->socket ? options->socket : AGENT_SOCKET;
        const struct session_hello hello = {.role = MOULT__ROLE__ROLE_COMMAND,
                                            .software = agent_software(),
                                            .hostname = g_get_host_name()};
        int fd = connect_to(path, error);
        g_autoptr(Client) c = NULL;

        if (fd < 0)
                return NULL;
        c = g_new0(Client, 1);
        g_queue_init(&c->states);
        c->context = g_main_context_ref_thread_default();
        c->session = session_new(transport_fd_new(fd, "unix", path, FALSE), &hello, &events, c);
        session_start(c->session);
        return wait_established(c, error) ? g_steal_pointer(&c) : NULL;
}

void client_free(Client *c)
{
        if (!c)
                return;
        session_unref(c->session);
        g_queue_clear_full(&c->states, (GDestroyNotify)message_free);
        if (c->answer)
                message_free(c->answer);
        g_clear_error(&c->failure);
        g_clear_error(&c->closed);
        g_main_context_unref(c->context);
        g_free(c);
}

static void on_answer(Session *s, const Message *reply, const GError *error, gpointer user)
{
        Client *c = user;

        if (error)
                c->failure = g_error_copy(error);
        else
                c->answer = copy_message(reply, &c->failure);
}

Message *client_ask(Client *c, Message *request, guint timeout_ms, GError **error)
{
        session_request(c->session, request, timeout_ms, on_answer, c);
        while (!c->answer && !c->failure)
                g_main_context_iteration(c->context, TRUE);
        if (c->failure)
                g_propagate_error(error, g_steal_pointer(&c->failure));
        return g_steal_pointer(&c->answer);
}

Message *client_next_state(Client *c, GError **error)
{
        while (c->states.length == 0 && !c->closed)
                g_main_context_iteration(c->context, TRUE);
        if (c->states.length > 0)
                return g_queue_pop_head(&c->states);
        g_propagate_error(error, g_error_copy(c->closed));
        g_prefix_error(
                error,
                "the agent went away (if it restarts, it finishes what it began; see moult-agent history): ");
        return NULL;
}

int client_unreachable(const GError *error)
{
        g_printerr("moult-agent: %s\n", error->message);
        return AGENT_EXIT_UNREACHABLE;
}
