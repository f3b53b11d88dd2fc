/* host-service/env_real_virt_channel.c - the host's end of a virtio port that libvirt has made.
 *
 * Theory of operation: on this machine the port is a Unix socket whose path is in the domain's XML. It is
 * connected to directly: a libvirtd that is restarted does not cut it, and a guest that does not read holds
 * up nobody else. Where that cannot be (a remote libvirt, a socket that is not ours to open) libvirt carries
 * the bytes: on a connection of their own, since libvirt stops reading a connection on which one stream is
 * stuck. Two threads relay between that stream and one end of a socketpair; the other end is the transport.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/env_real_virt_private.h"
#include "host-service/hypervisor/domain_xml.h"
#include "host-service/hypervisor/libvirt_uri.h"

#define PIECE       (64 * 1024)
#define KEEPALIVE_S 5
#define KEEPALIVES  3u

/* --- libvirt carries the bytes */

typedef struct {
        gint refs; /* one for each thread */
        virConnectPtr conn;
        virStreamPtr stream;
        int fd;
} Relay;

static void relay_unref(Relay *r)
{
        if (!g_atomic_int_dec_and_test(&r->refs))
                return;
        virStreamFree(r->stream);
        virConnectClose(r->conn);
        close(r->fd);
        g_free(r);
}

static gboolean write_all(int fd, const char *data, int len)
{
        while (len > 0) {
                ssize_t n = send(fd, data, (size_t)len, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return FALSE;
                data += n;
                len -= (int)n;
        }
        return TRUE;
}

static gpointer from_guest(gpointer user)
{
        Relay *r = user;
        g_autofree char *piece = g_malloc(PIECE);
        int n;

        while ((n = virStreamRecv(r->stream, piece, PIECE)) > 0 && write_all(r->fd, piece, n))
                ;
        shutdown(r->fd, SHUT_RDWR); /* ends the other thread as well */
        relay_unref(r);
        return NULL;
}

static gpointer to_guest(gpointer user)
{
        Relay *r = user;
        g_autofree char *piece = g_malloc(PIECE);
        gboolean ok = TRUE;
        ssize_t n;

        while (ok && ((n = read(r->fd, piece, PIECE)) > 0 || (n < 0 && errno == EINTR)))
                for (ssize_t done = 0; ok && done < n;) {
                        int sent = virStreamSend(r->stream, piece + done, (size_t)(n - done));

                        ok = sent > 0;
                        done += sent;
                }
        shutdown(r->fd, SHUT_RDWR);
        virStreamAbort(r->stream); /* ends the other thread as well */
        relay_unref(r);
        return NULL;
}

static int relay_new(const char *uri, const char *domain, const char *channel, GError **error)
{
        virConnectPtr conn = virConnectOpen(uri);
        virDomainPtr d = NULL;
        virStreamPtr stream = NULL;
        int pair[2] = {-1, -1};
        Relay *r;

        if (!conn)
                g_propagate_error(error, virt_error("connecting"));
        else if ((d = virt_lookup(conn, domain, error)) && !(stream = virStreamNew(conn, 0)))
                g_propagate_error(error, virt_error("making a stream"));
        if (stream && virDomainOpenChannel(d, channel, stream, VIR_DOMAIN_CHANNEL_FORCE) < 0)
                g_propagate_error(error, virt_error("opening the channel"));
        else if (stream && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                moult_error_errno(error, errno, "making a socketpair");
        if (d)
                virDomainFree(d);
        if (pair[0] < 0) {
                if (stream)
                        virStreamFree(stream);
                if (conn)
                        virConnectClose(conn);
                return -1;
        }
        virConnectSetKeepAlive(conn, KEEPALIVE_S, KEEPALIVES);
        r = g_new0(Relay, 1);
        r->refs = 2;
        r->conn = conn;
        r->stream = stream;
        r->fd = pair[0];
        g_thread_unref(g_thread_new("virt-from-guest", from_guest, r));
        g_thread_unref(g_thread_new("virt-to-guest", to_guest, r));
        return pair[1];
}

char *virt_channel_find(virConnectPtr conn, const char *uri, const char *domain, const char *channel,
                        int *ret_fd, GError **error)
{
        virDomainPtr d = virt_lookup(conn, domain, error);
        g_autofree char *path = NULL;
        gboolean found = FALSE;
        char *xml = NULL;

        if (!d)
                return NULL;
        if (virDomainIsActive(d) != 1)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "domain %s does not run", domain);
        else if (!(xml = virDomainGetXMLDesc(d, 0)))
                g_propagate_error(error, virt_error("asking for the domain's XML"));
        virDomainFree(d);
        if (!xml)
                return NULL;
        found = domain_xml_channel(xml, channel, &path, NULL);
        free(xml);
        if (!found) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "domain %s has no channel \"%s\"; `moult vm prepare` adds it", domain, channel);
                return NULL;
        }
        if (path && libvirt_uri_is_local(uri) && access(path, R_OK | W_OK) == 0)
                return g_steal_pointer(&path);
        *ret_fd = relay_new(uri, domain, channel, error);
        return NULL;
}
