/* guest-agent/upgrade/classify.c - what is at a path, and whether it can be overwritten there (U6). */
#include "guest-agent/upgrade/classify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/error.h"
#include "common/fd.h"

static const char *place_refusal(const struct place_facts *p, char **ret)
{
        const char *format = NULL;
        switch (p->kind) {
        case FS_READ_ONLY_FORMAT:
                format = "on read-only file system %s mounted at %s";
                break;
        case FS_NETWORK:
                format = "on network file system %s mounted at %s, which other machines share";
                break;
        case FS_PSEUDO:
                format = "on pseudo file system %s mounted at %s";
                break;
        case FS_FOREIGN:
                format = "on file system %s mounted at %s, which does not promise atomic exchange";
                break;
        case FS_NO_OWNERS:
                format = "on file system %s mounted at %s, which cannot hold owner and mode";
                break;
        case FS_DISK:
        case FS_MEMORY:
                if (p->read_only_super)
                        format = "on read-only file system %s mounted at %s";
                else if (p->read_only_mount)
                        format = "on file system %s, which is mounted read-only at %s";
                break;
        }
        if (format != NULL) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of the literals above */
                *ret = g_strdup_printf(format, p->fs_type, p->mount_point);
#pragma GCC diagnostic pop
        }
        return format;
}

const char *classify_stays(const struct object_facts *o)
{
        if (!o->exists)
                return NULL;
        if (o->immutable)
                return "the immutable flag is set on it (lsattr, chattr -i)";
        if (o->append_only)
                return "the append-only flag is set on it (lsattr, chattr -a)";
        if (o->swap)
                return "in use as a swap file";
        return NULL;
}

static const char *object_refusal(Change change, const struct object_facts *o, gboolean is_mount_point,
                                  const struct place_facts *p)
{
        if (!o->exists)
                return NULL;
        if (change != CHANGE_IN_PLACE && is_mount_point)
                return "a mount point itself: another file or directory is mounted on it";
        const char *stays = classify_stays(o);
        if (stays != NULL)
                return stays;
        if (o->verity)
                return "the file is sealed by fs-verity";
        if (p->is_overlay && S_ISDIR(o->mode) && change != CHANGE_IN_PLACE)
                return "a directory on overlayfs, which cannot be moved as one";
        return NULL;
}

char *classify_refusal(Change change, const struct object_facts *object, gboolean is_mount_point,
                       const struct place_facts *place)
{
        char *reason = NULL;
        if (place_refusal(place, &reason) != NULL)
                return reason;
        const char *why = object_refusal(change, object, is_mount_point, place);
        if (why != NULL)
                return g_strdup(why);
        if (change == CHANGE_IN_PLACE)
                return NULL;
        if (place->directory_immutable)
                return g_strdup("the immutable flag is set on its directory (lsattr -d, chattr -i)");
        if (place->directory_append_only && change != CHANGE_CREATE)
                return g_strdup("the append-only flag is set on its directory (lsattr -d, chattr -a)");
        if (place->other_key)
                return g_strdup("in an encrypted directory (fscrypt): nothing can be moved into it from "
                                "outside, and so not be switched in one step");
        if (place->other_project)
                return g_strdup("in a directory with a project quota of its own (lsattr -pd): nothing can be "
                                "moved into it from outside, and so not be switched in one step");
        if (place->area_closed)
                return g_strdup_printf("%s does not let a staging directory be made (immutable flag)",
                                       place->mount_point);
        return NULL;
}

gboolean classify_is_tree(const struct place_facts *p)
{
        switch (p->kind) {
        case FS_READ_ONLY_FORMAT:
                return TRUE;
        case FS_PSEUDO:
        case FS_NO_OWNERS: /* firmware reads what is there, and would not see the merge */
                return FALSE;
        default:
                return p->read_only_mount || p->read_only_super;
        }
}

/* One file over one file: nothing else at the place changes, and the directory stays as writable as it was.
 */
static gboolean is_lone_file(Change change, const struct object_facts *o, gboolean is_mount_point,
                             gboolean merged, gboolean becomes_file, const struct place_facts *p)
{
        return change == CHANGE_EXCHANGE && becomes_file && o->exists && S_ISREG(o->mode) && !o->swap &&
               (!is_mount_point || merged) && p->kind != FS_PSEUDO && p->kind != FS_NO_OWNERS;
}

PlanReach classify_reach(Change change, const struct object_facts *object, gboolean is_mount_point,
                         gboolean merged, gboolean becomes_file, const struct place_facts *place,
                         Moult__Delivery delivery, char **ret_reason)
{
        gboolean tree = classify_is_tree(place) && (!is_mount_point || change == CHANGE_IN_PLACE);
        gboolean lone = is_lone_file(change, object, is_mount_point, merged, becomes_file, place);
        g_autofree char *refusal = merged ? g_strdup("merged by an earlier release")
                                          : classify_refusal(change, object, is_mount_point, place);

        *ret_reason = NULL;
        /* A directory that stays where it is has nothing but metadata to change: no content is overwritten.
         */
        if (refusal == NULL && (delivery != MOULT__DELIVERY__DELIVERY_OVERLAY || change == CHANGE_IN_PLACE))
                return REACH_WRITE;
        if (delivery == MOULT__DELIVERY__DELIVERY_OVERWRITE) {
                *ret_reason = g_strdup_printf("%s, and the release asks to overwrite it or nothing", refusal);
                return REACH_NONE;
        }
        if (tree || lone) {
                *ret_reason = refusal != NULL ? g_steal_pointer(&refusal)
                                              : g_strdup("the release asks to merge it");
                return tree ? REACH_TREE : REACH_FILE;
        }
        *ret_reason = refusal != NULL
                              ? g_steal_pointer(&refusal)
                              : g_strdup("the release asks to merge it, and in a place that can be written "
                                         "only regular files that exist can be merged");
        return REACH_NONE;
}

gboolean classify_look(int dirfd, const char *name, struct object_facts *ret, GError **error)
{
        struct statx sx;
        int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == '\0' ? AT_EMPTY_PATH : 0);

        if (statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &sx) < 0) {
                if (errno != ENOENT)
                        return moult_error_errno(error, errno, "looking at %s", name);
                *ret = (struct object_facts){0};
                return TRUE;
        }
        if ((sx.stx_mask & STATX_MNT_ID) == 0) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                    "this kernel does not tell mounts apart (Linux 5.8 or later is needed)");
                return FALSE;
        }
        *ret = (struct object_facts){
                .exists = TRUE,
                .mode = sx.stx_mode,
                .uid = sx.stx_uid,
                .gid = sx.stx_gid,
                .inode = sx.stx_ino,
                .dev = makedev(sx.stx_dev_major, sx.stx_dev_minor),
                .rdev = makedev(sx.stx_rdev_major, sx.stx_rdev_minor),
                .size = sx.stx_size,
                .links = sx.stx_nlink,
                .mtime = {(time_t)sx.stx_mtime.tv_sec, (long)sx.stx_mtime.tv_nsec},
                .ctime = {(time_t)sx.stx_ctime.tv_sec, (long)sx.stx_ctime.tv_nsec},
                .birth_ns = (sx.stx_mask & STATX_BTIME) != 0
                                    ? sx.stx_btime.tv_sec * 1000000000 + sx.stx_btime.tv_nsec
                                    : 0,
                .mount_id = sx.stx_mnt_id,
                .immutable = (sx.stx_attributes & STATX_ATTR_IMMUTABLE) != 0,
                .append_only = (sx.stx_attributes & STATX_ATTR_APPEND) != 0,
                .encrypted = (sx.stx_attributes & STATX_ATTR_ENCRYPTED) != 0,
                .verity = (sx.stx_attributes & STATX_ATTR_VERITY) != 0,
        };
        return TRUE;
}

static char *swap_key(dev_t dev, guint64 inode)
{
        return g_strdup_printf("%u:%u:%" G_GUINT64_FORMAT, major(dev), minor(dev), inode);
}

GHashTable *classify_swap_files(void)
{
        GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GBytes) b = fd_read_file_at(AT_FDCWD, "/proc/swaps", 1024 * 1024, NULL);
        if (b == NULL) /* a kernel without swap */
                return set;
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        g_autofree char *text = g_strndup(data != NULL ? data : "", len);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (guint i = 1; i < g_strv_length(lines); i++) { /* 0 is the heading */
                char *end = strpbrk(lines[i], " \t");
                if (end == NULL)
                        continue;
                *end = '\0';
                g_autofree char *path = g_strcompress(lines[i]);
                struct stat st;
                if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
                        g_hash_table_add(set, swap_key(st.st_dev, st.st_ino));
        }
        return set;
}

gboolean classify_is_swap(GHashTable *swaps, const struct object_facts *f)
{
        if (g_hash_table_size(swaps) == 0 || !f->exists || !S_ISREG(f->mode))
                return FALSE;
        g_autofree char *key = swap_key(f->dev, f->inode);
        return g_hash_table_contains(swaps, key);
}
