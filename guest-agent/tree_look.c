/* guest-agent/tree_look.c - what differs in a part of the tree from what the host supposes. */
#include "guest-agent/tree_look.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/mounts.h"
#include "common/path_order.h"
#include "guest-agent/tree_item.h"
#include "proto/limits.h"
#include "proto/message.h"

/* A frame holds LIMIT_FRAME_PAYLOAD; the largest item must still fit behind this. */
#define PAGE_BYTES (128u * 1024u)

struct look {
        const Moult__TreeQuery *query;
        char *after, *until; /* "": the beginning, the end */
        size_t next_base;    /* of query->supposed: what was not met yet */
        GPtrArray *items;    /* Moult__TreeItem */
        GPtrArray *gone;     /* char * */
        gsize bytes;
        char *reached; /* the last path that was looked at */
        gboolean full; /* the answer is for the beginning only */
        gint64 deadline_us;
        MountTable *mounts;
        Hasher *hasher;
};

static gboolean matches(const ProtobufCBinaryData *globs, size_t n, const char *path)
{
        for (size_t i = 0; i < n; i++) {
                g_autofree char *glob = g_strndup((const char *)globs[i].data, globs[i].len);

                if (fnmatch(glob, path, 0) == 0)
                        return TRUE;
        }
        return FALSE;
}

static int base_order(const struct look *l, size_t i, const char *path)
{
        const Moult__TreeItem *b = l->query->supposed[i];

        return path_order_bytes(b->path.data, b->path.len, path, strlen(path));
}

static void tell_gone(struct look *l, size_t i)
{
        const Moult__TreeItem *b = l->query->supposed[i];

        g_ptr_array_add(l->gone, g_strndup((const char *)b->path.data, b->path.len));
        l->bytes += b->path.len + 8;
}

/* What the host supposes at @path, or NULL; what it supposes before it is not there. */
static const Moult__TreeItem *supposed(struct look *l, const char *path)
{
        while (l->next_base < l->query->n_supposed && base_order(l, l->next_base, path) < 0)
                tell_gone(l, l->next_base++);
        if (l->next_base < l->query->n_supposed && base_order(l, l->next_base, path) == 0)
                return l->query->supposed[l->next_base++];
        return NULL;
}

static gboolean is_full(const struct look *l)
{
        return l->bytes >= PAGE_BYTES || l->items->len >= LIMIT_TREE_ITEMS ||
               l->gone->len >= LIMIT_TREE_ITEMS || g_get_monotonic_time() >= l->deadline_us;
}

/* Whether what is mounted there belongs to the machine's own disks. */
static gboolean is_entered(const struct look *l, int fd)
{
        struct statx sx;
        const struct mount *m;

        if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
                return FALSE;
        m = mount_table_find(l->mounts, sx.stx_mnt_id);
        if (!m)
                return FALSE;
        switch (fs_kind_of(m->type)) {
        case FS_DISK:
        case FS_READ_ONLY_FORMAT:
        case FS_NO_OWNERS:
                return TRUE;
        default:
                return g_str_equal(m->type, "overlay") || g_str_has_prefix(m->source, "moult");
        }
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted. NULL with @error. */
static GPtrArray *names_in(int dir_fd, const char *path, GError **error)
{
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *de;

        if (!d) {
                int e = errno;

                if (fd >= 0)
                        close(fd);
                moult_error_errno(error, e, "listing /%s", path);
                return NULL;
        }
        while ((errno = 0, de = readdir(d)) != NULL)
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        g_ptr_array_add(names, g_strdup(de->d_name));
        int e = errno;
        closedir(d);
        if (e != 0) {
                moult_error_errno(error, e, "listing /%s", path);
                return NULL;
        }
        g_ptr_array_sort(names, compare_names);
        return g_steal_pointer(&names);
}

/* FALSE: an error. A file that goes while we look is one that is not there. */
static gboolean look_at(struct look *l, int dir_fd, const char *name, const char *path, const struct stat *st,
                        GError **error)
{
        const Moult__TreeItem *base = supposed(l, path);
        g_autoptr(GError) own = NULL;
        gboolean content = !matches(l->query->no_content, l->query->n_no_content, path);
        Moult__TreeItem *item = tree_item_read(dir_fd, name, path, st, &own);

        if (!item && g_error_matches(own, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                if (base)
                        tell_gone(l, l->next_base - 1);
                return TRUE;
        }
        if (!item) {
                g_propagate_error(error, g_steal_pointer(&own));
                return FALSE;
        }
        if (base && tree_item_same(item, base) && tree_item_same_times(item, base, l->query->hash)) {
                tree_item_free(item);
                return TRUE;
        }
        if (S_ISREG(st->st_mode) && content && !tree_item_hash(item, dir_fd, name, l->hasher, &own)) {
                tree_item_free(item);
                if (g_error_matches(own, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
                    g_error_matches(own, MOULT_ERROR, MOULT_ERROR_BUSY))
                        return TRUE; /* what is being written now is nobody's release */
                g_propagate_error(error, g_steal_pointer(&own));
                return FALSE;
        }
        if (base && tree_item_same(item, base) && tree_item_same_content(item, base)) {
                tree_item_free(item);
                return TRUE;
        }
        g_ptr_array_add(l->items, item);
        l->bytes += moult__tree_item__get_packed_size(item) + 8;
        return TRUE;
}

/* @path against the beginning of the range: -1: all of it was before; 0: what is below it may not be; 1: it
 * is in. */
static int place_of(const struct look *l, const char *path)
{
        size_t len = strlen(path);

        if (*l->after == '\0' || path_order(path, l->after) > 0)
                return 1;
        if (g_str_equal(path, l->after) || (g_str_has_prefix(l->after, path) && l->after[len] == '/'))
                return 0;
        return -1;
}

static gboolean look_in(struct look *l, int dir_fd, const char *path, GError **error);

static gboolean look_below(struct look *l, int dir_fd, const char *name, const char *path, GError **error)
{
        int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        gboolean ok;

        if (fd < 0)
                return TRUE; /* it went */
        ok = !is_entered(l, fd) || look_in(l, fd, path, error);
        close(fd);
        return ok;
}

static gboolean look_at_name(struct look *l, int dir_fd, const char *name, const char *path, GError **error)
{
        struct stat st;
        int place = place_of(l, path);

        if (place < 0 || fs_path_refusal((const guint8 *)path, strlen(path)) != NULL)
                return TRUE;
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at /%s", path);
        if (S_ISSOCK(st.st_mode) ||
            (S_ISDIR(st.st_mode) && matches(l->query->prune, l->query->n_prune, path)))
                return TRUE;
        if (place > 0) {
                if (is_full(l)) {
                        l->full = TRUE;
                        return TRUE;
                }
                if (!look_at(l, dir_fd, name, path, &st, error))
                        return FALSE;
                g_free(l->reached);
                l->reached = g_strdup(path);
        }
        return !S_ISDIR(st.st_mode) || look_below(l, dir_fd, name, path, error);
}

/* The depth is that of the tree, which PATH_MAX bounds; each level holds one descriptor and one list of
 * names. */
static gboolean look_in(struct look *l, int dir_fd, const char *path, GError **error)
{
        g_autoptr(GPtrArray) names = names_in(dir_fd, path, error);

        for (guint i = 0; names && i < names->len && !l->full; i++) {
                const char *name = g_ptr_array_index(names, i);
                g_autofree char *child = *path ? g_strconcat(path, "/", name, NULL) : g_strdup(name);

                if (*l->until && path_order(child, l->until) > 0)
                        break;
                if (!look_at_name(l, dir_fd, name, child, error))
                        return FALSE;
        }
        return names != NULL;
}

static Moult__TreePage *page_of(struct look *l)
{
        Moult__TreePage *page = g_new(Moult__TreePage, 1);

        moult__tree_page__init(page);
        page->complete = !l->full;
        if (l->full) {
                g_autofree char *reached = g_strdup(l->reached ? l->reached : l->after);

                page->reached = (ProtobufCBinaryData){strlen(reached), g_memdup2(reached, strlen(reached))};
        }
        page->n_items = l->items->len;
        page->items = g_new0(Moult__TreeItem *, l->items->len + 1);
        for (guint i = 0; i < l->items->len; i++)
                page->items[i] = g_ptr_array_index(l->items, i);
        page->n_gone = l->gone->len;
        page->gone = g_new0(ProtobufCBinaryData, l->gone->len + 1);
        for (guint i = 0; i < l->gone->len; i++) {
                const char *path = g_ptr_array_index(l->gone, i);

                page->gone[i] = (ProtobufCBinaryData){strlen(path), g_memdup2(path, strlen(path))};
        }
        g_ptr_array_set_free_func(l->items, NULL);
        return page;
}

static char *text_of(ProtobufCBinaryData b)
{
        return b.len > 0 ? g_strndup((const char *)b.data, b.len) : g_strdup("");
}

Moult__TreePage *tree_look(int root_fd, const Moult__TreeQuery *query, gint64 deadline_us, GError **error)
{
        g_autoptr(MountTable) mounts = mount_table_load(error);
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func((GDestroyNotify)tree_item_free);
        g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *after = text_of(query->after), *until = text_of(query->until);
        struct look l = {.query = query,
                         .after = after,
                         .until = until,
                         .items = items,
                         .gone = gone,
                         .deadline_us = deadline_us,
                         .mounts = mounts,
                         .hasher = h};
        Moult__TreePage *page = NULL;

        if (mounts && look_in(&l, root_fd, "", error)) {
                while (!l.full && l.next_base < query->n_supposed)
                        tell_gone(&l, l.next_base++);
                page = page_of(&l);
        }
        g_free(l.reached);
        return page;
}

void tree_page_free(Moult__TreePage *page)
{
        if (!page)
                return;
        for (size_t i = 0; i < page->n_items; i++)
                tree_item_free(page->items[i]);
        for (size_t i = 0; i < page->n_gone; i++)
                g_free(page->gone[i].data);
        g_free(page->items);
        g_free(page->gone);
        g_free(page->reached.data);
        g_free(page);
}

Moult__TreeData *tree_read(int root_fd, const Moult__TreeRead *what, GError **error)
{
        g_autofree char *path = text_of(what->path);
        scoped_fd int fd = fs_beneath_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, error);
        gsize want = MIN(what->length, LIMIT_DATA_BYTES), have = 0;
        struct stat st;

        if (fd < 0)
                return NULL;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "/%s is no regular file", path);
                return NULL;
        }
        g_autofree guint8 *buf = g_malloc(MAX(want, 1));
        while (have < want) {
                ssize_t n = pread(fd, buf + have, want - have, (off_t)(what->offset + have));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        moult_error_errno(error, errno, "reading /%s", path);
                        return NULL;
                }
                if (n == 0)
                        break;
                have += (gsize)n;
        }
        Moult__TreeData *d = g_new(Moult__TreeData, 1);
        moult__tree_data__init(d);
        d->bytes = (ProtobufCBinaryData){have, g_steal_pointer(&buf)};
        return d;
}

void tree_data_free(Moult__TreeData *data)
{
        if (!data)
                return;
        g_free(data->bytes.data);
        g_free(data);
}
