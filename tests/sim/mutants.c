/* tests/sim/mutants.c - bugs that are put into the host on purpose. */
#include "tests/sim/mutants.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "host-service/push/leftovers.h"
#include "host-service/push/push.h"
#include "host-service/push/push_report.h"
#include "host-service/push/push_state.h"
#include "host-service/push/push_talk.h"
#include "host-service/push/vm_releases.h"
#include "host-service/jobs/jobs.h"

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
