/* fuse-overlay/targetfs/attributes.c - extended attributes. */
#include "fuse-overlay/targetfs/attributes.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "proto/limits.h"

#define TRUSTED     "trusted."
#define ACCESS_LIST "system.posix_acl_"

static ssize_t give(const void *value, size_t len, void *buf, size_t size)
{
        if (size == 0)
                return (ssize_t)len;
        if (len > size) {
                errno = ERANGE;
                return -1;
        }
        memcpy(buf, value, len);
        return (ssize_t)len;
}

ssize_t attributes_get(InodeTable *t, Inode *i, const char *name, void *buf, size_t size)
{
        const Moult__Entry *e = inode_entry(t, i);
        if (e == NULL && i->in_original) {
                g_autofree char *path = inode_proc_path(t, i);
                if (path == NULL)
                        return -1;
                ssize_t n = i == inode_table_root(t) ? getxattr(path, name, buf, size)
                                                     : lgetxattr(path, name, buf, size);
                /* The kernel asks for lists of access rights before each use, and takes any other answer of a
                 * file system that has none for an error. */
                if (n < 0 && errno == EOPNOTSUPP && g_str_has_prefix(name, ACCESS_LIST))
                        errno = ENODATA;
                return n;
        }
        for (size_t n = 0; e != NULL && n < e->n_xattrs; n++) {
                const Moult__Xattr *x = e->xattrs[n];
                if (x->name.len == strlen(name) && memcmp(x->name.data, name, x->name.len) == 0)
                        return give(x->value.data, x->value.len, buf, size);
        }
        errno = ENODATA;
        return -1;
}

/* A NUL-separated list, without what only the privileged see. */
static ssize_t give_names(const char *names, size_t len, gboolean privileged, char *buf, size_t size)
{
        g_autoptr(GString) seen = g_string_new(NULL);
        for (size_t at = 0; at < len; at += strlen(names + at) + 1)
                if (privileged || !g_str_has_prefix(names + at, TRUSTED))
                        g_string_append_len(seen, names + at, (gssize)strlen(names + at) + 1);
        return give(seen->str, seen->len, buf, size);
}

ssize_t attributes_list(InodeTable *t, Inode *i, gboolean privileged, char *buf, size_t size)
{
        const Moult__Entry *e = inode_entry(t, i);
        if (e == NULL && i->in_original) {
                g_autofree char *path = inode_proc_path(t, i);
                g_autofree char *names = g_malloc(XATTR_LIST_MAX + 1);
                if (path == NULL)
                        return -1;
                ssize_t n = i == inode_table_root(t) ? listxattr(path, names, XATTR_LIST_MAX)
                                                     : llistxattr(path, names, XATTR_LIST_MAX);
                return n < 0 ? n : give_names(names, (size_t)n, privileged, buf, size);
        }
        g_autoptr(GString) names = g_string_new(NULL);
        for (size_t n = 0; e != NULL && n < e->n_xattrs; n++) {
                g_string_append_len(names, (const char *)e->xattrs[n]->name.data,
                                    (gssize)e->xattrs[n]->name.len);
                g_string_append_c(names, '\0');
        }
        return give_names(names->str, names->len, privileged, buf, size);
}
