/* tests/sim/mutants.c - bugs that are put into the host on purpose. */
#include "tests/sim/mutants.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "host-service/catalogue/sql.h"
#include "host-service/push/leftovers.h"
#include "host-service/push/push.h"
#include "host-service/push/push_places.h"
#include "host-service/push/push_report.h"
#include "host-service/push/push_state.h"
#include "host-service/push/push_talk.h"
#include "host-service/push/vm_releases.h"
#include "host-service/jobs/jobs.h"
#include "host-service/rollout/rollout_manager.h"
#include "host-service/rollout/rollout_state.h"

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

typedef enum {
        STORE_SKIPPED,
        NO_SYNC,
        END_UNRECORDED,
        RESUME_FORGOTTEN,
        RESUMED_ANEW,
        LEFTOVERS_FORGOTTEN,
        DRY_RUN_FORGOTTEN,
        TRUSTS_MEMORY,
        DONE_WHEN_ACTIVE,
        REFUSED_IS_DONE,
        ROLLBACK_ASSUMED,
        RELEASE_NOT_ASKED,
        PLACES_IGNORED,
        BEGUN_NOT_FIRST,
        WAVE_EARLY,
        PAUSE_SKIPPED,
        FAILURES_FORGOTTEN,
        WAVE_FORGOTTEN,
        STOP_HOLDS_NOTHING,
        BEGUN_HELD_BACK,
        BEGUN_TWICE,
        ROLLBACK_FORGOTTEN,
        ROLLBACK_OF_ANY,
        MUTANTS
} Mutant;

static const struct {
        const char *name, *what;
} mutants[MUTANTS] = {
        [STORE_SKIPPED] = {"store-skipped", "the state COMMIT is entered without being written"},
        [NO_SYNC] = {"no-sync", "a commit of the catalogue is not synced"},
        [END_UNRECORDED] = {"end-unrecorded", "the end of an operation that went in part is not written"},
        [RESUME_FORGOTTEN] = {"resume-forgotten", "what ran before a restart is not taken up"},
        [RESUMED_ANEW] = {"resumed-anew",
                          "a commit that ran before a restart is begun once more, under another id"},
        [LEFTOVERS_FORGOTTEN] = {"leftovers-forgotten",
                                 "a window that could not be taken off is not tried again"},
        [DRY_RUN_FORGOTTEN] = {"dry-run-forgotten", "a dry run is offered as a push"},
        [TRUSTS_MEMORY] = {"trusts-memory", "a commit whose guest is back is taken for done without asking"},
        [DONE_WHEN_ACTIVE] = {"done-when-active", "an active upgrade is reported as committed, unconfirmed"},
        [REFUSED_IS_DONE] = {"refused-is-done", "an upgrade that the guest refused is reported as committed"},
        [ROLLBACK_ASSUMED] = {"rollback-assumed", "a rollback that failed in the guest is reported as done"},
        [RELEASE_NOT_ASKED] = {"release-not-asked", "what a VM runs is not asked when its guest is back"},
        [PLACES_IGNORED] = {"places-ignored", "pushes begin beyond the host's budgets"},
        [BEGUN_NOT_FIRST] = {"begun-not-first", "after a restart what waits may begin before what had begun"},
        [WAVE_EARLY] = {"wave-early", "a wave begins while one of the wave before still runs"},
        [PAUSE_SKIPPED] = {"pause-skipped", "a wave begins before the pause is over"},
        [FAILURES_FORGOTTEN] = {"failures-forgotten", "failures in the waves before do not count"},
        [WAVE_FORGOTTEN] = {"wave-forgotten", "after a restart nobody waits for the wave that runs"},
        [STOP_HOLDS_NOTHING] = {"stop-holds-nothing", "what waits when a rollout stops begins all the same"},
        [BEGUN_HELD_BACK] = {"begun-held-back", "what has begun when a rollout stops is held back, too"},
        [BEGUN_TWICE] = {"begun-twice", "a rollout that is resumed begins what had ended in its wave again"},
        [ROLLBACK_FORGOTTEN] = {"rollback-forgotten", "that an abort is to take back is not written"},
        [ROLLBACK_OF_ANY] = {"rollback-of-any",
                             "a rollout takes back what is newest in the guest, whoever brought it"},
};

static int chosen = -1;

static gboolean is(Mutant m)
{
        return chosen == (int)m;
}

gboolean mutants_choose(const char *name)
{
        for (guint i = 0; i < MUTANTS; i++)
                if (g_str_equal(name, mutants[i].name))
                        chosen = (int)i;
        return chosen >= 0;
}

void mutants_print(void)
{
        for (guint i = 0; i < MUTANTS; i++)
                printf("%-22s %s\n", mutants[i].name, mutants[i].what);
}

/* --- what is written --- */

gboolean __real_push_report_store(Catalogue *c, PushRecord *r, GError **error);
gboolean __wrap_push_report_store(Catalogue *c, PushRecord *r, GError **error);
gboolean __wrap_push_report_store(Catalogue *c, PushRecord *r, GError **error)
{
        if (is(STORE_SKIPPED) && r->state == PUSH_STATE_COMMIT)
                return TRUE;
        return __real_push_report_store(c, r, error);
}

int __real_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback callback, void *user, char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback callback, void *user, char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback callback, void *user, char **error)
{
        if (is(NO_SYNC) && strcmp(sql, "PRAGMA synchronous = FULL") == 0)
                sql = "PRAGMA synchronous = NORMAL";
        return __real_sqlite3_exec(db, sql, callback, user, error);
}

gboolean __real_catalogue_operation_set_state(Catalogue *c, const char *id, OperationState state,
                                              const char *result, const GError *why, GError **error);
gboolean __wrap_catalogue_operation_set_state(Catalogue *c, const char *id, OperationState state,
                                              const char *result, const GError *why, GError **error);
gboolean __wrap_catalogue_operation_set_state(Catalogue *c, const char *id, OperationState state,
                                              const char *result, const GError *why, GError **error)
{
        if (is(END_UNRECORDED) && state == OPERATION_PARTIAL)
                return TRUE;
        return __real_catalogue_operation_set_state(c, id, state, result, why, error);
}

/* --- what is taken up --- */

gboolean __real_jobs_begin(Jobs *j, GError **error);
gboolean __wrap_jobs_begin(Jobs *j, GError **error);
gboolean __wrap_jobs_begin(Jobs *j, GError **error)
{
        return is(RESUME_FORGOTTEN) ? TRUE : __real_jobs_begin(j, error);
}

void __real_leftovers_add(Leftovers *l, const char *vm, const guint8 digest[static DIGEST_SIZE]);
void __wrap_leftovers_add(Leftovers *l, const char *vm, const guint8 digest[static DIGEST_SIZE]);
void __wrap_leftovers_add(Leftovers *l, const char *vm, const guint8 digest[static DIGEST_SIZE])
{
        if (!is(LEFTOVERS_FORGOTTEN))
                __real_leftovers_add(l, vm, digest);
}

Push *__real_push_new(const struct push_context *context, PushRecord *record, push_ended_func ended,
                      gpointer user);
Push *__wrap_push_new(const struct push_context *context, PushRecord *record, push_ended_func ended,
                      gpointer user);
Push *__wrap_push_new(const struct push_context *context, PushRecord *record, push_ended_func ended,
                      gpointer user)
{
        if (is(RESUMED_ANEW) && record->state == PUSH_STATE_COMMIT && !record->options.rollback) {
                record->push_id[0] ^= 0xff;
                record->state = PUSH_STATE_CONNECT;
        }
        return __real_push_new(context, record, ended, user);
}

void __real_vm_releases_ask(VmReleases *v, const char *vm);
void __wrap_vm_releases_ask(VmReleases *v, const char *vm);
void __wrap_vm_releases_ask(VmReleases *v, const char *vm)
{
        if (!is(RELEASE_NOT_ASKED))
                __real_vm_releases_ask(v, vm);
}

/* --- what is said --- */

void __real_push_talk_offer(PushTalk *t, const PushRecord *r, const ReleaseRecord *release,
                            const Moult__SourceKind *sources, gsize n_sources);
void __wrap_push_talk_offer(PushTalk *t, const PushRecord *r, const ReleaseRecord *release,
                            const Moult__SourceKind *sources, gsize n_sources);
void __wrap_push_talk_offer(PushTalk *t, const PushRecord *r, const ReleaseRecord *release,
                            const Moult__SourceKind *sources, gsize n_sources)
{
        PushRecord other = *r;

        if (is(DRY_RUN_FORGOTTEN))
                other.options.dry_run = FALSE;
        __real_push_talk_offer(t, &other, release, sources, n_sources);
}

/* --- what is decided --- */

static struct push_step concluded(PushState outcome)
{
        return (struct push_step){.next = PUSH_STATE_UNPLUG, .action = PUSH_DO_UNPLUG, .outcome = outcome};
}

static gboolean spoil(PushState state, const struct push_facts *f, const struct push_input *in,
                      struct push_step *ret)
{
        gboolean plain = !f->rollback && !f->dry_run;
        gboolean is_phase = in->kind == PUSH_INPUT_PHASE && plain;

        if (is(TRUSTS_MEMORY) && plain && state == PUSH_STATE_COMMIT && in->kind == PUSH_INPUT_SESSION)
                *ret = concluded(PUSH_STATE_DONE);
        else if (is(DONE_WHEN_ACTIVE) && is_phase && in->phase == P(ACTIVE) && state == PUSH_STATE_COMMIT)
                *ret = concluded(PUSH_STATE_DONE);
        else if (is(REFUSED_IS_DONE) && is_phase && in->phase == P(REFUSED) && state == PUSH_STATE_PLAN)
                *ret = concluded(PUSH_STATE_DONE);
        else if (is(ROLLBACK_ASSUMED) && f->rollback && in->kind == PUSH_INPUT_PHASE &&
                 in->phase == P(FAILED) && state == PUSH_STATE_COMMIT)
                *ret = concluded(PUSH_STATE_DONE);
        else
                return FALSE;
        return TRUE;
}

struct push_step __real_push_transition(PushState state, const struct push_facts *f,
                                        const struct push_input *in);
struct push_step __wrap_push_transition(PushState state, const struct push_facts *f,
                                        const struct push_input *in);
struct push_step __wrap_push_transition(PushState state, const struct push_facts *f,
                                        const struct push_input *in)
{
        struct push_facts facts = *f;
        struct push_step s;

        if (is(DRY_RUN_FORGOTTEN))
                facts.dry_run = FALSE;
        return spoil(state, f, in, &s) ? s : __real_push_transition(state, &facts, in);
}

gboolean __real_push_places_fit(const struct push_places *n, const Push *p, guint concurrent, guint64 bytes);
gboolean __wrap_push_places_fit(const struct push_places *n, const Push *p, guint concurrent, guint64 bytes);
gboolean __wrap_push_places_fit(const struct push_places *n, const Push *p, guint concurrent, guint64 bytes)
{
        return is(PLACES_IGNORED) || __real_push_places_fit(n, p, concurrent, bytes);
}

GPtrArray *__real_catalogue_push_list_begun(Catalogue *c, GError **error);
GPtrArray *__wrap_catalogue_push_list_begun(Catalogue *c, GError **error);
GPtrArray *__wrap_catalogue_push_list_begun(Catalogue *c, GError **error)
{
        GPtrArray *begun = __real_catalogue_push_list_begun(c, error);

        if (begun && is(BEGUN_NOT_FIRST))
                g_ptr_array_set_size(begun, 0);
        return begun;
}

/* --- rollouts --- */

static gboolean is_first_look; /* of this daemon */

RolloutManager *__real_rollout_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                           PushManager *pushes);
RolloutManager *__wrap_rollout_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                           PushManager *pushes);
RolloutManager *__wrap_rollout_manager_new(const struct host_env *env, Catalogue *c, Jobs *jobs,
                                           PushManager *pushes)
{
        is_first_look = TRUE;
        return __real_rollout_manager_new(env, c, jobs, pushes);
}

struct rollout_step __real_rollout_next(const struct rollout_facts *f);
struct rollout_step __wrap_rollout_next(const struct rollout_facts *f);
struct rollout_step __wrap_rollout_next(const struct rollout_facts *f)
{
        RolloutRecord r = *f->record;
        struct rollout_facts facts = *f;

        if (is(STOP_HOLDS_NOTHING) && r.state == ROLLOUT_STOPPED)
                return (struct rollout_step){.action = ROLLOUT_DO_NOTHING};
        facts.record = &r;
        if (is(WAVE_EARLY) && f->wave.running == 1 && f->wave.done > 0)
                facts.wave.running = 0;
        if (is(PAUSE_SKIPPED) && r.next_us > 0)
                facts.now_us = r.next_us;
        if (is(FAILURES_FORGOTTEN))
                facts.all = f->wave;
        if (is(WAVE_FORGOTTEN) && is_first_look)
                facts.wave.running = 0;
        is_first_look = FALSE;
        return __real_rollout_next(&facts);
}

gboolean __real_catalogue_rollout_hold_back(Catalogue *c, const char *operation, const GPtrArray *vms,
                                            GError **error);
gboolean __wrap_catalogue_rollout_hold_back(Catalogue *c, const char *operation, const GPtrArray *vms,
                                            GError **error);
gboolean __wrap_catalogue_rollout_hold_back(Catalogue *c, const char *operation, const GPtrArray *vms,
                                            GError **error)
{
        g_autoptr(GPtrArray) pushes = is(BEGUN_HELD_BACK) ? catalogue_push_list(c, operation, error) : NULL;
        g_autoptr(GPtrArray) all = g_ptr_array_new();

        for (guint i = 0; pushes && i < pushes->len; i++) {
                PushRecord *r = pushes->pdata[i];

                if (!push_state_is_final(r->state) && !r->held_back)
                        g_ptr_array_add(all, r->vm);
        }
        return __real_catalogue_rollout_hold_back(c, operation, pushes ? all : vms, error);
}

gboolean __real_catalogue_rollout_let_begin(Catalogue *c, const char *operation, int wave, GError **error);
gboolean __wrap_catalogue_rollout_let_begin(Catalogue *c, const char *operation, int wave, GError **error);
gboolean __wrap_catalogue_rollout_let_begin(Catalogue *c, const char *operation, int wave, GError **error)
{
        if (is(BEGUN_TWICE) &&
            !sql_run(c, error,
                     "UPDATE pushes SET state = 'queued', outcome = 'queued', final = 0,"
                     " push_id = CAST(substr(push_id, 2) || substr(push_id, 1, 1) AS BLOB)"
                     " WHERE operation = ? AND wave = ? AND final = 1 AND state <> 'skipped'",
                     "si", operation, (gint64)wave))
                return FALSE;
        return __real_catalogue_rollout_let_begin(c, operation, wave, error);
}

gboolean __real_catalogue_rollout_update(Catalogue *c, const RolloutRecord *r, GError **error);
gboolean __wrap_catalogue_rollout_update(Catalogue *c, const RolloutRecord *r, GError **error);
gboolean __wrap_catalogue_rollout_update(Catalogue *c, const RolloutRecord *r, GError **error)
{
        RolloutRecord other = *r;

        if (is(ROLLBACK_FORGOTTEN))
                other.take_back = FALSE;
        return __real_catalogue_rollout_update(c, &other, error);
}

void __real_push_talk_rollback(PushTalk *t, const PushRecord *r);
void __wrap_push_talk_rollback(PushTalk *t, const PushRecord *r);
void __wrap_push_talk_rollback(PushTalk *t, const PushRecord *r)
{
        PushRecord other = *r;

        if (is(ROLLBACK_OF_ANY)) {
                other.options.rollback_generation = 0;
                memset(other.options.rollback_of, 0, sizeof other.options.rollback_of);
        }
        __real_push_talk_rollback(t, &other);
}
