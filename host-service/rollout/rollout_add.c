/* host-service/rollout/rollout_add.c - a rollout's rows. */
#include "host-service/rollout/rollout_add.h"

#include <string.h>

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/push_options.h"
#include "host-service/catalogue/vms.h"
#include "host-service/rollout/rollout_state.h"

static char *request_text(const ReleaseRecord *release, guint vms, const struct rollout_options *o)
{
        JsonObject *j = json_object_new();

        json_object_set_string_member(j, "release", release->name);
        json_object_set_string_member(j, "version", release->version);
        json_object_set_hex(j, "digest", release->digest, sizeof release->digest);
        json_object_set_int_member(j, "vms", vms);
        json_object_set_int_member(j, "canary", o->canary);
        json_object_set_text(j, "batch", o->batch);
        json_object_set_int_member(j, "max_failures", o->max_failures);
        json_object_set_int_member(j, "pause_ms", o->pause_ms);
        json_object_set_object_member(j, "options", push_options_to_json(&o->push));
        return json_object_text(j);
}

static gboolean add_pushes(const struct host_env *env, Catalogue *c, const char *id,
                           const ReleaseRecord *release, const GPtrArray *vms,
                           const struct rollout_options *o, guint batch, GError **error)
{
        for (guint i = 0; i < vms->len; i++) {
                PushRecord p = {.operation = (char *)id,
                                .vm = ((VmRecord *)vms->pdata[i])->name,
                                .options = o->push,
                                .release_name = release->name,
                                .release_version = release->version,
                                .held_back = TRUE};

                p.wave = rollout_wave_of(i, vms->len, o->canary, batch);
                memcpy(p.digest, release->digest, sizeof p.digest);
                host_random_fill(env, p.push_id, sizeof p.push_id);
                if (!catalogue_push_add(c, &p, error))
                        return FALSE;
        }
        return TRUE;
}

char *rollout_add(const struct host_env *env, Catalogue *c, Jobs *j, const ReleaseRecord *release,
                  const GPtrArray *vms, const struct rollout_options *o, GError **error)
{
        g_autofree char *request = request_text(release, vms->len, o), *id = NULL;
        RolloutRecord r = {.max_failures = o->max_failures, .pause_ms = o->pause_ms, .canary = o->canary > 0};
        guint batch = 0;

        g_assert(vms->len > 0);
        if (o->batch && !rollout_batch_parse(o->batch, vms->len, &batch)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "\"%s\" is no size of a batch: a number of VMs, or 1%% to 100%%", o->batch);
                return NULL;
        }
        r.waves = 1 + rollout_wave_of(vms->len - 1, vms->len, o->canary, batch);
        if (!catalogue_begin(c, error))
                return NULL;
        id = jobs_add(j, "rollout", request, error);
        r.operation = id;
        if (!id || !add_pushes(env, c, id, release, vms, o, batch, error) ||
            !catalogue_rollout_add(c, &r, error)) {
                catalogue_rollback(c);
                return NULL;
        }
        return catalogue_commit(c, error) ? g_steal_pointer(&id) : NULL;
}

static gboolean wrong_state(const RolloutRecord *r, const char *wanted, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                    "rollout %s cannot be %s: it is %s; nothing was changed", r->operation, wanted,
                    rollout_state_name(r->state));
        return FALSE;
}

gboolean rollout_stop(Catalogue *c, const char *operation, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(c, operation, error);

        if (!r)
                return FALSE;
        if (r->state != ROLLOUT_RUNNING && r->state != ROLLOUT_PAUSING)
                return wrong_state(r, "stopped", error);
        r->state = ROLLOUT_STOPPED;
        g_free(r->text);
        r->text = g_strdup("stopped by an operator");
        return catalogue_rollout_update(c, r, error);
}

gboolean rollout_resume(Catalogue *c, const char *operation, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(c, operation, error);
        struct rollout_counts n;

        if (!r || !catalogue_rollout_count(c, operation, -1, &n, error))
                return FALSE;
        if (r->state != ROLLOUT_STOPPED && r->state != ROLLOUT_PAUSING)
                return wrong_state(r, "resumed", error);
        if (r->state == ROLLOUT_STOPPED) {
                r->state = ROLLOUT_RUNNING;
                r->accepted = rollout_failures(&n);
                r->canary =
                        r->canary && r->wave < 0; /* whoever resumes answers for what the canaries showed */
        }
        r->next_us = 0;
        g_clear_pointer(&r->text, g_free);
        return catalogue_rollout_update(c, r, error);
}

gboolean rollout_abort(Catalogue *c, const char *operation, gboolean take_back, GError **error)
{
        g_autoptr(RolloutRecord) r = catalogue_rollout_get(c, operation, error);
        const char *text = take_back ? "aborted by an operator; what was upgraded is taken back"
                                     : "aborted by an operator";

        if (!r)
                return FALSE;
        if (r->state > ROLLOUT_STOPPED)
                return wrong_state(r, "aborted", error);
        r->state = ROLLOUT_ABORTING;
        r->take_back = take_back;
        g_free(r->text);
        r->text = g_strdup(text);
        if (!catalogue_begin(c, error))
                return FALSE;
        if (!catalogue_rollout_cancel_waiting(c, operation, "the rollout was aborted before its turn",
                                              error) ||
            !catalogue_rollout_update(c, r, error)) {
                catalogue_rollback(c);
                return FALSE;
        }
        return catalogue_commit(c, error);
}
