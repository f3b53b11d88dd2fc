/* guest-agent/look_answers.c - the host's questions for which the machine must be looked at. */
#include "guest-agent/look_answers.h"

#include <errno.h>
#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/facts.h"
#include "guest-agent/tree_look.h"
#include "guest-agent/worker.h"
#include "proto/message.h"

#define LOOK_TIME_US (2 * G_USEC_PER_SEC) /* then what there is is told */
#define LOOKS_MAX    4u                   /* at a time; no more than there are CPUs */
#define PENDING_MAX  8u                   /* a walk has 4 under way; others ask meanwhile */

struct LookAnswers {
        Worker *worker;
        const struct agent_config *config;
};

struct job {
        LookAnswers *answers;
        struct ticket *ticket;
        GBytes *question; /* packed */
        Moult__TransactionPhase phase;
        Moult__Facts *facts;
        Moult__TreePage *page;
        Moult__TreeData *data;
        GError *error;
};

LookAnswers *look_answers_new(const struct agent_config *config)
{
        LookAnswers *a = g_new0(LookAnswers, 1);

        a->worker = worker_new(CLAMP(g_get_num_processors(), 1, LOOKS_MAX));
        a->config = config;
        return a;
}

void look_answers_free(LookAnswers *a)
{
        if (!a)
                return;
        worker_free(a->worker);
        g_free(a);
}

static void run(gpointer data)
{
        struct job *j = data;
        const char *path = j->answers->config->root;
        g_autoptr(Message) m = message_decode(j->question, &j->error);
        scoped_fd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (!m)
                return;
        if (m->body_case == MOULT__MESSAGE__BODY_FACTS_QUERY)
                j->facts = facts_look(j->answers->config, j->phase);
        else if (root < 0)
                moult_error_errno(&j->error, errno, "opening %s", path);
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
        } else if (j->facts) {
                m.body_case = MOULT__MESSAGE__BODY_FACTS;
                m.facts = j->facts;
                ticket_reply(j->ticket, &m);
        } else {
                ticket_reply_error(j->ticket, j->error);
        }
        facts_free(j->facts);
        tree_page_free(j->page);
        tree_data_free(j->data);
        g_bytes_unref(j->question);
        g_clear_error(&j->error);
        g_free(j);
}

void look_answers_reply(LookAnswers *a, struct ticket *ticket, const Message *m,
                        Moult__TransactionPhase phase)
{
        struct job *j;

        if (worker_pending(a->worker) >= PENDING_MAX) {
                g_autoptr(GError) error = g_error_new_literal(
                        MOULT_ERROR, MOULT_ERROR_BUSY, "other questions of this kind are being answered");

                ticket_reply_error(ticket, error);
                return;
        }
        j = g_new0(struct job, 1);
        j->answers = a;
        j->ticket = ticket;
        j->question = message_pack(m);
        j->phase = phase;
        worker_push(a->worker, run, done, j);
}
