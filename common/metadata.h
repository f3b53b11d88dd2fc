/* common/metadata.h - owner, mode, times and extended attributes of one object: read, compare,
 * apply.
 *
 * A release lists the complete set of extended attributes that it is answerable for: user.*, trusted.*, file
 * capabilities and POSIX ACLs. What else is on an object belongs to the kernel or a policy (SELinux, IMA,
 * EVM, Smack, overlayfs' own marks) and is compared or set only where it is listed. */
#pragma once

#include <glib.h>
#include <sys/stat.h>
#include <sys/types.h>

struct metadata_xattr {
        char *name;
        GBytes *value;
};

typedef struct {
        mode_t mode; /* 07777 */
        uid_t uid;
        gid_t gid;
        struct timespec mtime;
        GArray *xattrs; /* struct metadata_xattr, sorted by name */
} Metadata;

void metadata_free(Metadata *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Metadata, metadata_free)

/* All zero, without attributes. */
Metadata *metadata_new(void);
/* Copies both. Call metadata_sort() after the last one, unless they come in the order of their names. */
void metadata_add_xattr(Metadata *m, const char *name, gsize name_len, const void *value, gsize len);
void metadata_sort(Metadata *m);

/* An object is named by directory and name (never followed), or by an open descriptor of itself (@fd >= 0).
 */
struct metadata_object {
        int dirfd; /* AT_FDCWD: the working directory, which is the cheapest to reach */
        const char *name;
        int fd; /* -1: by name */
};

/* Whether it has any extended attribute that can be listed: one call. -1: errno. */
int metadata_has_xattrs(const struct metadata_object *o);

/* @st: what fstat gave, to save the call; NULL: it is called. */
Metadata *metadata_read(const struct metadata_object *o, const struct stat *st, GError **error);

/* NULL if @have is as @want for an object of this type (S_IFMT bits), else what differs, for people:
 * "mode 0644 -> 0755, owner 0:0 -> 33:33, time, attribute user.x". Pure. Symbolic links have no mode. */
char *metadata_difference(const Metadata *have, const Metadata *want, mode_t type);

/* Sets everything: owner, mode, attributes (capabilities after the owner, which clears them), time last.
 * Attributes that a release answers for and does not list are removed. @fresh: the object was just made by us
 * with owner geteuid():getegid(), which saves calls. */
gboolean metadata_apply(const struct metadata_object *o, mode_t type, const Metadata *want, gboolean fresh,
                        GError **error);
/* Reads back and compares. Times may be coarser on some file systems. */
gboolean metadata_verify(const struct metadata_object *o, mode_t type, const Metadata *want, GError **error);

gboolean metadata_set_mtime(const struct metadata_object *o, const struct timespec *mtime, GError **error);
/* The security.selinux label of @from is put on @to, if it has one. */
gboolean metadata_copy_label(const struct metadata_object *from, const struct metadata_object *to,
                             GError **error);
/* True if @m itself lists a label. */
gboolean metadata_has_label(const Metadata *m);
