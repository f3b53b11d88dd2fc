/* host-service/release/agent_tree.c - the tree of a machine with an agent, as what differs from one that we
 * have. */
#include "host-service/release/agent_tree.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/error.h"
#include "common/fs_beneath.h"
#include "common/path_order.h"
#include "host-service/release/agent_contents.h"
#include "host-service/release/agent_question.h"
#include "host-service/release/ask_ahead.h"
#include "host-service/release/build_xattr.h"
#include "proto/limits.h"

struct walk {
        const BuildTree *base;
        const struct agent_tree_asker *asker;
        const struct agent_tree_options *options;
        AskAhead *ahead;
        GArray *order;       /* guint: base's nodes as they are walked */
        guint next;          /* of order: the first that is not answered yet */
        char *after;         /* how far it is */
        GPtrArray *globs[2]; /* prune, no_content: char * */
        GHashTable *found;   /* path -> struct tree_node *, owned by the table but for what moves on */
        GHashTable *gone;    /* path */
        GHashTable *inodes;  /* "DEVICE:INODE" -> ino */
        ino_t last_ino;
};

static void node_free(gpointer data)
{
        struct tree_node *n = data;

        if (!n)
                return;
        for (unsigned i = 0; i < n->n_xattrs; i++) {
                g_free(n->xattrs[i].name);
                g_bytes_unref(n->xattrs[i].value);
        }
        g_free(n->xattrs);
        g_free(n->link_text);
        g_free(n->path);
        g_free(n);
}

static void walk_clear(struct walk *w)
{
        ask_ahead_free(w->ahead);
        g_clear_pointer(&w->order, g_array_unref);
        g_clear_pointer(&w->found, g_hash_table_unref);
        g_clear_pointer(&w->gone, g_hash_table_unref);
        g_clear_pointer(&w->inodes, g_hash_table_unref);
        for (unsigned i = 0; i < G_N_ELEMENTS(w->globs); i++)
                g_clear_pointer(&w->globs[i], g_ptr_array_unref);
        g_free(w->after);
}
typedef struct walk Walk;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Walk, walk_clear)

static gint compare_order(gconstpointer a, gconstpointer b, gpointer base)
{
        return path_order(build_tree_node(base, *(const guint *)a)->path,
                          build_tree_node(base, *(const guint *)b)->path);
}

static const struct tree_node *base_node(const Walk *w, guint at)
{
        return build_tree_node(w->base, g_array_index(w->order, guint, at));
}

/* ---- what the agent says ---- */

static gboolean disbelieve(const Walk *w, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "the agent of %s gave an answer that cannot be right (%s): nothing was written",
                    w->options->name, why);
        return FALSE;
}

static gboolean is_excluded(const char *const *globs, const char *path)
{
        g_autofree char *above = g_strdup(path);

        for (char *slash = NULL;; *slash = '\0') {
                if (build_tree_excludes(globs, above))
                        return TRUE;
                if ((slash = strrchr(above, '/')) == NULL)
                        return FALSE;
        }
}

static mode_t type_of(Moult__EntryType type)
{
        switch (type) {
        case MOULT__ENTRY_TYPE__ENTRY_FILE:
                return S_IFREG;
        case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                return S_IFDIR;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return S_IFLNK;
        case MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE:
                return S_IFCHR;
        case MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE:
                return S_IFBLK;
        case MOULT__ENTRY_TYPE__ENTRY_FIFO:
                return S_IFIFO;
        default:
                return 0;
        }
}

/* Names of one file get one number, and every other file its own. */
static ino_t inode_of(Walk *w, const Moult__TreeItem *item)
{
        g_autofree char *key = NULL;
        gpointer known;

        if (item->names <= 1)
                return ++w->last_ino;
        key = g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, item->device, item->inode);
        known = g_hash_table_lookup(w->inodes, key);
        if (known)
                return (ino_t)GPOINTER_TO_SIZE(known);
        g_hash_table_insert(w->inodes, g_steal_pointer(&key), GSIZE_TO_POINTER((gsize)++w->last_ino));
        return w->last_ino;
}

static const char *item_refusal(const Moult__TreeItem *item)
{
        if (type_of(item->type) == 0)
                return "an object of no known kind";
        if (item->mode > 07777 || item->mtime_ns > 999999999 || item->size > LIMIT_FILE_SIZE)
                return "a mode, time or size out of range";
        if (item->type == MOULT__ENTRY_TYPE__ENTRY_SYMLINK &&
            (item->link_target.len == 0 || memchr(item->link_target.data, 0, item->link_target.len)))
                return "a symbolic link to nothing";
        return NULL;
}

static struct tree_node *node_of(Walk *w, const Moult__TreeItem *item, const char *path)
{
        struct tree_node *n = g_new0(struct tree_node, 1);

        n->path = g_strdup(path);
        n->mode = type_of(item->type) | item->mode;
        n->uid = w->options->owner_root ? 0 : item->uid;
        n->gid = w->options->owner_root ? 0 : item->gid;
        n->mtime = (struct timespec){item->mtime_s, item->mtime_ns};
        n->size = S_ISREG(n->mode) ? item->size : 0;
        n->rdev = makedev(item->dev_major, item->dev_minor);
        n->ino = inode_of(w, item);
        if (S_ISLNK(n->mode))
                n->link_text = g_strndup((const char *)item->link_target.data, item->link_target.len);
        if (S_ISREG(n->mode) && item->digest.len == DIGEST_SIZE) {
                memcpy(n->digest, item->digest.data, DIGEST_SIZE);
                n->has_digest = true;
        }
        n->xattrs = g_new0(struct tree_xattr, item->n_xattrs + 1);
        for (size_t i = 0; i < item->n_xattrs; i++) {
                const Moult__Xattr *x = item->xattrs[i];
                g_autofree char *name = g_strndup((const char *)x->name.data, x->name.len);

                if (build_xattr_is_excluded(w->options->exclude_xattr, name))
                        continue;
                n->xattrs[n->n_xattrs].name = g_steal_pointer(&name);
                n->xattrs[n->n_xattrs++].value = g_bytes_new(x->value.data, x->value.len);
        }
        return n;
}

/* Takes what an answer says of the range (w->after, until]. *ret_reached: how far it went. */
static gboolean take_page(Walk *w, const Moult__TreePage *page, const char *until, char **ret_reached,
                          GError **error)
{
        ProtobufCBinaryData far = page->complete ? message_bytes(until) : page->reached;
        g_autofree char *reached = far.len > 0 ? g_strndup((const char *)far.data, far.len) : g_strdup("");
        g_autofree char *last = g_strdup(w->after);

        if (!page->complete && path_order(reached, w->after) <= 0)
                return disbelieve(w, "it does not get on", error);
        for (size_t i = 0; i < page->n_items; i++) {
                const Moult__TreeItem *item = page->items[i];
                g_autofree char *path = g_strndup((const char *)item->path.data, item->path.len);
                const char *why = item_refusal(item);

                if (fs_path_refusal((const guint8 *)path, strlen(path)) != NULL ||
                    path_order(path, last) <= 0 || (*reached && path_order(path, reached) > 0))
                        why = "a path that is out of order";
                if (g_hash_table_size(w->found) >= LIMIT_ENTRIES)
                        why = "more files than a release can hold";
                if (why)
                        return disbelieve(w, why, error);
                if (!is_excluded(w->options->exclude, path))
                        g_hash_table_insert(w->found, g_strdup(path), node_of(w, item, path));
                g_free(last);
                last = g_steal_pointer(&path);
        }
        for (size_t i = 0; i < page->n_gone; i++)
                g_hash_table_add(w->gone, g_strndup((const char *)page->gone[i].data, page->gone[i].len));
        *ret_reached = g_steal_pointer(&reached);
        return TRUE;
}

/* ---- the walk ---- */

/* Where the range ends that has what is supposed up to order[@at], that one left out: "" for the end of the
 * tree; owned by the base. */
static const char *end_at(const Walk *w, guint at)
{
        return at < w->order->len ? base_node(w, at - 1)->path : "";
}

/* The question for what follows @after, with what is supposed from order[*at] on: as much as fits, and not
 * order[@limit]. */
static AgentQuestion *question_for(const Walk *w, const char *after, guint *at, guint limit)
{
        AgentQuestion *q = agent_question_new(after, w->options->hash, w->globs[0], w->globs[1]);

        while (*at < limit && agent_question_add(q, base_node(w, *at), w->options->hash))
                (*at)++;
        agent_question_set_until(q, end_at(w, *at));
        return q;
}

static gboolean take_answer(Walk *w, const Message *answer, const char *until, GError **error)
{
        char *reached;

        if (answer->body_case != MOULT__MESSAGE__BODY_TREE_PAGE)
                return disbelieve(w, "it is of another kind", error);
        if (!take_page(w, answer->tree_page, until, &reached, error))
                return FALSE;
        g_free(w->after);
        w->after = reached;
        if (w->asker->progress)
                w->asker->progress(w->after, w->asker->user);
        return TRUE;
}

/* What an answer left over of its range, which ends before order[@limit]: one question after the other. */
static gboolean ask_rest(Walk *w, guint limit, GCancellable *cancellable, GError **error)
{
        for (gboolean complete = FALSE; !complete;) {
                guint at = w->next;

                if (g_cancellable_set_error_if_cancelled(cancellable, error))
                        return FALSE;
                while (at < limit && path_order(base_node(w, at)->path, w->after) <= 0)
                        at++;
                w->next = at;
                g_autoptr(AgentQuestion) q = question_for(w, w->after, &at, limit);
                g_autoptr(Message) answer = w->asker->ask(agent_question_message(q), w->asker->user, error);

                if (!answer || !take_answer(w, answer, end_at(w, at), error))
                        return FALSE;
                complete = answer->tree_page->complete && at == limit;
        }
        return TRUE;
}

/* Takes the answer to the oldest question, for the range that ends before order[@limit]. */
static gboolean take_range(Walk *w, guint limit, GCancellable *cancellable, GError **error)
{
        g_autoptr(Message) answer = ask_ahead_take(w->ahead, error);

        if (g_cancellable_set_error_if_cancelled(cancellable, answer ? error : NULL) || !answer ||
            !take_answer(w, answer, end_at(w, limit), error))
                return FALSE;
        if (!answer->tree_page->complete && !ask_rest(w, limit, cancellable, error))
                return FALSE;
        w->next = limit;
        return TRUE;
}

/* Which range is asked about does not depend on the answers, so several are under way. */
static gboolean ask_on(Walk *w, GCancellable *cancellable, GError **error)
{
        g_autoptr(GArray) limits = g_array_new(FALSE, FALSE, sizeof(guint));
        guint at = 0, taken = 0;
        gboolean all_asked = FALSE;

        do {
                while (!all_asked && ask_ahead_has_room(w->ahead)) {
                        g_autoptr(AgentQuestion) q =
                                question_for(w, at > 0 ? end_at(w, at) : "", &at, w->order->len);

                        ask_ahead_push(w->ahead, agent_question_message(q));
                        g_array_append_val(limits, at);
                        all_asked = at == w->order->len;
                }
                if (!take_range(w, g_array_index(limits, guint, taken++), cancellable, error))
                        return FALSE;
        } while (taken < limits->len || !all_asked);
        return TRUE;
}

/* The pages that answer one question, from answers[*at] on. */
static gboolean take_pages(Walk *w, const GPtrArray *answers, guint *at, const char *until, GError **error)
{
        for (gboolean complete = FALSE; !complete; (*at)++) {
                if (*at >= answers->len)
                        return disbelieve(w, "it ends too early", error);
                g_autoptr(Message) m = message_unpack(g_ptr_array_index(answers, *at), error);

                if (!m || !take_answer(w, m, until, error))
                        return FALSE;
                complete = m->tree_page->complete;
        }
        return TRUE;
}

static gboolean ask_at_once(Walk *w, GCancellable *cancellable, GError **error)
{
        g_autoptr(GPtrArray) questions = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        g_autoptr(GPtrArray) ends = g_ptr_array_new(); /* const char *, until where each of them goes */
        const char *until = "";
        guint next = 0, at = 0;

        do {
                g_autoptr(AgentQuestion) q = question_for(w, until, &next, w->order->len);

                until = end_at(w, next);
                g_ptr_array_add(questions, message_pack(agent_question_message(q)));
                g_ptr_array_add(ends, (gpointer)until);
        } while (*until);
        g_autoptr(GPtrArray) answers = w->asker->ask_all(questions, w->asker->user, error);
        if (!answers)
                return FALSE;
        for (guint i = 0; i < ends->len; i++)
                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !take_pages(w, answers, &at, g_ptr_array_index(ends, i), error))
                        return FALSE;
        return TRUE;
}

/* ---- putting it together ---- */

/* What the agent did not speak of is what the base has. */
static void take_same(const Walk *w, BuildTree *t)
{
        for (unsigned i = 0; w->base && i < build_tree_count(w->base); i++) {
                const struct tree_node *b = build_tree_node(w->base, i);
                struct tree_node n = *b;

                if (g_hash_table_contains(w->gone, b->path) || g_hash_table_contains(w->found, b->path))
                        continue;
                n.path = g_strdup(b->path);
                n.link_text = g_strdup(b->link_text);
                n.xattrs = g_new0(struct tree_xattr, b->n_xattrs + 1);
                for (unsigned x = 0; x < b->n_xattrs; x++)
                        n.xattrs[x] = (struct tree_xattr){g_strdup(b->xattrs[x].name),
                                                          g_bytes_ref(b->xattrs[x].value)};
                build_tree_add(t, &n);
        }
}

static void take_found(const Walk *w, BuildTree *t)
{
        GHashTableIter i;
        gpointer value;

        for (g_hash_table_iter_init(&i, w->found); g_hash_table_iter_next(&i, NULL, &value);) {
                build_tree_add(t, value);
                *(struct tree_node *)value = (struct tree_node){0}; /* its parts belong to the tree now */
        }
}

static GPtrArray *all_names(void)
{
        GPtrArray *globs = g_ptr_array_new_with_free_func(g_free);

        g_ptr_array_add(globs, g_strdup("*"));
        return globs;
}

BuildTree *agent_tree_read(const BuildTree *base, const struct agent_tree_asker *asker,
                           const struct agent_tree_options *options, GCancellable *cancellable,
                           GError **error)
{
        g_auto(Walk) w = {.base = base,
                          .asker = asker,
                          .options = options,
                          .ahead = ask_ahead_new(asker),
                          .after = g_strdup("")};
        gboolean ok;

        w.order = g_array_new(FALSE, FALSE, sizeof(guint));
        for (guint i = 0; base && i < build_tree_count(base); i++)
                g_array_append_val(w.order, i);
        if (base)
                g_array_sort_with_data(w.order, compare_order, (gpointer)base);
        w.found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, node_free);
        w.gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        w.inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        w.globs[0] = per_vm_list_globs(options->per_vm, TRUE);
        w.globs[1] = options->names_only ? all_names() : per_vm_list_globs(options->per_vm, FALSE);
        ok = asker->ask_all ? ask_at_once(&w, cancellable, error) : ask_on(&w, cancellable, error);
        if (!ok) {
                g_prefix_error(error, "looking at the files of %s: ", options->name);
                return NULL;
        }
        BuildTree *t = build_tree_new(options->name, &agent_contents_source,
                                      agent_contents_new(options->name, g_steal_pointer(&w.ahead)));
        take_same(&w, t);
        take_found(&w, t);
        build_tree_finish(t);
        return t;
}
