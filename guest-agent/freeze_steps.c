/* guest-agent/freeze_steps.c - the steps of a freeze: hooks, the process that holds it, what comes after it.
 */
#include <errno.h>
#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "guest-agent/freeze_hooks.h"
#include "guest-agent/freeze_private.h"
#include "guest-agent/freeze_start.h"

/* ---- hooks ---- */

struct hooks_job {
        Freezes *f;
        struct freeze_state *state; /* the thread's own: id, and what was begun */
        GError *error;
        char *hook, *output;
        guint run;
};

struct hook_begun {
        Freezes *f;
        char *name;
};

static void hooks_job_free(struct hooks_job *j)
{
        freeze_state_free(j->state);
        g_clear_error(&j->error);
        g_free(j->hook);
        g_free(j->output);
        g_free(j);
}

static struct freeze_hooks hooks_of(struct hooks_job *j)
{
        return (struct freeze_hooks){.directory = j->f->config->freeze_hooks,
                                     .timeout_ms = j->f->config->freeze_hook_timeout_s * 1000,
                                     .id = j->state->id,
                                     .user = j};
}

static struct hooks_job *hooks_job_new(Freezes *f)
{
        struct hooks_job *j = g_new0(struct hooks_job, 1);

        j->f = f;
        j->state = freeze_state_new(f->now->id);
        j->state->phase = f->now->phase;
        for (guint i = 0; i + 1 < f->now->begun->len; i++)
                freeze_state_add_begun(j->state, f->now->begun->pdata[i]);
        return j;
}

static void on_hook_begun(gpointer data)
{
        struct hook_begun *b = data;
        Freezes *f = b->f;

        if (f->now->phase == P(HOOKS)) {
                g_free(f->now->hook);
                f->now->hook = g_steal_pointer(&b->name);
                freeze_notify(f);
        }
        g_free(b->name);
        g_free(b);
}

/* In the worker. It is written down before it is run. */
static gboolean begins_hook(const char *name, gpointer user)
{
        struct hooks_job *j = user;
        struct hook_begun *b;

        if (g_atomic_int_get(&j->f->thaw_asked))
                return FALSE;
        freeze_state_add_begun(j->state, name);
        freeze_state_save(j->state, j->f->directory, NULL); /* without it the next agent runs no post hook */
        b = g_new(struct hook_begun, 1);
        *b = (struct hook_begun){j->f, g_strdup(name)};
        main_context_post(j->f->context, on_hook_begun, b);
        return TRUE;
}

static void post_run(gpointer job)
{
        struct hooks_job *j = job;
        struct freeze_hooks hooks = hooks_of(j);

        freeze_hooks_post(&hooks, (const char *const *)j->state->begun->pdata, &j->hook, &j->output,
                          &j->error);
}

static void post_done(gpointer job)
{
        struct hooks_job *j = job;
        Freezes *f = j->f;

        /* The first failure is the one that counts. */
        if (j->error && f->now->error == MOULT_ERROR_UNSPECIFIED)
                freeze_state_fail(f->now, g_steal_pointer(&j->error), g_steal_pointer(&j->hook),
                                  g_steal_pointer(&j->output));
        else if (j->error)
                event_log(EVENT_WARNING, "agent-freeze-hook", j->error->message, NULL);
        hooks_job_free(j);
        freeze_finish(f);
}

/* Nothing is frozen (any more). */
void freeze_go_back(Freezes *f)
{
        if (f->frozen)
                freeze_set_frozen(f, FALSE);
        freeze_enter(f, P(THAWING));
        freeze_answer_renewals(f);
        freeze_save(f);
        if (f->now->no_hooks)
                freeze_finish(f);
        else
                worker_push(f->worker, post_run, post_done, hooks_job_new(f));
}

/* Asked to thaw before there was a holder. */
static void give_up(Freezes *f)
{
        freeze_state_fail(f->now,
                          g_error_new_literal(MOULT_ERROR, MOULT_ERROR_CANCELLED,
                                              "it was given up before everything was frozen"),
                          NULL, NULL);
        freeze_go_back(f);
}

/* ---- the holder ---- */

struct rescue {
        Freezes *f;
        struct freeze_report report;
        gboolean known, patient, left;
        guint thawed;
        GString *problem;
};

static void rescue_run(gpointer job)
{
        struct rescue *r = job;
        g_autoptr(GError) error = NULL;
        g_autoptr(FreezeRecord) record = freeze_record_load(r->f->directory, &error);
        g_autoptr(MountTable) mounts = mount_table_load(NULL);

        if (error)
                g_string_append_printf(r->problem, "%s\n", error->message);
        r->left = error && r->patient;
        if (!record)
                return;
        r->known = TRUE;
        r->thawed = freeze_record_rescue(record, mounts, r->patient, r->problem);
        r->left = freeze_record_is_left(record);
        r->report = record->report;
}

static gboolean on_again(gpointer user)
{
        Freezes *f = user;

        f->again = 0;
        freeze_rescue(f);
        return G_SOURCE_REMOVE;
}

/* What is known by now of why it did not hold: what ended it first, and what became of its holder. */
static void tell_rescue(Freezes *f, const struct rescue *r, gboolean first)
{
        g_autofree char *before = g_strdup(f->now->text), *problem = g_strchomp(g_strdup(r->problem->str));

        if (first && f->now->error != MOULT_ERROR_UNSPECIFIED)
                f->failed_before = g_strconcat(f->now->text ? f->now->text : "", "; ", NULL);
        if (r->known)
                f->now->mounts = MIN(r->report.mounts, LIMIT_FREEZE_MOUNTS);
        freeze_state_fail(f->now,
                          g_error_new(MOULT_ERROR, f->failed_before ? (int)f->now->error : MOULT_ERROR_IO,
                                      "%sthe process that held the freeze was killed: %u file systems were "
                                      "thawed by the agent%s%s%s",
                                      f->failed_before ? f->failed_before : "", f->rescued,
                                      problem[0] ? "; " : "", problem,
                                      r->left ? "; what may still be frozen is tried again each second" : ""),
                          NULL, NULL);
        if (r->left && (first || g_strcmp0(before, f->now->text) != 0))
                freeze_enter(f, P(THAWING));
}

static void rescue_done(gpointer job)
{
        struct rescue *r = job;
        Freezes *f = r->f;
        gboolean first = f->rescues++ == 0;
        g_autofree char *n = NULL;

        f->rescued += r->thawed;
        f->now->lease_ends_us = 0;
        tell_rescue(f, r, first);
        if (r->left) {
                freeze_answer_renewals(f);
                f->again = g_timeout_add(FREEZE_RETHAW_US / 1000, on_again, f);
        } else {
                n = g_strdup_printf("%u", f->rescued);
                f->rescues = f->rescued = 0;
                g_clear_pointer(&f->failed_before, g_free);
                freeze_go_back(f);
                event_log(EVENT_WARNING, "agent-freeze-rescued",
                          "thawed what a process that was killed had frozen", "thawed", n, "problem",
                          r->problem->str, NULL);
        }
        g_string_free(r->problem, TRUE);
        g_free(r);
}

void freeze_rescue(Freezes *f)
{
        struct rescue *r = g_new0(struct rescue, 1);

        r->f = f;
        r->patient = f->rescues < FREEZE_RESCUE_PATIENT;
        r->problem = g_string_new(NULL);
        worker_push(f->worker, rescue_run, rescue_done, r);
}

void freeze_drop_link(Freezes *f)
{
        g_clear_handle_id(&f->source, g_source_remove);
        if (f->fd >= 0)
                close(f->fd);
        f->fd = -1;
}

/* FALSE: it has ended. */
gboolean freeze_order(Freezes *f, enum freeze_order_kind kind, guint32 lease_ms)
{
        const struct freeze_order o = {
                .magic = FREEZE_MAGIC, .kind = kind, .lease_us = (guint64)lease_ms * 1000};

        return f->fd >= 0 && send(f->fd, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof o;
}

void freeze_take_report(Freezes *f, const struct freeze_report *r)
{
        gboolean over = r->phase == FREEZE_THAWED;
        g_autoptr(FreezeRecord) record = over ? freeze_record_load(f->directory, NULL) : NULL;

        f->heard = TRUE;
        if (g_atomic_int_get(&f->thaw_asked) && r->phase < FREEZE_THAWING)
                return; /* it was under way when we asked */
        freeze_state_take(f->now, r, record);
        if (over) {
                freeze_drop_link(f);
                freeze_go_back(f);
                return;
        }
        freeze_notify(f);
        freeze_answer_renewals(f);
}

static void start_holder(Freezes *f, gboolean scope);

static void on_holder_gone(Freezes *f)
{
        freeze_drop_link(f);
        if (f->heard || !f->in_scope)
                freeze_rescue(f);
        else if (g_atomic_int_get(&f->thaw_asked))
                give_up(f);
        else /* systemd does not answer, say */
                start_holder(f, FALSE);
}

static gboolean on_report(gint fd, GIOCondition condition, gpointer user)
{
        Freezes *f = user;
        struct freeze_report r;
        ssize_t n = recv(fd, &r, sizeof r, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return G_SOURCE_CONTINUE;
        f->source = 0; /* both may drop the link */
        if (n == sizeof r && r.magic == FREEZE_MAGIC)
                freeze_take_report(f, &r);
        else
                on_holder_gone(f);
        if (f->fd == fd && f->source == 0)
                f->source = g_unix_fd_add(fd, G_IO_IN, on_report, f);
        return G_SOURCE_REMOVE;
}

void freeze_take_link(Freezes *f, int fd)
{
        f->fd = fd;
        f->source = g_unix_fd_add(fd, G_IO_IN, on_report, f);
}

static void start_holder(Freezes *f, gboolean scope)
{
        g_autoptr(GError) error = NULL;
        int fd = freeze_start(f->directory, f->config->mountinfo, f->now->id, f->lease_ms, scope, &error);

        f->in_scope = scope;
        f->heard = FALSE;
        if (fd >= 0) {
                freeze_take_link(f, fd);
                return;
        }
        freeze_state_fail(f->now, g_steal_pointer(&error), NULL, NULL);
        freeze_go_back(f);
}

/* ---- the way there ---- */

static void pre_run(gpointer job)
{
        struct hooks_job *j = job;
        struct freeze_hooks hooks = hooks_of(j);

        hooks.begins = begins_hook;
        freeze_hooks_pre(&hooks, &j->run, &j->hook, &j->output, &j->error);
}

static void hooks_over(Freezes *f, GError *error)
{
        if (!error && g_atomic_int_get(&f->thaw_asked)) {
                give_up(f);
                return;
        }
        if (error) {
                freeze_state_fail(f->now, error, NULL, NULL);
                freeze_go_back(f);
                return;
        }
        freeze_save(f);
        freeze_set_frozen(f, TRUE);
        freeze_enter(f, P(FREEZING));
        start_holder(f, freeze_start_has_scope());
}

static void pre_done(gpointer job)
{
        struct hooks_job *j = job;
        Freezes *f = j->f;

        f->now->hooks_run = j->run;
        g_clear_pointer(&f->now->hook, g_free);
        g_ptr_array_unref(f->now->begun);
        f->now->begun = g_ptr_array_ref(j->state->begun);
        if (j->error)
                freeze_state_fail(f->now, NULL, g_steal_pointer(&j->hook), g_steal_pointer(&j->output));
        hooks_over(f, g_steal_pointer(&j->error));
        hooks_job_free(j);
}

void freeze_go(Freezes *f)
{
        if (f->now->no_hooks)
                hooks_over(f, NULL);
        else
                worker_push(f->worker, pre_run, pre_done, hooks_job_new(f));
}
