/* host-service/disk-helper/disk_images.c - a qemu-nbd that moult-disks has started, as a process of ours. */
#include "host-service/disk-helper/disk_images.h"

#include <signal.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_client.h"
#include "host-service/disk-helper/disk_message.h"
#include "host-service/disk-helper/disk_packet.h"

/* On the connection nothing comes but its end. */
static char *wait_for_end(gpointer self, int *ret_status)
{
        scoped_fd int none = -1;
        g_autoptr(GBytes) packet = disk_packet_receive(self, &none, NULL, NULL);
        char *words = NULL;

        if (packet && disk_end_read(packet, ret_status, &words, NULL))
                return words;
        *ret_status = SIGKILL; /* as waitpid() has it: we have ended it, or moult-disks has died with it */
        return g_strdup("");
}

static void end(gpointer self)
{
        g_socket_shutdown(self, TRUE, TRUE, NULL);
}

static const struct disk_process_keeper keeper = {.wait = wait_for_end, .kill = end, .free = g_object_unref};

DiskProcess *disk_images_open(const char *helper, const struct disk_image *chain, guint n,
                              const struct disk_options *options, int listening, int *ret_socket,
                              GError **error)
{
        g_autoptr(DiskClient) c = disk_client_new(helper);
        g_autoptr(GBytes) request = disk_images_write(chain, n, options, error);
        g_autofree char *dir = request ? g_path_get_dirname(chain[0].path) : NULL;
        scoped_fd int nbd = -1;
        DiskProcess *p;

        if (!request ||
            !disk_client_ask(c, dir, request, listening, NULL, ret_socket ? &nbd : NULL, NULL, error))
                return NULL;
        p = disk_process_adopt(&keeper, disk_client_steal(c), error);
        if (p && ret_socket)
                *ret_socket = g_steal_fd(&nbd);
        return p;
}
