/* host-service/release/build_xattr.c - which extended attributes of a file a release carries, and reading
 * them. */
#include "host-service/release/build_xattr.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/error.h"
#include "proto/limits.h"

bool build_xattr_is_carried(const char *name)
{
        /* Inner bookkeeping of overlayfs; an HMAC with the key of the machine that made it. */
        if (g_str_has_prefix(name, "trusted.overlay.") || g_str_has_prefix(name, "user.overlay.") ||
            !strcmp(name, "security.evm"))
                return false;
        /* Other names in system.* are views that a network or virtual file system makes up. */
        if (g_str_has_prefix(name, "system."))
                return !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");
        return true;
}

bool build_xattr_is_excluded(const char *const *globs, const char *name)
{
        for (unsigned i = 0; globs && globs[i]; i++)
                if (fnmatch(globs[i], name, 0) == 0)
                        return true;
        return false;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
        return strcmp(((const struct tree_xattr *)a)->name, ((const struct tree_xattr *)b)->name);
}

/* The list of names may grow between asking for its size and reading it. */
static char *list_names(const char *at, const char *path, ssize_t *ret_len, GError **error)
{
        for (unsigned tries = 0; tries < 8; tries++) {
                ssize_t len = llistxattr(at, NULL, 0);
                g_autofree char *list = len > 0 ? g_malloc((gsize)len) : NULL;

                if (len > 0)
                        len = llistxattr(at, list, (size_t)len);
                if (len < 0 && errno == ERANGE)
                        continue;
                if (len < 0 && (errno == ENOTSUP || errno == EPERM))
                        len = 0; /* a file system without them has none */
                if (len < 0) {
                        moult_error_errno(error, errno, "listing the extended attributes of %s", path);
                        return NULL;
                }
                *ret_len = len;
                return len > 0 ? g_steal_pointer(&list) : g_strdup("");
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "the extended attributes of %s keep changing",
                    path);
        return NULL;
}

static GBytes *read_value(const char *at, const char *name, const char *path, GError **error)
{
        g_autofree char *value = g_malloc(LIMIT_XATTR_VALUE);
        ssize_t len = lgetxattr(at, name, value, LIMIT_XATTR_VALUE);

        if (len < 0) {
                moult_error_errno(error, errno, "reading the extended attribute %s of %s", name, path);
                return NULL;
        }
        return g_bytes_new(value, (gsize)len);
}

gboolean build_xattr_read(int dirfd, const char *name, struct tree_node *n, const char *const *exclude,
                          GError **error)
{
        /* There is no lgetxattrat(); the directory's own link in /proc gives the same without a race. */
        g_autofree char *at = g_strdup_printf("/proc/self/fd/%d/%s", dirfd, name);
        ssize_t len = 0;
        g_autofree char *list = list_names(at, n->path, &len, error);
        g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(struct tree_xattr));

        if (!list)
                return FALSE;
        gboolean ok = TRUE;
        for (ssize_t i = 0; ok && i < len; i += (ssize_t)strlen(list + i) + 1) {
                const char *x = list + i;

                if (!build_xattr_is_carried(x) || build_xattr_is_excluded(exclude, x))
                        continue;
                if (found->len >= LIMIT_XATTRS) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s has more than %u extended attributes; leave some out with "
                                    "--exclude-xattr",
                                    n->path, LIMIT_XATTRS);
                        ok = FALSE;
                        break;
                }
                GBytes *value = read_value(at, x, n->path, error);
                ok = value != NULL;
                if (ok) {
                        struct tree_xattr one = {g_strdup(x), value};

                        g_array_append_val(found, one);
                }
        }
        g_array_sort(found, compare_names);
        n->n_xattrs = found->len;
        n->xattrs = (struct tree_xattr *)(gpointer)g_array_free(g_steal_pointer(&found), FALSE);
        return ok;
}
