/* host-service/disk-helper/disk_serve.c - one connection of moultd's: who asks, what for, may it be, done. */
#include "host-service/disk-helper/disk_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "host-service/disk-helper/disk_lock.h"
#include "host-service/disk-helper/disk_message.h"
#include "host-service/disk-helper/disk_packet.h"
#include "host-service/disk-helper/disk_serve_images.h"

struct asked {
        LayerLinks links;
        enum layer_operation operation;
        int image; /* -1: none came with it */
};

static const char *const did[LAYER_OPERATIONS] = {
        [LAYER_LOOK] = NULL,
        [LAYER_NAME_TOP] = "the present top has its own name",
        [LAYER_MAKE_NEXT] = "the new top was made",
        [LAYER_PLACE_NEXT] = "the disk's path is the new top's",
        [LAYER_PLACE_TOP] = "the disk's path is the old top's again",
        [LAYER_REMOVE_NEXT] = "the new top is gone",
        [LAYER_UNNAME_TOP] = "the top has the disk's path alone",
        [LAYER_COPY_TOP] = "the top was copied",
};

static gboolean peer_is_allowed(GSocket *s, uid_t user, GError **error)
{
        g_autoptr(GCredentials) peer = g_socket_get_credentials(s, error);
        uid_t uid = peer ? g_credentials_get_unix_user(peer, NULL) : (uid_t)-1;

        if (!peer)
                return FALSE;
        if (uid == 0 || uid == user)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "moult-disks works for moultd's user (%u) and root, and not for %u", (guint)user,
                    (guint)uid);
        return FALSE;
}

/* Before anything is begun: it would fail half-way. */
static gboolean is_writable(int dir_fd, const char *dir, GError **error)
{
        struct statvfs st;

        if (fstatvfs(dir_fd, &st) != 0)
                return moult_error_errno(error, errno, "looking at the file system of %s", dir);
        if ((st.f_flag & ST_RDONLY) == 0)
                return TRUE;
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                "%s is read-only for moult-disks: 'systemctl edit moult-disks@.service', and in [Service] "
                "ReadWritePaths=%s",
                dir, dir);
        return FALSE;
}

/* Nobody waits for the answer any more: whoever comes next looks at what is there, and it must stay so. */
static gboolean is_wanted(gpointer user, GError **error)
{
        GSocket *s = user;

        if ((g_socket_condition_check(s, G_IO_HUP) & G_IO_HUP) == 0)
                return TRUE;
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_CANCELLED, "moultd has gone meanwhile");
        return FALSE;
}

/* What a new top names is named to the QEMU that is started with it, which opens it with its own rights. */
static gboolean may_be_below(const struct disk_service *service, const char *below, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(below), *name = g_path_get_basename(below);
        scoped_fd int dir_fd = disk_dirs_open(service->dirs, dir, error);
        struct stat st;

        if (dir_fd < 0)
                return FALSE;
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
                return moult_error_errno(error, errno, "looking at %s", below);
        if (S_ISREG(st.st_mode))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is no regular file: nothing can stand on it",
                    below);
        return FALSE;
}

static gboolean handle(GSocket *s, const struct disk_service *service, const struct asked *a,
                       struct layer_look *look, GError **error)
{
        LayerLinks links = a->links;
        scoped_fd int dir_fd = disk_dirs_open(service->dirs, links.dir, error), lock = -1;

        if (dir_fd < 0 || !is_writable(dir_fd, links.dir, error))
                return FALSE;
        if ((a->image >= 0) != (a->operation == LAYER_MAKE_NEXT)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "a new top is made of an image, and nothing else is");
                return FALSE;
        }
        if (a->operation == LAYER_MAKE_NEXT && links.below && !may_be_below(service, links.below, error))
                return FALSE;
        lock = disk_lock_take(service->run_dir, dir_fd, links.well_known, error);
        if (lock < 0 || !is_wanted(s, error))
                return FALSE;
        links.dir_fd = dir_fd;
        links.is_wanted = is_wanted;
        links.user = s;
        return layer_links_do(&links, a->operation, a->image, look, error);
}

static void tell(const struct asked *a, const GError *failed)
{
        const LayerLinks *l = &a->links;

        if (failed)
                event_log(EVENT_WARNING, "disk-not-changed", failed->message, "directory", l->dir, "disk",
                          l->well_known, NULL);
        else if (did[a->operation])
                event_log(EVENT_INFO, "disk-changed", did[a->operation], "directory", l->dir, "disk",
                          l->well_known, "top", l->top, "next", l->next, NULL);
}

static GBytes *answer_to(GSocket *s, const struct disk_service *service, GBytes *request, int image)
{
        g_autoptr(GError) failed = NULL;
        struct asked a = {.links = {.dir_fd = -1}, .image = image};
        struct layer_look look = {0};

        if (disk_request_read(request, &a.links, &a.operation, &failed)) {
                handle(s, service, &a, &look, &failed);
                tell(&a, failed);
        } else {
                event_log(EVENT_WARNING, "disk-request-refused", failed->message, NULL);
        }
        disk_request_clear(&a.links);
        return disk_answer_write(&look, failed);
}

void disk_serve_refuse(GSocket *s, const GError *why)
{
        g_autoptr(GBytes) answer = disk_answer_write(NULL, why);

        disk_packet_send(s, answer, -1, NULL, NULL);
}

gboolean disk_serve(GSocket *s, const struct disk_service *service, GError **error)
{
        g_autoptr(GError) why = NULL;
        gboolean open = peer_is_allowed(s, service->user, &why);

        while (open) {
                scoped_fd int image = -1;
                g_autoptr(GBytes) request = disk_packet_receive(s, &image, NULL, &why), answer = NULL;

                if (!request)
                        break;
                if (disk_request_kind(request) == DISK_REQUEST_IMAGES) {
                        disk_serve_images(s, service, request, g_steal_fd(&image), &why);
                        break;
                }
                answer = answer_to(s, service, request, image);
                open = disk_packet_send(s, answer, -1, NULL, &why);
        }
        if (!why)
                return TRUE;
        disk_serve_refuse(s, why);
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}
