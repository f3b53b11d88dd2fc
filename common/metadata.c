/* common/metadata.c - owner, mode, times and extended attributes of one object: read, compare,
 * apply. */
#include "common/metadata.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"

#define LABEL           "security.selinux"
#define CAPABILITY      "security.capability"
#define NAMES_BYTES_MAX (1024u * 1024u)
#define VALUE_BYTES_MAX 65536u

static void xattr_clear(gpointer p)
{
        struct metadata_xattr *x = p;
        g_free(x->name);
        g_bytes_unref(x->value);
}

Metadata *metadata_new(void)
{
        Metadata *m = g_new0(Metadata, 1);
        m->xattrs = g_array_new(FALSE, FALSE, sizeof(struct metadata_xattr));
        g_array_set_clear_func(m->xattrs, xattr_clear);
        return m;
}

void metadata_free(Metadata *m)
{
        if (m == NULL)
                return;
        g_array_unref(m->xattrs);
        g_free(m);
}

void metadata_add_xattr(Metadata *m, const char *name, gsize name_len, const void *value, gsize len)
{
        struct metadata_xattr x = {g_strndup(name, name_len), g_bytes_new(value, len)};
        g_array_append_val(m->xattrs, x);
}

static int xattr_compare(gconstpointer a, gconstpointer b)
{
        return strcmp(((const struct metadata_xattr *)a)->name, ((const struct metadata_xattr *)b)->name);
}

void metadata_sort(Metadata *m)
{
        g_array_sort(m->xattrs, xattr_compare);
}

static const struct metadata_xattr *xattr_find(const Metadata *m, const char *name)
{
        for (guint i = 0; i < m->xattrs->len; i++) {
                const struct metadata_xattr *x = &g_array_index(m->xattrs, struct metadata_xattr, i);
                if (g_str_equal(x->name, name))
                        return x;
        }
        return NULL;
}

/* --- the calls, by descriptor or by name. The xattr family has no *at form: the directory is named through
 * /proc, which is a longer way for the kernel than the rest of the call. */

/* *ret_own holds what is returned, where that was made. */
static const char *call_path(const struct metadata_object *o, char **ret_own)
{
        if (o->dirfd == AT_FDCWD)
                return o->name;
        return *ret_own = g_strdup_printf("/proc/self/fd/%d/%s", o->dirfd, o->name);
}

static const char *object_name(const struct metadata_object *o)
{
        return o->name != NULL ? o->name : "the open file";
}

static ssize_t names_get(const struct metadata_object *o, char *buf, size_t size)
{
        if (o->fd >= 0)
                return flistxattr(o->fd, buf, size);
        g_autofree char *own = NULL;
        return llistxattr(call_path(o, &own), buf, size);
}

static ssize_t value_get(const struct metadata_object *o, const char *name, void *buf, size_t size)
{
        if (o->fd >= 0)
                return fgetxattr(o->fd, name, buf, size);
        g_autofree char *own = NULL;
        return lgetxattr(call_path(o, &own), name, buf, size);
}

static int value_set(const struct metadata_object *o, const char *name, const void *buf, size_t size)
{
        if (o->fd >= 0)
                return fsetxattr(o->fd, name, buf, size, 0);
        g_autofree char *own = NULL;
        return lsetxattr(call_path(o, &own), name, buf, size, 0);
}

static int value_remove(const struct metadata_object *o, const char *name)
{
        if (o->fd >= 0)
                return fremovexattr(o->fd, name);
        g_autofree char *own = NULL;
        return lremovexattr(call_path(o, &own), name);
}

/* A NUL-separated list and its length in *ret_len; NULL with @error. File systems without attributes have
 * none. */
static char *names_read(const struct metadata_object *o, gsize *ret_len, GError **error)
{
        char small[1024];
        ssize_t n = names_get(o, small, sizeof small);
        if (n >= 0) {
                *ret_len = (gsize)n;
                return g_memdup2(n > 0 ? small : "", (gsize)MAX(n, 1));
        }
        if (errno == EOPNOTSUPP) {
                *ret_len = 0;
                return g_strdup("");
        }
        if (errno == ERANGE) {
                g_autofree char *big = g_malloc(NAMES_BYTES_MAX);
                n = names_get(o, big, NAMES_BYTES_MAX);
                if (n >= 0) {
                        *ret_len = (gsize)n;
                        return g_steal_pointer(&big);
                }
        }
        moult_error_errno(error, errno, "listing the extended attributes of %s", object_name(o));
        return NULL;
}

static gboolean value_read(const struct metadata_object *o, const char *name, Metadata *into, GError **error)
{
        char small[512];
        ssize_t n = value_get(o, name, small, sizeof small);
        if (n >= 0) {
                metadata_add_xattr(into, name, strlen(name), small, (gsize)n);
                return TRUE;
        }
        if (errno == ERANGE) {
                g_autofree char *big = g_malloc(VALUE_BYTES_MAX);
                n = value_get(o, name, big, VALUE_BYTES_MAX);
                if (n >= 0) {
                        metadata_add_xattr(into, name, strlen(name), big, (gsize)n);
                        return TRUE;
                }
        }
        /* Gone between the two calls, or listed but not readable (btrfs.compression): not there. */
        if (errno == ENODATA || errno == EOPNOTSUPP)
                return TRUE;
        return moult_error_errno(error, errno, "reading the extended attribute %s of %s", name,
                                 object_name(o));
}

int metadata_has_xattrs(const struct metadata_object *o)
{
        ssize_t n = names_get(o, NULL, 0);

        return n < 0 && errno == EOPNOTSUPP ? 0 : n < 0 ? -1 : n > 0;
}

Metadata *metadata_read(const struct metadata_object *o, const struct stat *st, GError **error)
{
        struct stat own;
        if (st == NULL) {
                int r = o->fd >= 0 ? fstat(o->fd, &own)
                                   : fstatat(o->dirfd, o->name, &own, AT_SYMLINK_NOFOLLOW);
                if (r < 0) {
                        moult_error_errno(error, errno, "looking at %s", object_name(o));
                        return NULL;
                }
                st = &own;
        }
        g_autoptr(Metadata) m = metadata_new();
        m->mode = st->st_mode & 07777;
        m->uid = st->st_uid;
        m->gid = st->st_gid;
        m->mtime = st->st_mtim;
        gsize len;
        g_autofree char *names = names_read(o, &len, error);
        if (names == NULL)
                return NULL;
        for (gsize at = 0; at < len; at += strlen(names + at) + 1)
                if (!value_read(o, names + at, m, error))
                        return NULL;
        metadata_sort(m);
        return g_steal_pointer(&m);
}

/* Attributes whose absence from the list means that they must not be there. */
static gboolean is_managed(const char *name)
{
        return g_str_has_prefix(name, "user.") || g_str_equal(name, CAPABILITY) ||
               (g_str_has_prefix(name, "trusted.") && !g_str_has_prefix(name, "trusted.overlay.")) ||
               g_str_equal(name, "system.posix_acl_access") || g_str_equal(name, "system.posix_acl_default");
}

static void difference_add(GString *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void difference_add(GString *s, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        if (s->len > 0)
                g_string_append(s, ", ");
        g_string_append_vprintf(s, format, args);
        va_end(args);
}

/* @coarse: a file system that keeps times in coarser units read the time back: what was cut off does not
 * count. */
static gboolean same_time(const struct timespec *have, const struct timespec *want, gboolean coarse)
{
        if (have->tv_sec != want->tv_sec)
                return FALSE;
        if (have->tv_nsec == want->tv_nsec)
                return TRUE;
        if (!coarse)
                return FALSE;
        for (long unit = 10; unit <= 1000000000L; unit *= 10)
                if (have->tv_nsec == want->tv_nsec - want->tv_nsec % unit)
                        return TRUE;
        return FALSE;
}

static char *difference(const Metadata *have, const Metadata *want, mode_t type, gboolean coarse_time)
{
        g_autoptr(GString) s = g_string_new(NULL);
        if (!S_ISLNK(type) && have->mode != want->mode)
                difference_add(s, "mode %04o -> %04o", (unsigned)have->mode, (unsigned)want->mode);
        if (have->uid != want->uid || have->gid != want->gid)
                difference_add(s, "owner %u:%u -> %u:%u", have->uid, have->gid, want->uid, want->gid);
        if (!same_time(&have->mtime, &want->mtime, coarse_time))
                difference_add(s, "time");
        for (guint i = 0; i < want->xattrs->len; i++) {
                const struct metadata_xattr *w = &g_array_index(want->xattrs, struct metadata_xattr, i);
                const struct metadata_xattr *h = xattr_find(have, w->name);
                if (h == NULL || !g_bytes_equal(h->value, w->value))
                        difference_add(s, "attribute %s", w->name);
        }
        for (guint i = 0; i < have->xattrs->len; i++) {
                const struct metadata_xattr *h = &g_array_index(have->xattrs, struct metadata_xattr, i);
                if (is_managed(h->name) && xattr_find(want, h->name) == NULL)
                        difference_add(s, "attribute %s is not in the release", h->name);
        }
        return s->len > 0 ? g_string_free(g_steal_pointer(&s), FALSE) : NULL;
}

char *metadata_difference(const Metadata *have, const Metadata *want, mode_t type)
{
        return difference(have, want, type, FALSE);
}

static gboolean remove_unlisted(const struct metadata_object *o, const Metadata *want, GError **error)
{
        gsize len;
        g_autofree char *names = names_read(o, &len, error);
        if (names == NULL)
                return FALSE;
        for (gsize at = 0; at < len; at += strlen(names + at) + 1) {
                const char *name = names + at;
                if (!is_managed(name) || xattr_find(want, name) != NULL)
                        continue;
                if (value_remove(o, name) < 0 && errno != ENODATA)
                        return moult_error_errno(error, errno, "removing the extended attribute %s of %s",
                                                 name, object_name(o));
        }
        return TRUE;
}

static gboolean set_listed(const struct metadata_object *o, const Metadata *want, gboolean capability,
                           GError **error)
{
        for (guint i = 0; i < want->xattrs->len; i++) {
                const struct metadata_xattr *x = &g_array_index(want->xattrs, struct metadata_xattr, i);
                if (g_str_equal(x->name, CAPABILITY) != capability)
                        continue;
                gsize len;
                const void *value = g_bytes_get_data(x->value, &len);
                if (value_set(o, x->name, value, len) < 0)
                        return moult_error_errno(error, errno, "setting the extended attribute %s of %s",
                                                 x->name, object_name(o));
        }
        return TRUE;
}

gboolean metadata_apply(const struct metadata_object *o, mode_t type, const Metadata *want, gboolean fresh,
                        GError **error)
{
        if (!fresh || want->uid != geteuid() || want->gid != getegid()) {
                int r = o->fd >= 0 ? fchown(o->fd, want->uid, want->gid)
                                   : fchownat(o->dirfd, o->name, want->uid, want->gid, AT_SYMLINK_NOFOLLOW);
                if (r < 0)
                        return moult_error_errno(error, errno, "setting the owner of %s to %u:%u",
                                                 object_name(o), want->uid, want->gid);
        }
        if (!remove_unlisted(o, want, error) || !set_listed(o, want, /* capability= */ FALSE, error))
                return FALSE;
        if (!S_ISLNK(type)) { /* after the ACL, which changes the group bits too */
                int r = o->fd >= 0 ? fchmod(o->fd, want->mode) : fchmodat(o->dirfd, o->name, want->mode, 0);
                if (r < 0)
                        return moult_error_errno(error, errno, "setting the mode of %s", object_name(o));
        }
        if (!set_listed(o, want, /* capability= */ TRUE, error))
                return FALSE;
        return metadata_set_mtime(o, &want->mtime, error);
}

gboolean metadata_verify(const struct metadata_object *o, mode_t type, const Metadata *want, GError **error)
{
        g_autoptr(Metadata) have = metadata_read(o, NULL, error);
        if (have == NULL)
                return FALSE;
        g_autofree char *differs = difference(have, want, type, TRUE);
        if (differs == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                    "%s does not keep what was set on it (%s): the file system cannot hold it",
                    object_name(o), differs);
        return FALSE;
}

gboolean metadata_set_mtime(const struct metadata_object *o, const struct timespec *mtime, GError **error)
{
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, *mtime};
        int r = o->fd >= 0 ? futimens(o->fd, times)
                           : utimensat(o->dirfd, o->name, times, AT_SYMLINK_NOFOLLOW);
        return r == 0 ? TRUE : moult_error_errno(error, errno, "setting the time of %s", object_name(o));
}

gboolean metadata_has_label(const Metadata *m)
{
        return xattr_find(m, LABEL) != NULL;
}

gboolean metadata_copy_label(const struct metadata_object *from, const struct metadata_object *to,
                             GError **error)
{
        char label[4096];
        ssize_t n = value_get(from, LABEL, label, sizeof label);
        if (n <= 0) /* none, or no SELinux here */
                return TRUE;
        if (value_set(to, LABEL, label, (size_t)n) < 0)
                return moult_error_errno(error, errno, "setting the SELinux label of %s", object_name(to));
        return TRUE;
}
