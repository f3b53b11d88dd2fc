/* host-service/disk-helper/disk_client.c - moultd's way to moult-disks.
 *
 * A connection is one process at the other side, and stays as long as the client: what is asked between the
 * switch of a VM and its going on must not wait for a process to start. If it ends before the answer, that
 * process has ended, and does nothing any more; since everything may be done twice, it is asked once more. */
#include "host-service/disk-helper/disk_client.h"

#include <gio/gunixsocketaddress.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_message.h"
#include "host-service/disk-helper/disk_packet.h"

struct DiskClient {
        char *path;
        GSocket *socket; /* NULL: not connected */
};

DiskClient *disk_client_new(const char *socket)
{
        DiskClient *c = g_new0(DiskClient, 1);

        c->path = g_strdup(socket);
        return c;
}

void disk_client_free(DiskClient *c)
{
        if (!c)
                return;
        g_clear_object(&c->socket);
        g_free(c->path);
        g_free(c);
}

static gboolean fail_to_reach(const DiskClient *c, const char *dir, const GError *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "moultd may not open or change files in %s itself, and moult-disks, which would for it, "
                    "was not "
                    "reached at %s: %s. 'systemctl enable --now moult-disks.socket' starts it; see "
                    "moult-disks(8)",
                    dir, c->path, why->message);
        return FALSE;
}

static gboolean reach(DiskClient *c, const char *dir, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(GSocket) s = NULL;
        g_autoptr(GSocketAddress) address = NULL;

        if (c->socket)
                return TRUE;
        s = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_SEQPACKET, G_SOCKET_PROTOCOL_DEFAULT, error);
        if (!s)
                return FALSE;
        address = g_unix_socket_address_new(c->path);
        if (!g_socket_connect(s, address, NULL, &why))
                return fail_to_reach(c, dir, why, error);
        c->socket = g_steal_pointer(&s);
        return TRUE;
}

/* NULL: the connection is of no use any more. */
static GBytes *ask(DiskClient *c, GBytes *request, int image, int *ret_fd, GCancellable *cancellable,
                   GError **error)
{
        GBytes *answer = NULL;

        if (disk_packet_send(c->socket, request, image, NULL, error)) {
                answer = disk_packet_receive(c->socket, ret_fd, cancellable, error);
                if (!answer && error && !*error)
                        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_IO,
                                            "it ended without an answer; 'journalctl -u \"moult-disks@*\"' "
                                            "says why");
        }
        if (!answer)
                g_clear_object(&c->socket);
        return answer;
}

gboolean disk_client_ask(DiskClient *c, const char *dir, GBytes *request, int image, struct layer_look *ret,
                         int *ret_fd, GCancellable *cancellable, GError **error)
{
        g_autoptr(GBytes) answer = NULL;
        g_autoptr(GError) why = NULL;
        scoped_fd int fd = -1;

        for (int again = 0; !answer && again < 2 && !g_cancellable_is_cancelled(cancellable); again++) {
                g_clear_error(&why);
                if (!reach(c, dir, error))
                        return FALSE;
                answer = ask(c, request, image, &fd, cancellable, &why);
        }
        if (!answer && g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (!answer) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "asking moult-disks about %s: %s", dir,
                            why->message);
                return FALSE;
        }
        if (!disk_answer_read(answer, ret, error))
                return FALSE;
        if ((ret_fd != NULL) != (fd >= 0)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "moult-disks gave an answer to another question");
                return FALSE;
        }
        if (ret_fd)
                *ret_fd = g_steal_fd(&fd);
        return TRUE;
}

GSocket *disk_client_steal(DiskClient *c)
{
        return g_steal_pointer(&c->socket);
}

gboolean disk_client_do(DiskClient *c, const LayerLinks *links, enum layer_operation operation, int image,
                        struct layer_look *ret, GCancellable *cancellable, GError **error)
{
        g_autoptr(GBytes) request = disk_request_write(links, operation);

        return disk_client_ask(c, links->dir, request, image, ret, NULL, cancellable, error);
}
