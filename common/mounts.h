/* common/mounts.h - the mount table, and what kind of file system each mount is. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* What a file system is good for, as far as its type tells. */
typedef enum {
        FS_DISK,             /* ours to write */
        FS_MEMORY,           /* tmpfs: can be written, gone after a reboot */
        FS_READ_ONLY_FORMAT, /* squashfs, erofs, iso9660, cramfs: no writable form exists */
        FS_NETWORK,          /* shared with other machines */
        FS_PSEUDO,           /* proc, sysfs, ...: no files in our sense */
        FS_FOREIGN,          /* FUSE and unknown ones: no promise of atomic exchange and durability */
        FS_NO_OWNERS,        /* vfat and its like: cannot hold owner and mode */
} FsKind;

struct mount {
        guint64 id;        /* as statx gives it */
        guint64 parent_id; /* of the mount that it is mounted on */
        dev_t device;      /* of its file system; major 0: not one block device */
        char *root;        /* the directory of its file system that is its root */
        char *point;       /* where, as this process sees it */
        char *type;
        char *source;
        gboolean read_only; /* the mount's own flag */
        gboolean super_read_only;
        gboolean nosuid, nodev, noexec; /* the mount's own flags */
        gboolean shared;                /* in a peer group: what is mounted in it is seen in others */
        guint64 peer_group;             /* its number; 0: not shared */
};

typedef struct MountTable MountTable;
/* @text is the content of mountinfo. Lines that cannot be read are left out. Pure. */
MountTable *mount_table_parse(const char *text);
/* /proc/self/mountinfo */
MountTable *mount_table_load(GError **error);
/* That of another process: /proc/PID/mountinfo. */
MountTable *mount_table_load_file(const char *path, GError **error);
void mount_table_free(MountTable *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MountTable, mount_table_free)
/* NULL if there is none with this id. Lives as long as the table. */
const struct mount *mount_table_find(const MountTable *t, guint64 id);
/* In the kernel's order: a mount comes after the one that it is mounted on. */
guint mount_table_size(const MountTable *t);
const struct mount *mount_table_get(const MountTable *t, guint i);

FsKind fs_kind_of(const char *type);
