/* guest-agent/tree_answers.c - the host's questions about the tree, in a thread of their own. */
#include "guest-agent/tree_answers.h"

#include <errno.h>
#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/tree_look.h"
#include "guest-agent/worker.h"
#include "proto/message.h"

#define LOOK_TIME_US (2 * G_USEC_PER_SEC) /* then what there is is told */
#define PENDING_MAX  4u                   /* the host asks one thing at a time */

struct TreeAnswers {
        Worker *worker;
        char *root;
};

struct job {
        TreeAnswers *answers;
        struct ticket *ticket;
        GBytes *question; /* packed */
        Moult__TreePage *page;
        Moult__TreeData *data;
        GError *error;
};

TreeAnswers *tree_answers_new(const char *root)
{
        TreeAnswers *a = g_new0(TreeAnswers, 1);

        a->worker = worker_new();
        a->root = g_strdup(root);
        return a;
}

void tree_answers_free(TreeAnswers *a)
{
        if (!a)
                return;
        worker_free(a->worker);
        g_free(a->root);
        g_free(a);
}

static void run(gpointer data)
{
        struct job *j = data;
        g_autoptr(Message) m = message_decode(j->question, &j->error);
        scoped_fd int root = open(j->answers->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (!m)
                return;
        if (root < 0)
                moult_error_errno(&j->error, errno, "opening %s", j->answers->root);
        else if (m->body_case == MOULT__MESSAGE__BODY_TREE_QUERY)
                j->page = tree_look(root, m->tree_query, g_get_monotonic_time() + LOOK_TIME_US, &j->error);
        else
                j->data = tree_read(root, m->tree_read, &j->error);
}

static void done(gpointer data)
{
        struct job *j = data;
        Message m = MOULT__MESSAGE__INIT;

        if (j->page) {
                m.body_case = MOULT__MESSAGE__BODY_TREE_PAGE;
                m.tree_page = j->page;
                ticket_reply(j->ticket, &m);
        } else if (j->data) {
                m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
                m.tree_data = j->data;
                ticket_reply(j->ticket, &m);
        } else {
                ticket_reply_error(j->ticket, j->error);
        }
        tree_page_free(j->page);
        tree_data_free(j->data);
        g_bytes_unref(j->question);
        g_clear_error(&j->error);
        g_free(j);
}

void tree_answers_reply(TreeAnswers *a, struct ticket *ticket, const Message *m)
{
        struct job *j;

        if (worker_pending(a->worker) >= PENDING_MAX) {
                g_autoptr(GError) error = g_error_new_literal(
                        MOULT_ERROR, MOULT_ERROR_BUSY, "other questions about the files are being answered");

                ticket_reply_error(ticket, error);
                return;
        }
        j = g_new0(struct job, 1);
        j->answers = a;
        j->ticket = ticket;
        j->question = message_pack(m);
        worker_push(a->worker, run, done, j);
}
