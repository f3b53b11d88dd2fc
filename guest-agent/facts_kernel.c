/* guest-agent/facts_kernel.c - what the kernel can, as far as it tells without being made to load anything,
 * and what guards it. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/fd.h"
#include "fuse-overlay/mount_api.h"
#include "guest-agent/facts.h"
#include "proto/limits.h"

#define TEXT_MAX (8u * 1024 * 1024) /* modules.dep of a distribution's kernel has some 500 KiB */

/* NULL if it cannot be read. The kernel's own files tell no size: fd_read_file_at() reads to their end. */
static char *read_text(const char *path)
{
        g_autoptr(GBytes) bytes = fd_read_file_at(AT_FDCWD, path, TEXT_MAX, NULL);
        gsize len = 0;
        const char *data = bytes ? g_bytes_get_data(bytes, &len) : NULL;

        return bytes ? g_strchomp(g_strndup(data ? data : "", len)) : NULL;
}

/* "…/NAME.ko", "…/NAME.ko.xz:"; the kernel takes '-' and '_' in names for the same. */
static gboolean lists_module(const char *text, const char *module)
{
        g_autofree char *file = g_strdup_printf("/%s.ko", module);
        g_autofree char *dashed = g_strdelimit(g_strdup(file), "_", '-');

        return text && (strstr(text, file) || strstr(text, dashed));
}

Moult__Sight facts_sight_of_module(const struct kernel_texts *t, const char *module)
{
        if (lists_module(t->builtin, module))
                return MOULT__SIGHT__SIGHT_YES;
        if (!t->modules)
                return MOULT__SIGHT__SIGHT_UNKNOWN;
        return t->may_load && lists_module(t->modules, module) ? MOULT__SIGHT__SIGHT_LOADABLE
                                                               : MOULT__SIGHT__SIGHT_NO;
}

Moult__Sight facts_sight_of_filesystem(const struct kernel_texts *t, const char *type, const char *module)
{
        g_autofree char *line = g_strdup_printf("\t%s\n", type);
        g_autofree char *all = t->filesystems ? g_strconcat(t->filesystems, "\n", NULL) : NULL;
        Moult__Sight by_module;

        if (all && strstr(all, line))
                return MOULT__SIGHT__SIGHT_YES;
        by_module = facts_sight_of_module(t, module);
        /* No list of modules: a kernel that has all that it will ever have. */
        return by_module == MOULT__SIGHT__SIGHT_UNKNOWN && all ? MOULT__SIGHT__SIGHT_NO : by_module;
}

char *facts_lockdown(const char *text)
{
        const char *begin = text ? strchr(text, '[') : NULL, *end = begin ? strchr(begin, ']') : NULL;

        return end ? g_strndup(begin + 1, (gsize)(end - begin - 1)) : NULL;
}

/* Opening it would load the module where that is not there yet. */
static Moult__Sight look_at_fuse_device(Moult__Sight fuse)
{
        struct stat st;
        scoped_fd int fd = -1;

        if (stat("/dev/fuse", &st) < 0 || !S_ISCHR(st.st_mode))
                return fuse == MOULT__SIGHT__SIGHT_LOADABLE ? fuse : MOULT__SIGHT__SIGHT_NO;
        if (fuse != MOULT__SIGHT__SIGHT_YES)
                return fuse;
        fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        return fd >= 0 ? MOULT__SIGHT__SIGHT_YES : MOULT__SIGHT__SIGHT_NO;
}

/* Each file system says it for itself; this is about the kernel. */
static Moult__Sight look_for_verity(void)
{
        static const char *const says[] = {"/sys/fs/ext4/features/verity", "/sys/fs/f2fs/features/verity",
                                           "/proc/sys/fs/verity"};

        for (guint i = 0; i < G_N_ELEMENTS(says); i++)
                if (access(says[i], F_OK) == 0)
                        return MOULT__SIGHT__SIGHT_YES;
        return access("/sys/fs/ext4/features", F_OK) == 0 ? MOULT__SIGHT__SIGHT_NO
                                                          : MOULT__SIGHT__SIGHT_UNKNOWN;
}

static guint count_windows(const char *sysfs_pci)
{
        g_autoptr(GDir) dir = g_dir_open(sysfs_pci, 0, NULL);
        guint n = 0;

        for (const char *name; dir && (name = g_dir_read_name(dir)) != NULL;) {
                g_autofree char *vendor_path = g_build_filename(sysfs_pci, name, "vendor", NULL);
                g_autofree char *device_path = g_build_filename(sysfs_pci, name, "device", NULL);
                g_autofree char *vendor = read_text(vendor_path), *device = read_text(device_path);

                n += !g_strcmp0(vendor, "0x1af4") && !g_strcmp0(device, "0x1110");
        }
        return n;
}

static void look_at_guards(Moult__Facts *f)
{
        g_autofree char *lockdown = read_text("/sys/kernel/security/lockdown");
        g_autofree char *enforce = read_text("/sys/fs/selinux/enforce");
        g_autofree char *apparmor = read_text("/sys/module/apparmor/parameters/enabled");

        facts_set(&f->lockdown, facts_lockdown(lockdown), LIMIT_FACTS_WORD);
        if (enforce)
                facts_set(&f->selinux, g_strdup(*enforce == '1' ? "enforcing" : "permissive"),
                          LIMIT_FACTS_WORD);
        if (apparmor && *apparmor == 'Y')
                facts_set(&f->apparmor, g_strdup("enabled"), LIMIT_FACTS_WORD);
        if (f->selinux.len || f->apparmor.len)
                facts_set(&f->label, read_text("/proc/self/attr/current"), LIMIT_FACTS_WORD);
}

void facts_look_kernel(Moult__Facts *f, const struct agent_config *config)
{
        struct utsname name = {0};
        g_autofree char *filesystems = read_text("/proc/filesystems"), *modules = NULL, *builtin = NULL;
        g_autofree char *disabled = read_text("/proc/sys/kernel/modules_disabled");
        struct kernel_texts t = {.filesystems = filesystems, .may_load = g_strcmp0(disabled, "1") != 0};

        if (uname(&name) == 0) {
                g_autofree char *dir = g_build_filename("/lib/modules", name.release, NULL);
                g_autofree char *dep = g_build_filename(dir, "modules.dep", NULL);
                g_autofree char *in = g_build_filename(dir, "modules.builtin", NULL);

                t.modules = modules = read_text(dep);
                t.builtin = builtin = read_text(in);
        }
        f->overlayfs = facts_sight_of_filesystem(&t, "overlay", "overlay");
        f->fuse = facts_sight_of_filesystem(&t, "fuse", "fuse");
        f->fuse_device = look_at_fuse_device(f->fuse);
        f->pmem = access("/sys/module/virtio_pmem", F_OK) == 0 ? MOULT__SIGHT__SIGHT_YES
                                                               : facts_sight_of_module(&t, "virtio_pmem");
        f->mount_beneath = mount_api_has_beneath() ? MOULT__SIGHT__SIGHT_YES : MOULT__SIGHT__SIGHT_NO;
        f->fs_verity = look_for_verity();
        f->windows = count_windows(config->pci);
        look_at_guards(f);
}
