/* guest-agent/trial.c - what the daemon does at its start, up to the host's hello, changing nothing. */
#include "guest-agent/trial.h"

#include "common/error.h"
#include "guest-agent/hello.h"
#include "guest-agent/host_pin.h"
#include "guest-agent/link_port.h"
#include "guest-agent/link_tls.h"
#include "guest-agent/peers.h"

struct trial {
        GMainLoop *loop;
        gboolean met; /* a host has said hello */
};

static void on_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
        struct trial *t = user;

        if (peer_role(p) != MOULT__ROLE__ROLE_HOST)
                return;
        t->met = TRUE;
        g_main_loop_quit(t->loop);
}

static void on_lost(Peer *p, const GError *why, gpointer user)
{
}

/* The host asks how its push stands. It asks again in the next session, whose agent knows. */
static void on_message(Peer *p, const Message *m, gpointer user)
{
}

static void on_writable(Peer *p, gpointer user)
{
}

static void on_port(const Moult__Hello *hello, gpointer user)
{
}

static void on_tls(gpointer user)
{
}

static gboolean on_late(gpointer user)
{
        g_main_loop_quit(((struct trial *)user)->loop);
        return G_SOURCE_REMOVE;
}

static gboolean meet_host(const struct agent_config *config, const TlsIdentity *identity, const HostPin *pin,
                          guint within_s, GError **error)
{
        static const struct peers_events events = {on_established, on_lost, on_message, on_writable};
        struct trial t = {.loop = g_main_loop_new(NULL, FALSE)};
        g_autofree char *boot_id = agent_boot_id();
        struct session_hello hello = agent_hello(boot_id, identity);
        Peers *peers = peers_new(&hello, &events, &t);
        LinkPort *port = link_port_new(config, peers, on_port, &t);
        LinkTls *tls = link_tls_new(peers, identity, pin, config->host, on_tls, &t);
        guint late = g_timeout_add_seconds(within_s, on_late, &t);

        g_main_loop_run(t.loop);
        if (t.met)
                g_source_remove(late);
        link_port_free(port);
        link_tls_free(tls);
        peers_free(peers);
        g_main_loop_unref(t.loop);
        if (!t.met)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                            "the host did not answer its hello within %u s, and answered that of the agent "
                            "before",
                            within_s);
        return t.met;
}

/* All that the engine reads at its start. */
static gboolean read_state(const struct agent_config *config, GError **error)
{
        struct upgrade_config c = agent_config_upgrade(config);
        g_autoptr(Upgrade) u = upgrade_open_read_only(&c, NULL, error);

        return u && upgrade_read_through(u, error);
}

gboolean trial_run(const struct agent_config *config, guint hello_within_s, GError **error)
{
        g_autoptr(TlsIdentity) identity = tls_identity_load(config->tls, g_get_host_name(), error);
        g_autoptr(HostPin) pin = identity ? host_pin_load(config->tls, config->token, error) : NULL;

        return pin && read_state(config, error) &&
               (hello_within_s == 0 || meet_host(config, identity, pin, hello_within_s, error));
}
