/* guest-agent/agent.c - owns the parts and passes events between them. */
#include "guest-agent/agent.h"

#include <errno.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/command_socket.h"
#include "guest-agent/freeze.h"
#include "guest-agent/hello.h"
#include "guest-agent/host_pin.h"
#include "guest-agent/link_port.h"
#include "guest-agent/link_tls.h"
#include "guest-agent/methods.h"
#include "guest-agent/peers.h"
#include "guest-agent/push.h"
#include "guest-agent/version.h"
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
        LookAnswers *tree, *facts; /* a question about the tree may take minutes */
        Freezes *freezes;
        struct methods methods;
        LinkPort *port;
        LinkTls *tls;
        CommandSocket *socket;
        gboolean told_stopped;
        const OwnProgram *own;
        gboolean lent; /* the links are free for a program that is tried */
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

static void take_links(Agent *a)
{
        a->port = link_port_new(a->config, a->peers, on_port_hello, a);
        a->tls = link_tls_new(a->peers, a->identity, a->pin, a->network->host, on_tls_established, a);
}

static void open_doors(Agent *a)
{
        g_autoptr(GError) error = NULL;

        a->socket = command_socket_new(a->config->socket, a->peers, &error);
        if (!a->socket) /* upgrades work without it */
                event_log(EVENT_ERROR, "agent-no-command-socket", error->message, NULL);
        take_links(a);
}

static void on_opened(const GError *error, gpointer user)
{
        Agent *a = user;

        if (error) {
                a->events.failed(error, a->user);
                return;
        }
        if (!a->methods.opening)
                open_doors(a);
        a->methods.opening = FALSE;
        a->events.ready(a->user);
}

/* ---- the program that comes after this one ---- */

struct lending {
        Agent *agent;
        gboolean with_host; /* one was connected */
        GMutex lock;        /* of done */
        GCond changed;
        gboolean done;
};

/* A virtio port has one reader, and a host that hears two agents listens to neither. */
static void lend_links(gpointer data)
{
        struct lending *l = data;
        Agent *a = l->agent;

        l->with_host = peers_stands(a->peers) != 0;
        g_clear_pointer(&a->port, link_port_free);
        g_clear_pointer(&a->tls, link_tls_free);
        a->lent = TRUE;
        g_mutex_lock(&l->lock);
        l->done = TRUE;
        g_cond_signal(&l->changed);
        g_mutex_unlock(&l->lock);
}

/* In the engine's thread. The links stay lent until its step is over. */
static gboolean try_program(int fd, gpointer user, GError **error)
{
        Agent *a = user;
        struct lending l = {.agent = a};
        GMainContext *context = peers_context(a->peers);

        g_mutex_init(&l.lock);
        g_cond_init(&l.changed);
        main_context_post(context, lend_links, &l);
        g_main_context_unref(context);
        g_mutex_lock(&l.lock);
        while (!l.done)
                g_cond_wait(&l.changed, &l.lock);
        g_mutex_unlock(&l.lock);
        g_mutex_clear(&l.lock);
        g_cond_clear(&l.changed);
        event_log(EVENT_NOTICE, "agent-trial", "the release brings a new agent: it is tried now", NULL);
        return own_program_try(a->own, fd, l.with_host, error);
}

static gboolean is_replaced(gpointer user)
{
        const Agent *a = user;

        return a->own && a->events.successor && own_program_is_replaced(a->own);
}

static void on_step_over(gboolean successor, gpointer user)
{
        Agent *a = user;

        if (successor && !a->methods.stopping) {
                a->methods.stopping = a->told_stopped = TRUE; /* nothing begins any more */
                a->events.successor(a->user);
        } else if (a->lent) {
                a->lent = FALSE;
                take_links(a);
        }
}

/* ---- freezes and upgrades keep out of each other's way ---- */

static const char *hold_back(gpointer user)
{
        return freezes_hold_back(((Agent *)user)->freezes);
}

static const char *freeze_is_busy(gpointer user)
{
        Agent *a = user;

        return pushes_must_not_freeze(a->pushes)
                       ? "an upgrade is being switched, or taken back: ask again when it is over"
                       : NULL;
}

/* ---- life ---- */

/* Where it is there already nothing is written: it may be frozen, and mkdir() would wait. */
static gboolean make_directory(const char *path, GError **error)
{
        if (g_file_test(path, G_FILE_TEST_IS_DIR) || g_mkdir_with_parents(path, 0700) == 0)
                return TRUE;
        return moult_error_errno(error, errno, "making the state directory %s", path);
}

static Peers *make_peers(Agent *a)
{
        static const struct peers_events events = {on_established, on_lost, on_message, on_writable};
        struct session_hello hello = agent_hello(a->boot_id, a->identity);

        return peers_new(&hello, &events, a);
}

static struct pushes_events make_pushes_events(Agent *a)
{
        struct pushes_events e = {on_changed, on_opened, on_step_over, is_replaced, hold_back, {0}};

        if (a->own && own_program_object(a->own, &e.own.dev, &e.own.inode)) {
                e.own.try_it = try_program;
                e.own.user = a;
        }
        return e;
}

Agent *agent_new(struct agent_config *config, const OwnProgram *own, const struct agent_events *events,
                 gpointer user, GError **error)
{
        g_autoptr(Agent) a = g_new0(Agent, 1);

        a->config = a->network = config;
        a->own = own;
        a->events = *events;
        a->user = user;
        event_set_level((EventLevel)config->log_level);
        a->boot_id = agent_boot_id();
        if (!make_directory(config->state, error) || !make_directory(config->tls, error))
                return NULL;
        a->identity = tls_identity_load(config->tls, g_get_host_name(), error);
        if (!a->identity)
                return NULL;
        a->pin = host_pin_load(config->tls, config->token, error);
        if (!a->pin)
                return NULL;
        a->worker = worker_new(1);
        a->peers = make_peers(a);
        static const struct freezes_events freezes_events = {freeze_is_busy};
        a->freezes = freezes_new(config, a->peers, &freezes_events, a);
        struct pushes_events pushes_events = make_pushes_events(a);
        a->pushes = pushes_new(config, a->peers, &pushes_events, a);
        a->tree = look_answers_new(config);
        a->facts = look_answers_new(config);
        a->methods = (struct methods){.pushes = a->pushes,
                                      .peers = a->peers,
                                      .tree = a->tree,
                                      .facts = a->facts,
                                      .freezes = a->freezes,
                                      .software = agent_software(),
                                      .boot_id = a->boot_id,
                                      .started_us = g_get_monotonic_time()};
        if (freezes_is_frozen(a->freezes)) { /* the engine waits for its files; the freeze does not wait */
                a->methods.opening = TRUE;
                open_doors(a);
        }
        return g_steal_pointer(&a);
}

void agent_free(Agent *a)
{
        if (!a)
                return;
        pushes_free(a->pushes);
        freezes_free(a->freezes);
        look_answers_free(a->tree);
        look_answers_free(a->facts);
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
        return pushes_is_working(a->pushes) || freezes_is_working(a->freezes);
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
