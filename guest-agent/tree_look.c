/* guest-agent/tree_look.c - what differs in a part of the tree from what the host supposes. */
#include "guest-agent/tree_look.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "common/glob_list.h"
#include "common/mounts.h"
#include "common/path_order.h"
#include "guest-agent/tree_item.h"
#include "guest-agent/tree_names.h"
#include "proto/limits.h"
#include "proto/message.h"

/* A frame holds LIMIT_FRAME_PAYLOAD; the largest item must still fit behind this. */
#define PAGE_BYTES (128u * 1024u)

struct look {
        const Moult__TreeQuery *query;
        GlobList *prune, *no_content;
        size_t next_base; /* of query->supposed: what was not met yet */
        GPtrArray *items; /* Moult__TreeItem */
        GPtrArray *gone;  /* char * */
        gsize bytes;
        GString *path;    /* where the walk is */
        GString *reached; /* the last path that was looked at */
        gboolean looked;  /* at anything */
        gboolean full;    /* the answer is for the beginning only */
        gint64 deadline_us;
        MountTable *mounts;
        gboolean judged, judgement; /* whether a mount was looked up; whether it is entered */
        guint64 judged_id;          /* which one */
        gboolean own_directory;     /* this thread's working directory is nobody else's */
        int working_directory;      /* the descriptor of the one that it is in; -1: of none here */
        Hasher *hasher;
};

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

/* The coarse clock costs no look at the hardware, which in many virtual machines is a way out of them. */
static gboolean is_late(const struct look *l)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 >= l->deadline_us;
}

static gboolean is_full(const struct look *l)
{
        return l->bytes >= PAGE_BYTES || l->items->len >= LIMIT_TREE_ITEMS ||
               l->gone->len >= LIMIT_TREE_ITEMS || is_late(l);
}

/* Whether a mount belongs to the machine's own disks. */
static gboolean is_own_disk(const struct look *l, guint64 mount_id)
{
        const struct mount *m = mount_table_find(l->mounts, mount_id);

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

static gboolean is_entered(struct look *l, const struct statx *sx)
{
        if (!(sx->stx_mask & STATX_MNT_ID))
                return FALSE;
        if (!l->judged || l->judged_id != sx->stx_mnt_id) {
                l->judged = TRUE;
                l->judged_id = sx->stx_mnt_id;
                l->judgement = is_own_disk(l, sx->stx_mnt_id);
        }
        return l->judgement;
}

/* FALSE: an error. A file that goes while we look is one that is not there. */
static gboolean look_at(struct look *l, int at, const char *name, const struct statx *sx, GError **error)
{
        const char *path = l->path->str;
        const Moult__TreeItem *base = supposed(l, path);
        g_autoptr(GError) own = NULL;
        Moult__TreeItem *item = tree_item_read(at, name, path, sx, &own);

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
        if (S_ISREG(sx->stx_mode) && glob_list_find(l->no_content, path) < 0 &&
            !tree_item_hash(item, at, name, l->hasher, &own)) {
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

static gboolean look_in(struct look *l, int dir_fd, const struct tree_bounds *bounds, GError **error);

/* Where the calls for what is in the directory @dir_fd begin. A level that is left is followed by its parent,
 * so the number of a closed descriptor is never taken for a new one's. */
static int enter(struct look *l, int dir_fd)
{
        if (l->own_directory && l->working_directory != dir_fd) {
                l->own_directory = fchdir(dir_fd) == 0;
                l->working_directory = dir_fd;
        }
        return l->own_directory ? AT_FDCWD : dir_fd;
}

static gboolean look_below(struct look *l, int at, const char *name, const struct statx *sx,
                           const struct tree_bounds *bounds, GError **error)
{
        if (!is_entered(l, sx) || !tree_bounds_go_below(bounds))
                return TRUE;
        scoped_fd int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP /* it went */ ||
                       moult_error_errno(error, errno, "listing /%s", l->path->str);
        return look_in(l, fd, bounds, error);
}

static gboolean look_at_name(struct look *l, int at, const char *name, const struct tree_bounds *bounds,
                             GError **error)
{
        struct tree_bounds below;
        gboolean in = tree_bounds_include(bounds, name, &below);
        struct statx sx;

        if (fs_path_refusal((const guint8 *)l->path->str, l->path->len) != NULL)
                return TRUE;
        if (statx(at, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &sx) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at /%s", l->path->str);
        if (S_ISSOCK(sx.stx_mode) || (S_ISDIR(sx.stx_mode) && glob_list_find(l->prune, l->path->str) >= 0))
                return TRUE;
        if (in) {
                /* One is always looked at: who is late must still get on. */
                l->full = l->looked && is_full(l);
                if (l->full)
                        return TRUE;
                l->looked = TRUE;
                if (!look_at(l, at, name, &sx, error))
                        return FALSE;
                g_string_assign(l->reached, l->path->str);
        }
        return !S_ISDIR(sx.stx_mode) || look_below(l, at, name, &sx, &below, error);
}

/* The depth is that of the tree, which PATH_MAX bounds; each level holds one descriptor and one list of
 * names. */
static gboolean look_in(struct look *l, int dir_fd, const struct tree_bounds *bounds, GError **error)
{
        g_autoptr(TreeNames) names = tree_names_read(dir_fd, l->path->str, bounds, error);
        gsize len = l->path->len;
        gboolean ok = names != NULL;

        for (guint i = 0; ok && i < tree_names_count(names) && !l->full; i++) {
                const char *name = tree_names_get(names, i);

                if (len > 0)
                        g_string_append_c(l->path, '/');
                g_string_append(l->path, name);
                ok = look_at_name(l, enter(l, dir_fd), name, bounds, error);
                g_string_truncate(l->path, len);
        }
        return ok;
}

static Moult__TreePage *page_of(struct look *l)
{
        Moult__TreePage *page = g_new(Moult__TreePage, 1);

        moult__tree_page__init(page);
        page->complete = !l->full;
        if (l->full) {
                const GString *r = l->reached;

                page->reached = (ProtobufCBinaryData){r->len, g_memdup2(r->str, r->len)};
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

static GlobList *globs_of(const ProtobufCBinaryData *globs, size_t n)
{
        GlobList *l = glob_list_new();

        for (size_t i = 0; i < n; i++)
                glob_list_add(l, globs[i].data, globs[i].len);
        return l;
}

struct asked {
        int root_fd;
        const Moult__TreeQuery *query;
        gint64 deadline_us;
        Moult__TreePage *page;
        GError *error;
};

static Moult__TreePage *look(const struct asked *a, gboolean own_directory, GError **error)
{
        const Moult__TreeQuery *query = a->query;
        g_autoptr(MountTable) mounts = mount_table_load(error);
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(GlobList) prune = globs_of(query->prune, query->n_prune),
                            no_content = globs_of(query->no_content, query->n_no_content);
        g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func((GDestroyNotify)tree_item_free);
        g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *after = text_of(query->after), *until = text_of(query->until);
        g_autoptr(GString) path = g_string_new(NULL), reached = g_string_new(after);
        const struct tree_bounds bounds = {*after ? after : NULL, *until ? until : NULL};
        scoped_fd int root = openat(a->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct look l = {.query = query,
                         .prune = prune,
                         .no_content = no_content,
                         .items = items,
                         .gone = gone,
                         .path = path,
                         .reached = reached,
                         .deadline_us = a->deadline_us,
                         .mounts = mounts,
                         .own_directory = own_directory,
                         .working_directory = -1,
                         .hasher = h};

        if (!mounts)
                return NULL;
        if (root < 0) {
                moult_error_errno(error, errno, "listing /");
                return NULL;
        }
        if (!look_in(&l, root, &bounds, error))
                return NULL;
        while (!l.full && l.next_base < query->n_supposed)
                tell_gone(&l, l.next_base++);
        return page_of(&l);
}

/* In a thread of its own, whose working directory is no other thread's. */
static gpointer look_alone(gpointer data)
{
        struct asked *a = data;

        a->page = look(a, unshare(CLONE_FS) == 0, &a->error);
        return NULL;
}

Moult__TreePage *tree_look(int root_fd, const Moult__TreeQuery *query, gint64 deadline_us, GError **error)
{
        struct asked a = {.root_fd = root_fd, .query = query, .deadline_us = deadline_us};
        GThread *thread = g_thread_try_new("look", look_alone, &a, NULL);

        if (thread)
                g_thread_join(thread);
        else
                a.page = look(&a, FALSE, &a.error);
        if (!a.page)
                g_propagate_error(error, a.error);
        return a.page;
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
