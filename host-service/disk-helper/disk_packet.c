/* host-service/disk-helper/disk_packet.c - packets, each with at most one descriptor, over a Unix socket. */
#include "host-service/disk-helper/disk_packet.h"

#include <gio/gunixfdlist.h>
#include <gio/gunixfdmessage.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/disk-helper/disk_message.h"

gboolean disk_packet_send(GSocket *s, GBytes *packet, int fd, GCancellable *c, GError **error)
{
        GOutputVector v = {.size = 0};
        g_autoptr(GSocketControlMessage) with = NULL;
        gssize n;

        v.buffer = g_bytes_get_data(packet, &v.size);
        if (fd >= 0) {
                with = g_unix_fd_message_new();
                if (!g_unix_fd_message_append_fd(G_UNIX_FD_MESSAGE(with), fd, error))
                        return FALSE;
        }
        n = g_socket_send_message(s, NULL, &v, 1, with ? &with : NULL, with ? 1 : 0, MSG_NOSIGNAL, c, error);
        return n >= 0;
}

/* The first descriptor stays, others are closed. FALSE: there were others. */
static gboolean take_fd(GSocketControlMessage **messages, int n, int *ret_fd)
{
        int count = 0;

        for (int i = 0; i < n; i++) {
                g_autofree int *fds = NULL;
                gint k = 0;

                if (!G_IS_UNIX_FD_MESSAGE(messages[i]))
                        continue;
                fds = g_unix_fd_message_steal_fds(G_UNIX_FD_MESSAGE(messages[i]), &k);
                for (gint f = 0; f < k; f++)
                        if (count++ == 0)
                                *ret_fd = fds[f];
                        else
                                close(fds[f]);
        }
        return count <= 1;
}

GBytes *disk_packet_receive(GSocket *s, int *ret_fd, GCancellable *c, GError **error)
{
        g_autofree guint8 *bytes = g_malloc(DISK_PACKET_MAX);
        GInputVector v = {bytes, DISK_PACKET_MAX};
        GSocketControlMessage **messages = NULL;
        gint count = 0, flags = 0;
        gssize n = g_socket_receive_message(s, NULL, &v, 1, &messages, &count, &flags, c, error);
        gboolean well = TRUE;

        *ret_fd = -1;
        if (n > 0)
                well = take_fd(messages, count, ret_fd) && (flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
        for (int i = 0; i < count; i++)
                g_object_unref(messages[i]);
        g_free(messages);
        if (n <= 0)
                return NULL;
        if (well)
                return g_bytes_new_take(g_steal_pointer(&bytes), (gsize)n);
        if (*ret_fd >= 0)
                close(*ret_fd);
        *ret_fd = -1;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "a packet has more than %u bytes, or more than one descriptor", DISK_PACKET_MAX);
        return NULL;
}
