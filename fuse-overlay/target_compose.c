/* fuse-overlay/target_compose.c - a release's changes put over the target before it. Pure.
 *
 * Theory of operation: both lists are walked at once in the order of paths, in which what lies below a
 * directory directly follows it. So two paths suffice as memory: `hidden`, below which nothing may be (a
 * whiteout, or what is not a directory), and `opaque`, the directory below which nothing of the original is
 * seen, and whiteouts have no purpose. */
#include <string.h>

#include "common/digest.h"
#include "fuse-overlay/target_parts.h"
#include "proto/message.h"

struct composition {
        Target *t;
        struct release *release;
        const char *hidden; /* NULL: none; borrowed, like the next */
        const char *opaque;
        gboolean hidden_is_last; /* the last item of @t is the one at @hidden */
};

static gboolean is_directory(const Moult__Entry *e)
{
        return e->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
}

static gboolean is_whiteout(const Moult__Entry *e)
{
        return e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
}

static void leave_what_is_past(struct composition *c, const char *path)
{
        if (c->hidden != NULL && !target_path_is_below(path, c->hidden))
                c->hidden = NULL;
        if (c->opaque != NULL && !target_path_is_below(path, c->opaque))
                c->opaque = NULL;
}

static void add(struct composition *c, struct item *i)
{
        g_ptr_array_add(c->t->items, i);
        c->hidden_is_last = FALSE;
        if (!is_directory(&i->entry)) {
                c->hidden = i->path;
                c->hidden_is_last = TRUE;
        } else if (i->opaque) {
                c->opaque = i->path;
        }
}

/* What @before had stays, unless it is hidden now. */
static void keep(struct composition *c, struct item *i)
{
        leave_what_is_past(c, i->path);
        if (c->hidden != NULL)
                return;
        add(c, item_ref(i));
}

/* A change lies below what is hidden: that has to be a directory. */
static void make_way(struct composition *c, const struct target_change *change)
{
        if (!c->hidden_is_last) { /* nothing is kept of what was deleted there: nothing to replace */
                c->hidden = NULL;
                return;
        }
        struct item *was = g_ptr_array_index(c->t->items, c->t->items->len - 1);
        Moult__Entry directory = MOULT__ENTRY__INIT;
        directory.type = MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
        directory.mode = 0755;
        directory.mtime_s = change->entry->mtime_s;
        directory.mtime_ns = change->entry->mtime_ns;
        struct item_content content = {
                .path = was->path,
                .mount = was->mount,
                .entry = &directory,
                .original = was->original,
                .opaque = c->opaque == NULL,
        };
        struct item *now = item_new(&content, c->release);
        c->hidden = NULL;
        g_ptr_array_remove_index(c->t->items, c->t->items->len - 1);
        add(c, now);
}

/* @was: what the target before has at the same path, or NULL. */
static void put(struct composition *c, const struct target_change *change, const struct item *was)
{
        leave_what_is_past(c, change->path);
        const Moult__Entry *e = change->link_to != NULL ? change->link_to : change->entry;
        struct item_content content = {
                .path = change->path,
                .mount = change->mount != NULL ? change->mount : "",
                .entry = e,
                .metadata = change->metadata,
                .reach = change->reach,
                .original = change->original,
        };
        if (content.original == MOULT__TARGET__ORIGINAL__ORIGINAL_UNKNOWN && was != NULL)
                content.original = was->original;
        if (is_whiteout(e)) {
                if (c->hidden != NULL)
                        return;
                if (c->opaque != NULL || content.original == MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT) {
                        /* Nothing of the original to hide; but what the target had below goes. */
                        c->hidden = change->path;
                        c->hidden_is_last = FALSE;
                        return;
                }
        } else if (c->hidden != NULL) {
                make_way(c, change);
        }
        if (is_directory(e) && c->opaque == NULL && was != NULL)
                content.opaque = was->opaque || !is_directory(&was->entry);
        add(c, item_new(&content, c->release));
}

/* --- the changes in order */

static int change_compare(gconstpointer a, gconstpointer b)
{
        const struct target_change *x = *(const struct target_change *const *)a,
                                   *y = *(const struct target_change *const *)b;
        int order = target_path_compare(x->path, y->path);
        return order != 0 ? order : (x > y) - (x < y);
}

static GPtrArray *sorted(const struct target_change *changes, guint n)
{
        GPtrArray *ret = g_ptr_array_sized_new(n);
        for (guint i = 0; i < n; i++)
                g_ptr_array_add(ret, (gpointer)&changes[i]);
        g_ptr_array_sort(ret, change_compare);
        guint kept = 0;
        for (guint i = 0; i < n; i++) {
                const struct target_change *change = ret->pdata[i];
                const struct target_change *next = i + 1 < n ? ret->pdata[i + 1] : NULL;
                if (next == NULL || !g_str_equal(change->path, next->path)) /* the later one counts */
                        ret->pdata[kept++] = ret->pdata[i];
        }
        g_ptr_array_set_size(ret, (gint)kept);
        return ret;
}

Target *target_compose(const Target *before, const struct target_release *release,
                       const struct target_change *changes, guint n_changes)
{
        g_autoptr(GPtrArray) list = sorted(changes, n_changes);
        struct composition c = {
                .t = target_new(),
                .release = release_new(message_bytes(release->name), release->generation,
                                       message_blob(release->manifest_digest, DIGEST_SIZE)),
        };
        guint n_before = before != NULL ? before->items->len : 0;
        for (guint i = 0, j = 0; i < n_before || j < list->len;) {
                struct item *was = i < n_before ? g_ptr_array_index(before->items, i) : NULL;
                const struct target_change *change = j < list->len ? list->pdata[j] : NULL;
                int order = was == NULL      ? 1
                            : change == NULL ? -1
                                             : target_path_compare(was->path, change->path);
                if (order < 0)
                        keep(&c, was);
                else
                        put(&c, change, order == 0 ? was : NULL);
                i += order <= 0;
                j += order >= 0;
        }
        release_unref(c.release);
        return c.t;
}
