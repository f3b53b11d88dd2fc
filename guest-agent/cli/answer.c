/* guest-agent/cli/answer.c - `moult-agent answer`: the host's questions about a tree, from a file.
 *
 * For trees that no agent runs in: an image that is open in a virtual machine of the host's. The same
 * questions and answers as over a session (tree_look.h), many at once. A file of messages is their packed
 * bytes, each after its length (32 bits, little-endian). A question is answered by as many pages as it takes;
 * the last of them says that it is complete. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/path_order.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/tree_look.h"
#include "proto/limits.h"
#include "proto/message.h"

struct answering {
        int root, out;
        GBytes *questions;
        gsize at;
};

static gboolean write_message(int fd, const Message *m, GError **error)
{
        g_autoptr(GBytes) packed = message_pack(m);
        gsize len;
        gconstpointer data = g_bytes_get_data(packed, &len);
        guint32 head = GUINT32_TO_LE((guint32)len);

        return fd_write_all(fd, &head, sizeof head, "the answers", error) &&
               fd_write_all(fd, data, len, "the answers", error);
}

/* NULL with @error; NULL without it at the end. */
static Message *next_question(struct answering *a, GError **error)
{
        gsize size, left;
        const guint8 *data = g_bytes_get_data(a->questions, &size);
        guint32 len = 0;

        left = size - a->at;
        if (left == 0)
                return NULL;
        if (left >= sizeof len)
                memcpy(&len, data + a->at, sizeof len);
        len = GUINT32_FROM_LE(len);
        if (left < sizeof len || len > left - sizeof len || len > LIMIT_FRAME_PAYLOAD) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the questions are cut off");
                return NULL;
        }
        g_autoptr(GBytes) payload = g_bytes_new_from_bytes(a->questions, a->at + sizeof len, len);
        a->at += sizeof len + len;
        Message *m = message_unpack(payload, error);
        if (m && m->body_case != MOULT__MESSAGE__BODY_TREE_QUERY) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "only questions about the tree are answered here");
                g_clear_pointer(&m, message_free);
        }
        return m;
}

/* The question goes on behind @page: what it supposed before is answered. @skipped: of its items. */
static void go_on_behind(Moult__TreeQuery *q, const Moult__TreePage *page, gsize *skipped)
{
        while (q->n_supposed > 0 &&
               path_order_bytes(q->supposed[0]->path.data, q->supposed[0]->path.len,
                                (const char *)page->reached.data, page->reached.len) <= 0) {
                q->supposed++;
                q->n_supposed--;
                (*skipped)++;
        }
        q->after = page->reached;
}

static gboolean answer_one(struct answering *a, Moult__TreeQuery *q, GError **error)
{
        g_autofree char *reached = NULL;
        ProtobufCBinaryData after = q->after;
        gsize skipped = 0;
        gboolean complete = FALSE, ok = TRUE;

        while (ok && !complete) {
                Message m = MOULT__MESSAGE__INIT;
                Moult__TreePage *page = tree_look(a->root, q, G_MAXINT64, error);

                if (!page) {
                        ok = FALSE;
                        break;
                }
                m.body_case = MOULT__MESSAGE__BODY_TREE_PAGE;
                m.tree_page = page;
                ok = write_message(a->out, &m, error);
                complete = page->complete;
                if (!complete) {
                        go_on_behind(q, page, &skipped);
                        g_free(reached);
                        reached = g_strndup((const char *)page->reached.data, page->reached.len);
                        q->after = message_bytes(reached);
                }
                tree_page_free(page);
        }
        /* As they were, for whoever frees the question. */
        q->supposed -= skipped;
        q->n_supposed += skipped;
        q->after = after;
        return ok;
}

static gboolean answer_all(const char *root, const char *questions, const char *answers, GError **error)
{
        scoped_fd int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        scoped_fd int out = open(answers, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        g_autoptr(GBytes) all = fd_read_file_at(AT_FDCWD, questions, G_MAXSSIZE, error);
        struct answering a = {root_fd, out, all, 0};
        g_autoptr(GError) own = NULL;

        if (!all)
                return FALSE;
        if (root_fd < 0 || out < 0)
                return moult_error_errno(error, errno, "opening %s", root_fd < 0 ? root : answers);
        for (;;) {
                g_autoptr(Message) m = next_question(&a, &own);

                if (!m)
                        break;
                if (!answer_one(&a, m->tree_query, error))
                        return FALSE;
        }
        if (!own)
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&own));
        return FALSE;
}

int command_answer(int argc, char **argv)
{
        struct offline_options o = {0};
        const GOptionEntry entries[] = {OFFLINE_OPTIONS(&o), G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;

        if (!command_parse(&argc, &argv, entries, "QUESTIONS ANSWERS",
                           "Answers a host's questions about a tree, from one file into another.", &status)) {
                /* status is set */
        } else if (argc != 3) {
                g_printerr("moult-agent: a file of questions and one for the answers are needed\n");
                status = AGENT_EXIT_USAGE;
        } else {
                status = answer_all(o.root ? o.root : "/", argv[1], argv[2], &error) ? AGENT_EXIT_OK
                                                                                     : command_fail(error);
        }
        offline_options_clear(&o);
        return status;
}
