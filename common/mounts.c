/* common/mounts.c - the mount table, and what kind of file system each mount is. */
#include "common/mounts.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/fd.h"

#define MOUNTINFO_BYTES_MAX (16u * 1024u * 1024u)

struct MountTable {
        GPtrArray *all;    /* struct mount, in the table's order */
        GHashTable *by_id; /* guint64* -> struct mount*, of the array */
};

static void mount_free(gpointer p)
{
        struct mount *m = p;
        g_free(m->root);
        g_free(m->point);
        g_free(m->type);
        g_free(m->source);
        g_free(m);
}

static gboolean has_option(const char *options, const char *name)
{
        g_auto(GStrv) list = g_strsplit(options, ",", -1);
        return g_strv_contains((const char *const *)list, name);
}

/* "36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue" */
static struct mount *parse_line(const char *line)
{
        g_auto(GStrv) f = g_strsplit(line, " ", -1);
        guint n = g_strv_length(f);
        guint dash = 6;
        while (dash < n && !g_str_equal(f[dash], "-"))
                dash++;
        if (dash + 3 >= n)
                return NULL;
        struct mount *m = g_new0(struct mount, 1);
        m->id = g_ascii_strtoull(f[0], NULL, 10);
        m->parent_id = g_ascii_strtoull(f[1], NULL, 10);
        char *minor_number;
        guint64 major_number = g_ascii_strtoull(f[2], &minor_number, 10);
        m->device =
                makedev((unsigned)major_number,
                        *minor_number == ':' ? (unsigned)g_ascii_strtoull(minor_number + 1, NULL, 10) : 0);
        m->root = g_strcompress(f[3]); /* \040 for a blank */
        m->point = g_strcompress(f[4]);
        m->read_only = has_option(f[5], "ro");
        m->nosuid = has_option(f[5], "nosuid");
        m->nodev = has_option(f[5], "nodev");
        m->noexec = has_option(f[5], "noexec");
        for (guint i = 6; i < dash; i++)
                if (g_str_has_prefix(f[i], "shared:"))
                        m->peer_group = g_ascii_strtoull(f[i] + strlen("shared:"), NULL, 10);
        m->shared = m->peer_group != 0;
        m->source = g_strcompress(f[dash + 2]);
        m->type = g_strdup(f[dash + 1]);
        m->super_read_only = has_option(f[dash + 3], "ro");
        return m;
}

MountTable *mount_table_parse(const char *text)
{
        MountTable *t = g_new0(MountTable, 1);
        t->all = g_ptr_array_new_with_free_func(mount_free);
        t->by_id = g_hash_table_new(g_int64_hash, g_int64_equal);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (guint i = 0; lines[i] != NULL; i++) {
                struct mount *m = parse_line(lines[i]);
                if (m == NULL)
                        continue;
                g_ptr_array_add(t->all, m);
                g_hash_table_replace(t->by_id, &m->id, m);
        }
        return t;
}

MountTable *mount_table_load_file(const char *path, GError **error)
{
        g_autoptr(GBytes) b = fd_read_file_at(AT_FDCWD, path, MOUNTINFO_BYTES_MAX, error);
        if (b == NULL)
                return NULL;
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        g_autofree char *text = g_strndup(data != NULL ? data : "", len);
        return mount_table_parse(text);
}

MountTable *mount_table_load(GError **error)
{
        return mount_table_load_file("/proc/self/mountinfo", error);
}

void mount_table_free(MountTable *t)
{
        if (t == NULL)
                return;
        g_hash_table_unref(t->by_id);
        g_ptr_array_unref(t->all);
        g_free(t);
}

const struct mount *mount_table_find(const MountTable *t, guint64 id)
{
        return g_hash_table_lookup(t->by_id, &id);
}

guint mount_table_size(const MountTable *t)
{
        return t->all->len;
}

const struct mount *mount_table_get(const MountTable *t, guint i)
{
        return g_ptr_array_index(t->all, i);
}

FsKind fs_kind_of(const char *type)
{
        static const struct {
                const char *type;
                FsKind kind;
        } kinds[] = {
                {"ext4", FS_DISK},
                {"ext3", FS_DISK},
                {"ext2", FS_DISK},
                {"xfs", FS_DISK},
                {"btrfs", FS_DISK},
                {"f2fs", FS_DISK},
                {"bcachefs", FS_DISK},
                {"zfs", FS_DISK},
                {"jfs", FS_DISK},
                {"reiserfs", FS_DISK},
                {"overlay", FS_DISK},
                {"ubifs", FS_DISK},
                {"nilfs2", FS_DISK},
                {"tmpfs", FS_MEMORY},
                {"ramfs", FS_MEMORY},
                {"rootfs", FS_MEMORY},
                {"squashfs", FS_READ_ONLY_FORMAT},
                {"erofs", FS_READ_ONLY_FORMAT},
                {"iso9660", FS_READ_ONLY_FORMAT},
                {"cramfs", FS_READ_ONLY_FORMAT},
                {"romfs", FS_READ_ONLY_FORMAT},
                {"udf", FS_READ_ONLY_FORMAT},
                {"nfs", FS_NETWORK},
                {"nfs4", FS_NETWORK},
                {"cifs", FS_NETWORK},
                {"smb3", FS_NETWORK},
                {"9p", FS_NETWORK},
                {"virtiofs", FS_NETWORK},
                {"ceph", FS_NETWORK},
                {"afs", FS_NETWORK},
                {"lustre", FS_NETWORK},
                {"ocfs2", FS_NETWORK},
                {"gfs2", FS_NETWORK},
                {"glusterfs", FS_NETWORK},
                {"coda", FS_NETWORK},
                {"orangefs", FS_NETWORK},
                {"vboxsf", FS_NETWORK},
                {"fuse.sshfs", FS_NETWORK},
                {"fuse.glusterfs", FS_NETWORK},
                {"fuse.vmhgfs-fuse", FS_NETWORK},
                {"fuse.s3fs", FS_NETWORK},
                {"proc", FS_PSEUDO},
                {"sysfs", FS_PSEUDO},
                {"devtmpfs", FS_PSEUDO},
                {"devpts", FS_PSEUDO},
                {"cgroup", FS_PSEUDO},
                {"cgroup2", FS_PSEUDO},
                {"securityfs", FS_PSEUDO},
                {"debugfs", FS_PSEUDO},
                {"tracefs", FS_PSEUDO},
                {"configfs", FS_PSEUDO},
                {"pstore", FS_PSEUDO},
                {"efivarfs", FS_PSEUDO},
                {"bpf", FS_PSEUDO},
                {"mqueue", FS_PSEUDO},
                {"hugetlbfs", FS_PSEUDO},
                {"binfmt_misc", FS_PSEUDO},
                {"fusectl", FS_PSEUDO},
                {"autofs", FS_PSEUDO},
                {"selinuxfs", FS_PSEUDO},
                {"rpc_pipefs", FS_PSEUDO},
                {"nsfs", FS_PSEUDO},
                {"vfat", FS_NO_OWNERS},
                {"msdos", FS_NO_OWNERS},
                {"exfat", FS_NO_OWNERS},
                {"ntfs", FS_NO_OWNERS},
                {"ntfs3", FS_NO_OWNERS},
                {"hfs", FS_NO_OWNERS},
                {"hfsplus", FS_NO_OWNERS},
        };
        for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
                if (g_str_equal(type, kinds[i].type))
                        return kinds[i].kind;
        return FS_FOREIGN;
}
