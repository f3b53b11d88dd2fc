/* guest-agent/link_port.c - finds, opens and re-opens the port. */
#include "guest-agent/link_port.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "proto/transport_fd.h"

/* Between two looks at a port that is missing or cannot be opened. */
#define RETRY_FIRST_MS        200u
#define RETRY_LONGEST_MS      5000u
#define RETRY_WITH_UEVENTS_MS 60000u
#define UNIX_PREFIX           "unix:"
#define UEVENT_BYTES          8192

struct LinkPort {
        const struct agent_config *config;
        Peers *peers;
        void (*established)(const Moult__Hello *hello, gpointer user);
        gpointer user;
        Peer *peer;           /* NULL: not open */
        guint timer, uevents; /* sources; 0 while the port is open */
        unsigned retry_ms;
        gboolean told; /* that it is missing */
};

static void look(LinkPort *l);

char *link_port_find(const char *sysfs_dir, const char *dev_dir, const char *name)
{
        g_autoptr(GDir) dir = g_dir_open(sysfs_dir, 0, NULL);
        const char *entry;

        while (dir && (entry = g_dir_read_name(dir))) {
                g_autofree char *file = g_build_filename(sysfs_dir, entry, "name", NULL);
                g_autofree char *device = g_build_filename(dev_dir, entry, NULL);
                g_autofree char *text = NULL;

                if (!g_file_get_contents(file, &text, NULL, NULL) || strcmp(g_strchomp(text), name) != 0)
                        continue;
                if (g_file_test(device, G_FILE_TEST_EXISTS))
                        return g_steal_pointer(&device);
        }
        g_autofree char *link = g_build_filename(dev_dir, "virtio-ports", name, NULL);
        return g_file_test(link, G_FILE_TEST_EXISTS) ? g_steal_pointer(&link) : NULL;
}

/* ---- waiting ---- */

static gboolean on_timer(gpointer user)
{
        LinkPort *l = user;

        l->timer = 0;
        look(l);
        return G_SOURCE_REMOVE;
}

static gboolean on_uevent(gint fd, GIOCondition condition, gpointer user)
{
        LinkPort *l = user;
        char buf[UEVENT_BYTES];
        gboolean ours = FALSE;
        ssize_t n;

        /* A lost event (ENOBUFS) may have been ours. */
        while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0 || (n < 0 && errno == ENOBUFS))
                ours |= n < 0 || memmem(buf, (size_t)n, "virtio-ports", strlen("virtio-ports")) != NULL;
        if (!ours)
                return G_SOURCE_CONTINUE;
        l->retry_ms = RETRY_FIRST_MS; /* the node may come a moment after the event */
        look(l);
        return G_SOURCE_CONTINUE;
}

static guint listen_to_uevents(LinkPort *l)
{
        struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
        int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
        GSource *source;
        guint id;

        if (fd < 0)
                return 0;
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                close(fd);
                return 0;
        }
        source = g_unix_fd_source_new(fd, G_IO_IN);
        g_source_set_callback(source, (GSourceFunc)(void (*)(void))on_uevent, l, NULL);
        id = g_source_attach(source, g_main_context_get_thread_default());
        g_source_unref(source);
        return id;
}

static void stop_waiting(LinkPort *l)
{
        g_clear_handle_id(&l->timer, g_source_remove);
        if (l->uevents) {
                GSource *source =
                        g_main_context_find_source_by_id(g_main_context_get_thread_default(), l->uevents);

                g_source_destroy(source);
                l->uevents = 0;
        }
}

static void wait_for_port(LinkPort *l)
{
        g_clear_handle_id(&l->timer, g_source_remove);
        l->timer = g_timeout_add(l->retry_ms, on_timer, l);
        l->retry_ms = MIN(2 * l->retry_ms, l->uevents ? RETRY_WITH_UEVENTS_MS : RETRY_LONGEST_MS);
}

/* ---- opening ---- */

static int connect_unix(const char *path, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        scoped_fd int fd = -1;

        if (strlen(path) >= sizeof address.sun_path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "channel unix:%s: the path is too long", path);
                return -1;
        }
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                moult_error_errno(error, errno, "connecting to %s", path);
                return -1;
        }
        return g_steal_fd(&fd);
}

static int open_device(const char *path, GError **error)
{
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                moult_error_errno(error, errno, "opening the virtio port %s", path);
        return fd;
}

static int open_channel(LinkPort *l, char **ret_path, gboolean *ret_is_device, GError **error)
{
        const char *channel = l->config->channel;

        *ret_is_device = !g_str_has_prefix(channel, UNIX_PREFIX);
        if (!*ret_is_device) {
                *ret_path = g_strdup(channel + strlen(UNIX_PREFIX));
                return connect_unix(*ret_path, error);
        }
        *ret_path = strcmp(channel, "auto") == 0
                            ? link_port_find(l->config->virtio_ports, l->config->dev, LINK_PORT_NAME)
                            : g_strdup(channel);
        if (!*ret_path) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "this machine has no virtio port " LINK_PORT_NAME
                            " yet; waiting for one (docs/hypervisor.md says how a VM gets it)");
                return -1;
        }
        return open_device(*ret_path, error);
}

static void on_established(Peer *p, const Moult__Hello *hello, gpointer user)
{
        LinkPort *l = user;

        l->established(hello, l->user);
}

static void on_closed(Peer *p, const GError *why, gpointer user)
{
        LinkPort *l = user;

        event_log(EVENT_NOTICE, "agent-port-closed", why ? why->message : "closed", NULL);
        l->peer = NULL;
        l->retry_ms = RETRY_FIRST_MS;
        wait_for_port(l);
}

static void look(LinkPort *l)
{
        static const struct peer_link link = {on_established, on_closed};
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL;
        gboolean is_device;
        Transport *transport;
        int fd;

        if (l->peer)
                return;
        fd = open_channel(l, &path, &is_device, &error);
        if (fd < 0) {
                if (!l->told)
                        event_log(EVENT_NOTICE, "agent-port-missing", error->message, NULL);
                l->told = TRUE;
                if (is_device && !l->uevents)
                        l->uevents = listen_to_uevents(l);
                wait_for_port(l);
                return;
        }
        l->told = FALSE;
        stop_waiting(l);
        transport = transport_fd_new(fd, "virtio-serial", path, /* reopens= */ is_device);
        l->peer = peers_add(l->peers, transport, MOULT__ROLE__ROLE_HOST, MOULT__SOURCE_KIND__SOURCE_SERIAL,
                            NULL, &link, l);
}

LinkPort *link_port_new(const struct agent_config *config, Peers *peers,
                        void (*established)(const Moult__Hello *hello, gpointer user), gpointer user)
{
        LinkPort *l = g_new0(LinkPort, 1);

        l->config = config;
        l->peers = peers;
        l->established = established;
        l->user = user;
        l->retry_ms = RETRY_FIRST_MS;
        if (strcmp(config->channel, "none") != 0)
                look(l);
        return l;
}

void link_port_free(LinkPort *l)
{
        if (!l)
                return;
        stop_waiting(l);
        if (l->peer)
                peers_remove(l->peers, l->peer);
        g_free(l);
}
