/* tests/sim/rollouts.c - the operator's rollouts. */
#include "tests/sim/rollouts.h"

#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/vms.h"
#include "host-service/rollout/rollout_add.h"

#define MS       G_GINT64_CONSTANT(1000)
#define RETRY_US G_USEC_PER_SEC

struct Rollouts {
        World *w;
        Host *host;
        RolloutRules *rules;
        GPtrArray *ids; /* of char * */
        guint to_ask, to_say;
};

/* --- asking --- */

static void swap(GPtrArray *list, guint i, guint k)
{
        gpointer p = list->pdata[i];

        list->pdata[i] = list->pdata[k];
        list->pdata[k] = p;
}

/* Most of the VMs, in any order. */
static GPtrArray *choose_vms(Rollouts *r, GError **error)
{
        g_autoptr(GPtrArray) list = catalogue_vm_select(host_catalogue(r->host), NULL, error);

        if (!list)
                return NULL;
        for (guint i = list->len; i > 1; i--)
                swap(list, i - 1, world_random(r->w, i));
        while (list->len > 1 && world_chance(r->w, 100))
                g_ptr_array_remove_index(list, list->len - 1);
        return g_steal_pointer(&list);
}

static void choose_options(Rollouts *r, struct rollout_options *o)
{
        static const char *const batches[] = {NULL, "1", "2", "25%", "50%"};

        o->canary = world_chance(r->w, 400) ? world_between(r->w, 1, 2) : 0;
        o->batch = batches[world_random(r->w, G_N_ELEMENTS(batches))];
        o->max_failures = world_random(r->w, 3);
        o->pause_ms = world_chance(r->w, 700) ? 0 : world_between(r->w, 500, 20000);
        o->push.dry_run = world_chance(r->w, 60);
        o->push.transport = world_chance(r->w, 500) ? PUSH_TRANSPORT_AUTO : PUSH_TRANSPORT_SERIAL;
        o->push.confirm_timeout_ms = world_between(r->w, 5, 60) * 1000;
}

static char *ask(Rollouts *r)
{
        Catalogue *c = host_catalogue(r->host);
        struct rollout_options options = {0};
        guint8 digest[DIGEST_SIZE];
        g_autoptr(ReleaseRecord) release = NULL;
        g_autoptr(GPtrArray) vms = choose_vms(r, NULL);

        choose_options(r, &options);
        vault_digest(world_between(r->w, 1, VAULT_RELEASES), digest);
        release = vms ? catalogue_release_by_digest(c, digest, NULL) : NULL;
        return release ? rollout_add(host_environment(r->host), c, host_jobs(r->host), release, vms, &options,
                                     NULL)
                       : NULL;
}

static void say_something(gpointer user);

static void add_rollout(gpointer user)
{
        Rollouts *r = user;
        g_autofree char *id = host_is_up(r->host) ? ask(r) : NULL;

        if (!id || !host_is_up(r->host)) { /* no answer: he asks again, whatever came of it */
                world_at(r->w, RETRY_US, add_rollout, r);
                return;
        }
        world_trace(r->w, "operator asked for rollout %s", id);
        g_ptr_array_add(r->ids, g_steal_pointer(&id));
        r->to_ask--;
        while (world_chance(r->w, 450)) {
                r->to_say++;
                world_at(r->w, world_between(r->w, 0, 20000) * MS, say_something, r);
        }
}

/* --- speaking into them --- */

typedef enum { SAY_STOP, SAY_RESUME, SAY_ABORT, SAY_ABORT_WITH_ROLLBACK, SAY_CANCEL, SAYINGS } Saying;

static gboolean put(Rollouts *r, const char *id, Saying what, GError **error)
{
        Catalogue *c = host_catalogue(r->host);

        switch (what) {
        case SAY_STOP:
                return rollout_stop(c, id, error);
        case SAY_RESUME:
                return rollout_resume(c, id, error);
        case SAY_ABORT:
                return rollout_abort(c, id, FALSE, error);
        case SAY_ABORT_WITH_ROLLBACK:
                return rollout_abort(c, id, TRUE, error);
        case SAY_CANCEL:
                return jobs_cancel(host_jobs(r->host), id, error);
        case SAYINGS:
                break;
        }
        g_assert_not_reached();
}

/* FALSE: the host did not answer, or cannot now. */
static gboolean say(Rollouts *r, const char *id, Saying what)
{
        static const char *const names[SAYINGS] = {"stops", "resumes", "aborts", "aborts and takes back",
                                                   "cancels"};
        g_autoptr(GError) error = NULL;
        gboolean ok = host_is_up(r->host) && put(r, id, what, &error);

        if (!host_is_up(r->host) || (!ok && !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE)))
                return FALSE;
        world_trace(r->w, "operator %s rollout %s: %s", names[what], id, ok ? "accepted" : "too late");
        if (ok && what == SAY_ABORT_WITH_ROLLBACK)
                rollout_rules_promise(r->rules, id, ROLLOUT_PROMISE_ROLLBACK);
        else if (ok && what == SAY_CANCEL)
                rollout_rules_promise(r->rules, id, ROLLOUT_PROMISE_END);
        return TRUE;
}

static void say_something(gpointer user)
{
        Rollouts *r = user;
        const char *id = r->ids->pdata[world_random(r->w, r->ids->len)];

        if (say(r, id, (Saying)world_random(r->w, SAYINGS)))
                r->to_say--;
        else
                world_at(r->w, RETRY_US, say_something, r);
}

/* --- looking after them --- */

static void decide(Rollouts *r, const char *id)
{
        g_autoptr(RolloutRecord) record = catalogue_rollout_get(host_catalogue(r->host), id, NULL);
        guint n = world_random(r->w, 100);

        if (record && record->state == ROLLOUT_STOPPED && world_chance(r->w, 700))
                say(r, id, n < 60 ? SAY_RESUME : n < 85 ? SAY_ABORT_WITH_ROLLBACK : SAY_ABORT);
}

/* Also after those whose id he was never told. */
static void look_after(gpointer user)
{
        Rollouts *r = user;
        g_autoptr(GPtrArray) open =
                host_is_up(r->host) ? catalogue_operation_unfinished(host_catalogue(r->host), NULL) : NULL;

        for (guint i = 0; open && i < open->len && host_is_up(r->host); i++) {
                const OperationRecord *op = open->pdata[i];

                if (g_str_equal(op->kind, "rollout"))
                        decide(r, op->id);
        }
        world_at(r->w, world_between(r->w, 3000, 12000) * MS, look_after, r);
}

/* --- life --- */

Rollouts *rollouts_new(World *w, Host *h, RolloutRules *rules)
{
        Rollouts *r = g_new0(Rollouts, 1);

        r->w = w;
        r->host = h;
        r->rules = rules;
        r->ids = g_ptr_array_new_with_free_func(g_free);
        return r;
}

void rollouts_free(Rollouts *r)
{
        if (!r)
                return;
        world_forget(r->w, r);
        g_ptr_array_unref(r->ids);
        g_free(r);
}

void rollouts_begin(Rollouts *r, guint n, gint64 during_us)
{
        r->to_ask = n;
        for (guint i = 0; i < n; i++)
                world_at(r->w, world_between(r->w, 0, (guint)(during_us / MS)) * MS, add_rollout, r);
        if (n > 0)
                world_at(r->w, RETRY_US, look_after, r);
}

gboolean rollouts_are_done(const Rollouts *r)
{
        return r->to_ask == 0 && r->to_say == 0;
}

const GPtrArray *rollouts_ids(const Rollouts *r)
{
        return r->ids;
}
