/* host-service/image/image_system.c - which of the file systems in an image make up a system. */
#include <string.h>

#include "common/error.h"
#include "host-service/image/image_private.h"

static gboolean refuse(const Image *i, GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s %s", i->path, why);
        return FALSE;
}

static void add_mount(Image *i, const char *point, const char *device)
{
        struct image_mount *m = g_new0(struct image_mount, 1);

        m->point = g_strdup(point);
        m->device = g_strdup(device);
        g_ptr_array_add(i->mounts, m);
}

static gint compare_points(gconstpointer a, gconstpointer b)
{
        return strcmp((*(struct image_mount *const *)a)->point, (*(struct image_mount *const *)b)->point);
}

/* @pairs: mount point, device, ...; "/" is first, and what is mounted on another comes after it. */
static void take_mounts(Image *i, const char *root, char *const *pairs)
{
        gboolean has_root = FALSE;

        for (unsigned n = 0; pairs && pairs[n]; n += 2) {
                add_mount(i, pairs[n], pairs[n + 1]);
                has_root |= g_str_equal(pairs[n], "/");
        }
        if (!has_root)
                add_mount(i, "/", root);
        g_ptr_array_sort(i->mounts, compare_points);
}

static char *take_text(char *from_library)
{
        char *s = g_strdup(from_library && !g_str_equal(from_library, "unknown") ? from_library : "");

        free(from_library);
        return s;
}

/* libguestfs knows the usual distributions. */
static gboolean take_known(Image *i, const char *root, GError **error)
{
        char *type = i->c->inspect_get_type(image_handle(i), root);

        if (!type)
                return image_error(i, MOULT_ERROR_IO, error, "asking what kind of system it holds");
        i->system.type = take_text(type);
        if (!g_str_equal(i->system.type, "linux")) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s holds a system of another kind (%s): releases are for Linux", i->path,
                            *i->system.type ? i->system.type : "unknown");
                return FALSE;
        }
        i->system.distro = take_text(i->c->inspect_get_distro(image_handle(i), root));
        i->system.product = take_text(i->c->inspect_get_product_name(image_handle(i), root));
        char **pairs = i->c->inspect_get_mountpoints(image_handle(i), root);
        if (!pairs)
                return image_error(i, MOULT_ERROR_IO, error, "looking for the file systems");
        take_mounts(i, root, pairs);
        for (unsigned n = 0; pairs[n]; n++)
                free(pairs[n]);
        free(pairs);
        return TRUE;
}

/* A system of one's own making has no fstab, perhaps: but a way to start, and /etc. */
static gboolean looks_like_root(Image *i, const char *device, gboolean *ret_broken)
{
        gboolean yes = FALSE;

        *ret_broken = i->c->mount_ro(image_handle(i), device, "/") < 0;
        if (*ret_broken)
                return FALSE;
        if (i->c->is_dir_opts(image_handle(i), "/etc", -1) == 1)
                yes = i->c->exists(image_handle(i), "/etc/os-release") == 1 ||
                      i->c->exists(image_handle(i), "/sbin/init") == 1 ||
                      i->c->exists(image_handle(i), "/init") == 1;
        i->c->umount_all(image_handle(i));
        return yes;
}

static void free_strings(char **list)
{
        for (unsigned n = 0; list && list[n]; n++)
                free(list[n]);
        free(list);
}

/* Takes @devices over. */
static gboolean has_encrypted(Image *i, char **devices)
{
        gboolean found = FALSE;

        for (unsigned n = 0; devices && devices[n] && !found; n++) {
                char *type = i->c->vfs_type(image_handle(i), devices[n]);

                found = !g_strcmp0(type, "crypto_LUKS") || !g_strcmp0(type, "BitLocker");
                free(type);
        }
        free_strings(devices);
        return found;
}

/* libguestfs does not count it as a file system, which it is not yet. */
static gboolean is_encrypted_inside(Image *i)
{
        return has_encrypted(i, i->c->list_devices(image_handle(i))) ||
               has_encrypted(i, i->c->list_partitions(image_handle(i))) ||
               has_encrypted(i, i->c->lvs(image_handle(i)));
}

struct finding {
        const char *root, *broken; /* devices */
        gboolean several;
};

/* @pairs: device, type, ... */
static struct finding look_at_all(Image *i, char *const *pairs)
{
        struct finding f = {0};

        for (unsigned n = 0; pairs[n]; n += 2) {
                gboolean broken = FALSE;

                if (g_strcmp0(pairs[n], i->room) == 0 || g_str_equal(pairs[n + 1], "swap") ||
                    g_str_equal(pairs[n + 1], "unknown"))
                        continue;
                if (looks_like_root(i, pairs[n], &broken)) {
                        f.several |= f.root != NULL;
                        f.root = pairs[n];
                } else if (broken) {
                        f.broken = pairs[n];
                }
        }
        return f;
}

static gboolean find_unknown(Image *i, char *const *pairs, GError **error)
{
        struct finding f = look_at_all(i, pairs);

        if (f.several)
                return refuse(i, error, "holds more than one system: images of one system can be used");
        if (f.root) {
                i->system = (struct image_system){g_strdup("linux"), g_strdup(""), g_strdup("")};
                take_mounts(i, f.root, NULL);
                return TRUE;
        }
        if (f.broken) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "%s holds no system that can be read, and a file system in it (%s) cannot be "
                            "mounted: it "
                            "is damaged; repair a copy (fsck in a VM), or go back to an older image",
                            i->path, f.broken);
                return FALSE;
        }
        return refuse(i, error,
                      is_encrypted_inside(i)
                              ? "is encrypted inside: it cannot be read without its key; decrypt a copy, or "
                                "capture from a running VM with vm:NAME"
                              : "holds no operating system that is known here (if it is an image at all: a "
                                "qcow2 file must be called .qcow2, or given as qcow2:FILE)");
}

gboolean image_find_system(Image *i, GError **error)
{
        char **roots = i->c->inspect_os(image_handle(i));
        gboolean ok;

        if (!roots)
                return image_error(i, MOULT_ERROR_CORRUPT, error, "looking for a system");
        if (roots[0] && roots[1]) {
                ok = refuse(i, error, "holds more than one system: images of one system can be used");
        } else if (roots[0]) {
                ok = take_known(i, roots[0], error);
        } else {
                char **pairs = i->c->list_filesystems(image_handle(i));

                ok = pairs ? find_unknown(i, pairs, error)
                           : image_error(i, MOULT_ERROR_CORRUPT, error, "looking for file systems");
                free_strings(pairs);
        }
        free_strings(roots);
        return ok;
}
