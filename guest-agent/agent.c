/* guest-agent/agent.c - owns the parts and passes events between them. */
#include "guest-agent/agent.h"

#include <errno.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/command_socket.h"
#include "guest-agent/host_pin.h"
#include "guest-agent/link_port.h"
#include "guest-agent/link_tls.h"
#include "guest-agent/methods.h"
#include "guest-agent/peers.h"
#include "guest-agent/push.h"
#include "proto/limits.h"

struct Agent {
        struct agent_config *config;
        struct agent_config *network; /* of the last reload, or the same as `config` */
        struct agent_events events;
        gpointer user;
        char *boot_id;
        TlsIdentity *identity;
        HostPin *pin;
        Worker *worker; /* small writes */
        Peers *peers;
        Pushes *pushes;
        TreeAnswers *tree;
        struct methods methods;
        LinkPort *port;
        LinkTls *tls;
        CommandSocket *socket;
        gboolean told_stopped;
};

/* ---- states to the hosts ---- */

static void send_state(Peer *p, Moult__TransactionState *s)
{
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = MOULT__MESSAGE__BODY_STATE;
        m.state = s;
        peer_set_dirty(p, session_queued(peer_session(p)) >= LIMIT_SEND_LOW);
        if (!peer_is_dirty(p))
                session_send(peer_session(p), &m);
}

static void notify_peer(Peer *p, gpointer user)
{
        if (peer_role(p) == MOULT__ROLE__ROLE_HOST || peer_follows(p))
                send_state(p, user);
}

static void send_present_state(Agent *a, Peer *p)
{
        Moult__TransactionState *s = pushes_state(a->pushes);

        if (s)
                notify_peer(p, s);
        push_state_free(s);
}

static void tell_stopped(Agent *a)
{
        if (!a->methods.stopping || a->told_stopped || pushes_is_switching(a->pushes))
                return;
        a->told_stopped = TRUE;
        a->events.stopped(a->user);
}

static void on_changed(gpointer user)
{
        Agent *a = user;
        Moult__TransactionState *s = pushes_state(a->pushes);

        if (s)
                peers_foreach(a->peers, notify_peer, s);
        push_state_free(s);
        tell_stopped(a);
}

/* ---- peers ---- */

static void on_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
        Agent *a = user;
        g_autofree char *software = message_string(hello->software);

        if (peer_role(p) != MOULT__ROLE__ROLE_HOST)
                return;
        event_log(EVENT_INFO, "agent-connected", "the host is connected", "over",
                  session_name(peer_session(p)), "peer", session_peer(peer_session(p)), "software", software,
                  NULL);
        send_present_state(a, p);
}

static void on_lost(Peer *p, const GError *why, gpointer user)
{
        if (peer_role(p) == MOULT__ROLE__ROLE_HOST)
                event_log(EVENT_INFO, "agent-disconnected", why ? why->message : "the host went away", "over",
                          session_name(peer_session(p)), NULL);
}

static void on_message(Peer *p, const Message *m, gpointer user)
{
        methods_dispatch(&((Agent *)user)->methods, p, m);
}

static void on_writable(Peer *p, gpointer user)
{
        if (peer_is_dirty(p))
                send_present_state(user, p);
}

/* ---- links ---- */

static void on_port_hello(const Moult__Hello *hello, gpointer user)
{
        Agent *a = user;
        g_auto(GStrv) endpoints = NULL;

        if (hello->tls_fingerprint.len != DIGEST_SIZE)
                return;
        endpoints = g_new0(char *, hello->n_endpoints + 1);
        for (size_t i = 0; i < hello->n_endpoints; i++)
                endpoints[i] = g_strndup((const char *)hello->endpoints[i].data, hello->endpoints[i].len);
        if (!host_pin_learn(a->pin, hello->tls_fingerprint.data, (const char *const *)endpoints))
                return;
        event_log(EVENT_NOTICE, "agent-host-pinned", "learned the host's network key over the virtio port",
                  NULL);
        host_pin_save(a->pin, a->worker);
        if (a->tls)
                link_tls_kick(a->tls);
}

static void on_tls_established(gpointer user)
{
        Agent *a = user;

        if (host_pin_spend_token(a->pin))
                host_pin_save(a->pin, a->worker);
}

static void on_opened(const GError *error, gpointer user)
{
        Agent *a = user;
        g_autoptr(GError) local = NULL;

        if (error) {
                a->events.failed(error, a->user);
                return;
        }
        a->socket = command_socket_new(a->config->socket, a->peers, &local);
        if (!a->socket) /* upgrades work without it */
                event_log(EVENT_ERROR, "agent-no-command-socket", local->message, NULL);
        a->port = link_port_new(a->config, a->peers, on_port_hello, a);
        a->tls = link_tls_new(a->peers, a->identity, a->pin, a->network->host, on_tls_established, a);
        a->events.ready(a->user);
}

/* ---- life ---- */

static char *read_boot_id(void)
{
        char *text = NULL;

        if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
                return g_strdup("unknown");
        return g_strchomp(text);
}

static Peers *make_peers(Agent *a)
{
        static const struct peers_events events = {on_established, on_lost, on_message, on_writable};
        static const char *const capabilities[] = {CAPABILITY_PMEM, NULL};
        struct session_hello hello = {
                .role = MOULT__ROLE__ROLE_AGENT,
                .software = "moult-agent " MOULT_VERSION,
                .boot_id = a->boot_id,
                .hostname = g_get_host_name(),
                .capabilities = capabilities,
                .tls_fingerprint = tls_identity_fingerprint(a->identity),
        };

        return peers_new(&hello, &events, a);
}

Agent *agent_new(struct agent_config *config, const struct agent_events *events, gpointer user,
                 GError **error)
{
        static const struct pushes_events pushes_events = {on_changed, on_opened};
        g_autoptr(Agent) a = g_new0(Agent, 1);

        a->config = a->network = config;
        a->events = *events;
        a->user = user;
        event_set_level((EventLevel)config->log_level);
        a->boot_id = read_boot_id();
        if (g_mkdir_with_parents(config->state, 0700) < 0 || g_mkdir_with_parents(config->tls, 0700) < 0) {
                moult_error_errno(error, errno, "making the state directory %s", config->state);
                return NULL;
        }
        a->identity = tls_identity_load(config->tls, g_get_host_name(), error);
        if (!a->identity)
                return NULL;
        a->pin = host_pin_load(config->tls, config->token, error);
        if (!a->pin)
                return NULL;
        a->worker = worker_new();
        a->peers = make_peers(a);
        a->pushes = pushes_new(config, a->peers, &pushes_events, a);
        a->tree = tree_answers_new(config->root);
        a->methods = (struct methods){a->pushes,  a->peers,
                                      a->tree,    "moult-agent " MOULT_VERSION,
                                      a->boot_id, g_get_monotonic_time(),
                                      FALSE};
        return g_steal_pointer(&a);
}

void agent_free(Agent *a)
{
        if (!a)
                return;
        pushes_free(a->pushes);
        tree_answers_free(a->tree);
        command_socket_free(a->socket);
        link_port_free(a->port);
        link_tls_free(a->tls);
        peers_free(a->peers);
        worker_free(a->worker);
        host_pin_free(a->pin);
        tls_identity_free(a->identity);
        g_free(a->boot_id);
        if (a->network != a->config)
                agent_config_free(a->network);
        agent_config_free(a->config);
        g_free(a);
}

void agent_stop(Agent *a)
{
        a->methods.stopping = TRUE;
        tell_stopped(a);
}

gboolean agent_is_working(const Agent *a)
{
        return pushes_is_working(a->pushes);
}

/* Keeps what is there if the new token is none. */
static void reload_pin(Agent *a)
{
        g_autoptr(GError) error = NULL;
        HostPin *pin = host_pin_load(a->config->tls, a->network->token, &error);

        if (!pin) {
                event_log(EVENT_ERROR, "agent-reload-failed", error->message, NULL);
                return;
        }
        host_pin_free(a->pin);
        a->pin = pin;
}

void agent_reload(Agent *a, struct agent_config *config)
{
        struct agent_config *old = a->network;
        gboolean same = g_str_equal(old->host, config->host) && g_str_equal(old->token, config->token);

        event_set_level((EventLevel)config->log_level);
        a->network = config;
        if (old != a->config)
                agent_config_free(old);
        /* A connection whose settings did not change is kept: a push may be reading from it. */
        if (a->tls && same)
                link_tls_kick(a->tls);
        if (a->tls && !same) {
                g_clear_pointer(&a->tls, link_tls_free);
                reload_pin(a);
                a->tls = link_tls_new(a->peers, a->identity, a->pin, a->network->host, on_tls_established, a);
        }
        event_log(EVENT_INFO, "agent-reloaded", "network settings and log level are the new ones", NULL);
}
