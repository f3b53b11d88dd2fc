/* host-service/release/agent_question.c - one TreeQuery, put together from nodes of a tree. */
#include "host-service/release/agent_question.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "proto/limits.h"
#include "shm/entry_metadata.h"

#define QUESTION_BYTES (96u * 1024u)

struct AgentQuestion {
        Message message;
        Moult__TreeQuery query;
        char *after, *until;
        GPtrArray *items; /* Moult__TreeItem, with their xattrs */
        gsize bytes;
};

static void item_free(gpointer data)
{
        Moult__TreeItem *item = data;

        for (size_t i = 0; i < item->n_xattrs; i++)
                g_free(item->xattrs[i]);
        g_free(item->xattrs);
        g_free(item);
}

static ProtobufCBinaryData *binaries(const GPtrArray *texts, size_t *ret_n)
{
        ProtobufCBinaryData *all = g_new0(ProtobufCBinaryData, texts->len + 1);

        *ret_n = MIN(texts->len, LIMIT_TREE_GLOBS);
        for (guint i = 0; i < *ret_n; i++)
                all[i] = message_bytes(g_ptr_array_index(texts, i));
        return all;
}

AgentQuestion *agent_question_new(const char *after, gboolean hash, const GPtrArray *prune,
                                  const GPtrArray *no_content)
{
        AgentQuestion *q = g_new0(AgentQuestion, 1);

        moult__message__init(&q->message);
        moult__tree_query__init(&q->query);
        q->message.body_case = MOULT__MESSAGE__BODY_TREE_QUERY;
        q->message.tree_query = &q->query;
        q->after = g_strdup(after);
        q->query.after = message_bytes(q->after);
        q->query.hash = hash;
        q->query.prune = binaries(prune, &q->query.n_prune);
        q->query.no_content = binaries(no_content, &q->query.n_no_content);
        q->items = g_ptr_array_new_with_free_func(item_free);
        return q;
}

void agent_question_free(AgentQuestion *q)
{
        if (!q)
                return;
        g_free(q->query.prune);
        g_free(q->query.no_content);
        g_ptr_array_unref(q->items);
        g_free(q->after);
        g_free(q->until);
        g_free(q);
}

static void set_xattrs(Moult__TreeItem *item, const struct tree_node *n)
{
        item->xattrs = g_new0(Moult__Xattr *, n->n_xattrs + 1);
        for (unsigned i = 0; i < n->n_xattrs; i++) {
                gsize len;
                gconstpointer value = g_bytes_get_data(n->xattrs[i].value, &len);
                Moult__Xattr *x = g_new(Moult__Xattr, 1);

                moult__xattr__init(x);
                x->name = message_bytes(n->xattrs[i].name);
                x->value = message_blob(value, len);
                item->xattrs[item->n_xattrs++] = x;
        }
}

gboolean agent_question_add(AgentQuestion *q, const struct tree_node *n, gboolean with_digest)
{
        Moult__TreeItem *item = g_new(Moult__TreeItem, 1);

        moult__tree_item__init(item);
        item->path = message_bytes(n->path);
        item->type = entry_type_of_mode(n->mode);
        item->mode = S_ISLNK(n->mode) ? 0 : n->mode & 07777;
        item->uid = n->uid;
        item->gid = n->gid;
        item->mtime_s = n->mtime.tv_sec;
        item->mtime_ns = (guint32)n->mtime.tv_nsec;
        item->size = n->size;
        if (with_digest && n->has_digest)
                item->digest = message_blob(n->digest, DIGEST_SIZE);
        if (S_ISLNK(n->mode))
                item->link_target = message_bytes(n->link_text);
        if (S_ISCHR(n->mode) || S_ISBLK(n->mode)) {
                item->dev_major = major(n->rdev);
                item->dev_minor = minor(n->rdev);
        }
        item->names = S_ISREG(n->mode) ? n->n_names : 0;
        set_xattrs(item, n);
        q->bytes += moult__tree_item__get_packed_size(item) + 8;
        if (q->items->len > 0 && (q->items->len >= LIMIT_TREE_ITEMS || q->bytes > QUESTION_BYTES)) {
                item_free(item);
                return FALSE;
        }
        g_ptr_array_add(q->items, item);
        return TRUE;
}

void agent_question_set_until(AgentQuestion *q, const char *until)
{
        g_free(q->until);
        q->until = g_strdup(until);
        q->query.until = message_bytes(q->until);
}

const Message *agent_question_message(AgentQuestion *q)
{
        q->query.n_supposed = q->items->len;
        q->query.supposed = (Moult__TreeItem **)q->items->pdata;
        return &q->message;
}
