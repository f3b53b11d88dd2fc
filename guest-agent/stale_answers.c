/* guest-agent/stale_answers.c - looks and restarts, in the engine's turn. */
#include "guest-agent/stale_answers.h"

#include <string.h>

#include "common/events.h"
#include "guest-agent/stale.h"
#include "proto/message.h"

struct StaleAnswers {
        Worker *engine;
        Upgrade *upgrade;
        Moult__StaleReport *restarted; /* worker thread only: what the newest restarts led to, or NULL */
};

struct job {
        StaleAnswers *answers;
        Operation *op;         /* restart */
        struct ticket *ticket; /* reply */
        guint8 id[16];
        gboolean has_id;
        Moult__StaleReport *report;
        GError *error;
};

StaleAnswers *stale_answers_new(Worker *engine, Upgrade *upgrade)
{
        StaleAnswers *a = g_new0(StaleAnswers, 1);

        a->engine = engine;
        a->upgrade = upgrade;
        return a;
}

void stale_answers_free(StaleAnswers *a)
{
        if (!a)
                return;
        stale_report_free(a->restarted);
        g_free(a);
}

static void job_free(struct job *j)
{
        operation_unref(j->op);
        ticket_free(j->ticket);
        stale_report_free(j->report);
        g_clear_error(&j->error);
        g_free(j);
}

/* ---- restarts ---- */

static gboolean is_of(const Moult__StaleReport *r, const guint8 *id)
{
        return r && r->push_id.len == 16 && memcmp(r->push_id.data, id, 16) == 0;
}

static void log_restart(const Moult__StaleRestart *r)
{
        g_autofree char *unit = message_string(r->unit), *why = message_string(r->error);

        if (why[0])
                event_log(EVENT_ERROR, "agent-stale-restart-failed", why, "unit", unit, NULL);
        else
                event_log(EVENT_INFO, "agent-stale-restarted",
                          "restarted a unit of the release that still ran replaced files", "unit", unit,
                          NULL);
}

static void restart_run(gpointer data)
{
        struct job *j = data;
        StaleAnswers *a = j->answers;
        const guint8 *id = operation_id(j->op);
        Moult__StaleReport *r;

        if (operation_phase(j->op) != MOULT__TRANSACTION_PHASE__PHASE_COMMITTED || is_of(a->restarted, id))
                return;
        r = stale_look_after_restarts(a->upgrade, id, &j->error);
        if (!r) {
                event_log(EVENT_WARNING, "agent-stale-unknown", j->error->message, NULL);
                return;
        }
        for (size_t i = 0; i < r->n_restarts; i++)
                log_restart(r->restarts[i]);
        stale_report_free(a->restarted);
        a->restarted = r;
}

static void restart_done(gpointer data)
{
        job_free(data);
}

void stale_answers_restart(StaleAnswers *a, Operation *op)
{
        struct job *j;

        if (!operation_wants_restarts(op))
                return;
        j = g_new0(struct job, 1);
        j->answers = a;
        j->op = operation_ref(op);
        worker_push(a->engine, restart_run, restart_done, j);
}

/* ---- looks ---- */

static Moult__StaleReport *report_copy(const Moult__StaleReport *r)
{
        gsize len = moult__stale_report__get_packed_size(r);
        g_autofree guint8 *buf = g_malloc(MAX(len, 1));

        moult__stale_report__pack(r, buf);
        return moult__stale_report__unpack(NULL, len, buf);
}

/* A fresh look, with the restarts that came before it. */
static void add_restarts(Moult__StaleReport *r, const Moult__StaleReport *restarted)
{
        Moult__StaleReport *copy = report_copy(restarted);

        for (size_t i = 0; i < r->n_restarts; i++)
                moult__stale_restart__free_unpacked(r->restarts[i], NULL);
        g_free(r->restarts);
        r->n_restarts = copy->n_restarts;
        r->restarts = g_steal_pointer(&copy->restarts);
        copy->n_restarts = 0;
        stale_report_free(copy);
}

static void look_run(gpointer data)
{
        struct job *j = data;

        j->report = stale_look(j->answers->upgrade, j->has_id ? j->id : NULL, &j->error);
        if (j->report && j->has_id && is_of(j->answers->restarted, j->id))
                add_restarts(j->report, j->answers->restarted);
}

static void look_done(gpointer data)
{
        struct job *j = data;
        Message m = MOULT__MESSAGE__INIT;

        m.body_case = MOULT__MESSAGE__BODY_STALE_REPORT;
        m.stale_report = j->report;
        if (j->report)
                ticket_reply(g_steal_pointer(&j->ticket), &m);
        else
                ticket_reply_error(g_steal_pointer(&j->ticket), j->error);
        job_free(j);
}

void stale_answers_reply(StaleAnswers *a, struct ticket *ticket, ProtobufCBinaryData push_id)
{
        struct job *j = g_new0(struct job, 1);

        j->answers = a;
        j->ticket = ticket;
        j->has_id = push_id.len == sizeof j->id;
        if (j->has_id)
                memcpy(j->id, push_id.data, sizeof j->id);
        worker_push(a->engine, look_run, look_done, j);
}
