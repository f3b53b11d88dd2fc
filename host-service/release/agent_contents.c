/* host-service/release/agent_contents.c - the contents of a machine's files, fetched from its agent. */
#include "host-service/release/agent_contents.h"

#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/release/scratch.h"
#include "proto/limits.h"

struct piece {
        const struct tree_node *node; /* of the tree whose contents we are */
        guint64 offset;
};

struct AgentContents {
        GMutex lock; /* one file at a time */
        char *name;
        AskAhead *ahead;
        GQueue asked;        /* struct piece *, in the order in which they were asked for */
        GPtrArray *expected; /* struct tree_node *, files that are not empty */
        guint next;          /* of expected: the one that is to be asked for */
        guint64 next_offset;
};

AgentContents *agent_contents_new(const char *name, AskAhead *ahead)
{
        AgentContents *c = g_new0(AgentContents, 1);

        g_mutex_init(&c->lock);
        g_queue_init(&c->asked);
        c->name = g_strdup(name);
        c->ahead = ahead;
        c->expected = g_ptr_array_new();
        return c;
}

static void contents_free(gpointer self)
{
        AgentContents *c = self;

        ask_ahead_free(c->ahead);
        g_queue_clear_full(&c->asked, g_free);
        g_ptr_array_unref(c->expected);
        g_mutex_clear(&c->lock);
        g_free(c->name);
        g_free(c);
}

/* ---- asking ---- */

static void push(AgentContents *c, const struct tree_node *n, guint64 offset)
{
        Moult__TreeRead what = MOULT__TREE_READ__INIT;
        Message m = MOULT__MESSAGE__INIT;
        struct piece *p = g_new(struct piece, 1);

        what.path = message_bytes(n->path);
        what.offset = offset;
        what.length = (guint32)MIN(n->size - offset, LIMIT_DATA_BYTES);
        m.body_case = MOULT__MESSAGE__BODY_TREE_READ;
        m.tree_read = &what;
        ask_ahead_push(c->ahead, &m);
        *p = (struct piece){n, offset};
        g_queue_push_tail(&c->asked, p);
}

static void ask_on(AgentContents *c)
{
        while (c->next < c->expected->len && ask_ahead_has_room(c->ahead)) {
                const struct tree_node *n = g_ptr_array_index(c->expected, c->next);

                push(c, n, c->next_offset);
                c->next_offset += LIMIT_DATA_BYTES;
                if (c->next_offset >= n->size) {
                        c->next++;
                        c->next_offset = 0;
                }
        }
}

static gboolean is_next(AgentContents *c, const struct tree_node *n, guint64 offset)
{
        const struct piece *p = g_queue_peek_head(&c->asked);

        return p && p->node == n && p->offset == offset;
}

/* What was asked for in vain is thrown away. */
static void expect_nothing(AgentContents *c)
{
        g_ptr_array_set_size(c->expected, 0);
        c->next = 0;
        c->next_offset = 0;
        while (!g_queue_is_empty(&c->asked)) {
                Message *answer = ask_ahead_take(c->ahead, NULL);

                if (answer)
                        message_free(answer);
                g_free(g_queue_pop_head(&c->asked));
        }
}

static Message *take(AgentContents *c, const struct tree_node *n, guint64 offset, GError **error)
{
        Message *answer;

        ask_on(c);
        if (!is_next(c, n, offset)) {
                expect_nothing(c);
                push(c, n, offset);
        }
        g_free(g_queue_pop_head(&c->asked));
        answer = ask_ahead_take(c->ahead, error);
        ask_on(c);
        return answer;
}

/* ---- files ---- */

static gboolean fetch_piece(AgentContents *c, const struct tree_node *n, int fd, guint64 offset,
                            GError **error)
{
        guint64 want = MIN(n->size - offset, LIMIT_DATA_BYTES);
        g_autoptr(Message) answer = take(c, n, offset, error);

        if (!answer)
                return FALSE;
        if (answer->body_case != MOULT__MESSAGE__BODY_TREE_DATA || answer->tree_data->bytes.len != want) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "/%s in %s has changed since it was listed: capture again", n->path, c->name);
                return FALSE;
        }
        return fd_pwrite_all(fd, answer->tree_data->bytes.data, answer->tree_data->bytes.len, (off_t)offset,
                             "a temporary file", error);
}

static int fetch(AgentContents *c, const struct tree_node *n, GError **error)
{
        scoped_fd int fd = scratch_file_new(error);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];

        for (guint64 at = 0; fd >= 0 && at < n->size; at += LIMIT_DATA_BYTES)
                if (!fetch_piece(c, n, fd, at, error)) {
                        g_prefix_error(error, "fetching /%s from %s: ", n->path, c->name);
                        return -1;
                }
        if (fd < 0 || (n->has_digest && !verity_digest_fd(h, fd, n->size, digest, NULL, error)))
                return -1;
        if (n->has_digest && memcmp(digest, n->digest, DIGEST_SIZE) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "/%s in %s has changed since it was listed: nothing was written; capture again "
                            "when nobody "
                            "works on it",
                            n->path, c->name);
                return -1;
        }
        lseek(fd, 0, SEEK_SET);
        return g_steal_fd(&fd);
}

static int contents_open(gpointer self, const struct tree_node *n, GError **error)
{
        AgentContents *c = self;
        int fd;

        g_mutex_lock(&c->lock);
        fd = fetch(c, n, error);
        g_mutex_unlock(&c->lock);
        return fd;
}

static void contents_expect(gpointer self, const struct tree_node *const *nodes, guint n)
{
        AgentContents *c = self;

        g_mutex_lock(&c->lock);
        expect_nothing(c);
        for (guint i = 0; i < n; i++)
                if (nodes[i]->size > 0)
                        g_ptr_array_add(c->expected, (gpointer)nodes[i]);
        ask_on(c);
        g_mutex_unlock(&c->lock);
}

const struct build_tree_source agent_contents_source = {
        .open = contents_open,
        .expect = contents_expect,
        .free = contents_free,
};
