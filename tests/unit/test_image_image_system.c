/* tests/unit/test_image_image_system.c - which images hold a system that can be used, by what libguestfs says
 * of them: a table of answers stands in its place. tests/vm/test_images.py has a few with the real one. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/image/image_private.h"

TestSuite(image_system, .timeout = 60);

/* What is in the image. Lists of texts, separated by spaces; of pairs: name, value, ... */
static struct inside {
        const char *roots, *type, *mountpoints; /* what the inspection finds */
        const char *filesystems;
        const char *looks_like_root, *broken; /* devices */
        const char *encrypted;                /* devices that hold LUKS */
        const char *mounted;
} inside;

static gboolean is_in(const char *list, const char *word)
{
        g_auto(GStrv) words = g_strsplit(list ? list : "", " ", -1);

        return word && g_strv_contains((const char *const *)words, word);
}

/* As libguestfs gives lists: for free(). */
static char **list_of(const char *text)
{
        g_auto(GStrv) words = g_strsplit(text ? text : "", " ", -1);
        char **list = calloc(g_strv_length(words) + 1, sizeof *list);

        for (guint i = 0; words[i]; i++)
                list[i] = strdup(words[i]);
        return list;
}

static void set_error_handler(guestfs_h *g, guestfs_error_handler_cb cb, void *opaque)
{
}

static const char *last_error(guestfs_h *g)
{
        return "it says so";
}

static char **inspect_os(guestfs_h *g)
{
        return list_of(inside.roots);
}

static char *inspect_get_type(guestfs_h *g, const char *root)
{
        return strdup(inside.type);
}

static char *inspect_get_name(guestfs_h *g, const char *root)
{
        return strdup("unknown");
}

static char **inspect_get_mountpoints(guestfs_h *g, const char *root)
{
        return list_of(inside.mountpoints);
}

static char **list_filesystems(guestfs_h *g)
{
        return list_of(inside.filesystems);
}

static char **list_devices(guestfs_h *g)
{
        return list_of("/dev/sda");
}

static char **list_partitions(guestfs_h *g)
{
        return list_of("/dev/sda1 /dev/sda2");
}

static char **lvs(guestfs_h *g)
{
        return list_of("/dev/vg/lv");
}

static char *vfs_type(guestfs_h *g, const char *device)
{
        return strdup(is_in(inside.encrypted, device) ? "crypto_LUKS" : "");
}

static int mount_ro(guestfs_h *g, const char *device, const char *point)
{
        if (is_in(inside.broken, device))
                return -1;
        inside.mounted = device;
        return 0;
}

static int umount_all(guestfs_h *g)
{
        inside.mounted = NULL;
        return 0;
}

static int is_dir_opts(guestfs_h *g, const char *path, ...)
{
        return is_in(inside.looks_like_root, inside.mounted);
}

static int exists(guestfs_h *g, const char *path)
{
        return g_str_equal(path, "/sbin/init");
}

static const struct guestfs_calls calls = {
        .set_error_handler = set_error_handler,
        .last_error = last_error,
        .inspect_os = inspect_os,
        .inspect_get_type = inspect_get_type,
        .inspect_get_distro = inspect_get_name,
        .inspect_get_product_name = inspect_get_name,
        .inspect_get_mountpoints = inspect_get_mountpoints,
        .list_filesystems = list_filesystems,
        .list_devices = list_devices,
        .list_partitions = list_partitions,
        .lvs = lvs,
        .vfs_type = vfs_type,
        .mount_ro = mount_ro,
        .umount_all = umount_all,
        .is_dir_opts = is_dir_opts,
        .exists = exists,
};

/* "POINT=DEVICE ..." of what would be mounted, in this order; or "CODE: text". Owned by the caller. */
static char *look(const struct inside *what)
{
        g_autoptr(GString) s = g_string_new(NULL);
        g_autoptr(GError) error = NULL;
        Image *i = g_new0(Image, 1);

        inside = *what;
        i->c = &calls;
        i->path = g_strdup("x.qcow2");
        i->mounts = g_ptr_array_new();
        if (image_find_system(i, &error))
                cr_expect(eq(str, i->system.type, "linux"));
        else
                g_string_printf(s, "%s: %s", moult_error_name(moult_error_code(error)), error->message);
        for (guint n = 0; n < i->mounts->len; n++) {
                struct image_mount *m = i->mounts->pdata[n];

                g_string_append_printf(s, "%s%s=%s", n ? " " : "", m->point, m->device);
                g_free(m->point);
                g_free(m->device);
                g_free(m);
        }
        g_ptr_array_unref(i->mounts);
        g_free(i->system.type);
        g_free(i->system.distro);
        g_free(i->system.product);
        g_free(i->path);
        g_free(i);
        return g_string_free(g_steal_pointer(&s), FALSE);
}

Test(image_system, file_systems_are_put_together_as_the_systems_fstab_says)
{
        g_autofree char *lvm = look(&(struct inside){
                .roots = "/dev/vg/root",
                .type = "linux",
                .mountpoints = "/var/log /dev/vg/log / /dev/vg/root /boot /dev/sda1 /var /dev/vg/var",
        });
        g_autofree char *btrfs = look(&(struct inside){
                .roots = "btrfsvol:/dev/sda2/@",
                .type = "linux",
                .mountpoints = "/ btrfsvol:/dev/sda2/@ /home btrfsvol:/dev/sda2/@home",
        });
        g_autofree char *no_fstab =
                look(&(struct inside){.roots = "/dev/sda1", .type = "linux", .mountpoints = ""});

        cr_expect(eq(str, lvm, "/=/dev/vg/root /boot=/dev/sda1 /var=/dev/vg/var /var/log=/dev/vg/log"));
        cr_expect(eq(str, btrfs, "/=btrfsvol:/dev/sda2/@ /home=btrfsvol:/dev/sda2/@home"));
        cr_expect(eq(str, no_fstab, "/=/dev/sda1"));
}

Test(image_system, a_system_of_ones_own_making_is_found_by_how_it_looks)
{
        g_autofree char *own = look(&(struct inside){
                .roots = "",
                .filesystems = "/dev/sda1 vfat /dev/sda2 swap /dev/sda3 ext4 /dev/sda4 ext4",
                .looks_like_root = "/dev/sda3",
                .broken = "/dev/sda4",
        });

        cr_expect(eq(str, own, "/=/dev/sda3"));
}

Test(image_system, what_cannot_be_used_is_refused_with_the_reason)
{
        static const struct {
                struct inside inside;
                const char *begins, *says;
        } cases[] = {
                {{.roots = "/dev/sda2", .type = "windows"}, "refused: x.qcow2", "another kind (windows)"},
                {{.roots = "/dev/sda2", .type = "freebsd"}, "refused: x.qcow2", "another kind (freebsd)"},
                {{.roots = "/dev/sda2", .type = "unknown"}, "refused: x.qcow2", "another kind (unknown)"},
                {{.roots = "/dev/sda1 /dev/sda2", .type = "linux"},
                 "refused: x.qcow2",
                 "more than one system"},
                {{.roots = "",
                  .filesystems = "/dev/sda1 ext4 /dev/sda2 ext4",
                  .looks_like_root = "/dev/sda1 /dev/sda2"},
                 "refused: x.qcow2",
                 "more than one system"},
                {{.roots = "", .filesystems = "/dev/sda1 ext4"}, "refused: x.qcow2", "no operating system"},
                {{.roots = "", .filesystems = ""}, "refused: x.qcow2", "no operating system"},
                {{.roots = "", .filesystems = "", .encrypted = "/dev/sda"}, "refused: x.qcow2", "encrypted"},
                {{.roots = "", .filesystems = "/dev/sda1 vfat", .encrypted = "/dev/sda2"},
                 "refused: x.qcow2",
                 "vm:NAME"},
                {{.roots = "", .filesystems = "", .encrypted = "/dev/vg/lv"},
                 "refused: x.qcow2",
                 "encrypted"},
                {{.roots = "", .filesystems = "/dev/sda1 vfat /dev/sda2 ext4", .broken = "/dev/sda2"},
                 "corrupt: x.qcow2",
                 "(/dev/sda2) cannot be mounted"},
        };

        for (guint n = 0; n < G_N_ELEMENTS(cases); n++) {
                g_autofree char *said = look(&cases[n].inside);

                cr_expect(g_str_has_prefix(said, cases[n].begins), "case %u: %s", n, said);
                cr_expect(ne(ptr, strstr(said, cases[n].says), NULL), "case %u: %s", n, said);
        }
}
