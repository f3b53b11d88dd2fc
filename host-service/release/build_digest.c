/* host-service/release/build_digest.c - fs-verity digests of many files of a tree, in parallel.
 *
 * Workers take the next file from a shared counter: large and small files mix without a queue, and the first
 * failure makes the counter run out for all. */
#include "host-service/release/build_digest.h"

#include "common/fd.h"

struct work {
        BuildTree *tree;
        const GArray *wanted;
        build_digest_observer observer;
        gpointer user;
        GCancellable *cancellable;
        gint next;     /* atomic: the next element of wanted */
        GMutex lock;   /* protects error */
        GError *error; /* the first one */
};

static gboolean digest_one(struct work *w, Hasher *h, unsigned index, GError **error)
{
        const struct tree_node *n = build_tree_node(w->tree, index);
        uint8_t digest[DIGEST_SIZE];
        scoped_fd int fd = build_tree_open(w->tree, index, error);

        if (fd < 0)
                return FALSE;
        if (!verity_digest_fd(h, fd, n->size, digest, w->cancellable, error)) {
                g_prefix_error(error, "reading %s in %s: ", n->path, build_tree_dir(w->tree));
                return FALSE;
        }
        if (!build_tree_still(w->tree, index, fd, error))
                return FALSE;
        build_tree_set_digest(w->tree, index, digest);
        return TRUE;
}

static gpointer worker(gpointer data)
{
        struct work *w = data;
        g_autoptr(Hasher) h = hasher_new();

        for (;;) {
                g_autoptr(GError) error = NULL;
                gint i = g_atomic_int_add(&w->next, 1);

                if (i < 0 || (guint)i >= w->wanted->len)
                        return NULL;
                unsigned index = g_array_index(w->wanted, guint, i);
                if (!g_cancellable_set_error_if_cancelled(w->cancellable, &error) &&
                    digest_one(w, h, index, &error)) {
                        if (w->observer)
                                w->observer(build_tree_node(w->tree, index)->size, w->user);
                        continue;
                }
                g_mutex_lock(&w->lock);
                if (!w->error)
                        w->error = g_steal_pointer(&error);
                g_mutex_unlock(&w->lock);
                g_atomic_int_set(&w->next, (gint)w->wanted->len);
                return NULL;
        }
}

gboolean build_digest_run(BuildTree *t, const GArray *wanted, unsigned threads,
                          build_digest_observer observer, gpointer user, GCancellable *cancellable,
                          GError **error)
{
        struct work w = {
                .tree = t, .wanted = wanted, .observer = observer, .user = user, .cancellable = cancellable};
        g_autoptr(GPtrArray) started = g_ptr_array_new();

        if (threads == 0)
                threads = g_get_num_processors();
        threads = CLAMP(threads, 1, MAX(wanted->len, 1));
        g_mutex_init(&w.lock);
        for (unsigned i = 1; i < threads; i++) {
                GThread *thread = g_thread_try_new("build-digest", worker, &w, NULL);

                if (thread)
                        g_ptr_array_add(started, thread);
        }
        worker(&w); /* this thread too, so that the work is done even where no thread can be made */
        for (guint i = 0; i < started->len; i++)
                g_thread_join(g_ptr_array_index(started, i));
        g_mutex_clear(&w.lock);
        if (!w.error)
                return TRUE;
        g_propagate_error(error, w.error);
        return FALSE;
}
