/* host-service/api/doctor.c - GET /v1/doctor: what is wrong with this host, or with one VM.
 *
 * Of a VM its hypervisor is asked, and its agent as well, where it has a session and knows the question; so
 * the answer comes later, and comes in any case. */
#include "host-service/api/call.h"
#include "host-service/api/doctor_guest.h"
#include "host-service/doctor/facts.h"
#include "proto/limits.h"

#define ASK_TIMEOUT_MS 30000u

static void add_checks(JsonArray *a, const GPtrArray *findings, DoctorSeverity *worst)
{
        for (guint i = 0; findings && i < findings->len; i++) {
                const DoctorFinding *f = findings->pdata[i];
                JsonObject *one = json_object_new();

                json_object_set_string_member(one, "id", f->id);
                json_object_set_string_member(one, "severity", doctor_severity_name(f->severity));
                json_object_set_text(one, "found", f->severity ? f->found : NULL);
                json_object_set_text(one, "action", f->severity ? f->action : NULL);
                json_array_add_object_element(a, one);
                *worst = MAX(*worst, f->severity);
        }
}

/* @guest and @facts: NULL for a host, and where no agent was asked. */
static JsonObject *report_json(const char *vm, const GPtrArray *findings, const GPtrArray *guest,
                               const struct guest_facts *facts)
{
        JsonObject *o = json_object_new();
        JsonArray *a = json_array_new();
        DoctorSeverity worst = DOCTOR_OK;

        add_checks(a, findings, &worst);
        add_checks(a, guest, &worst);
        json_object_set_text(o, "vm", vm);
        json_object_set_string_member(o, "worst", doctor_severity_name(worst));
        json_object_set_array_member(o, "checks", a);
        if (facts && facts->told)
                json_object_set_object_member(o, "guest", doctor_guest_json(facts));
        else
                json_object_set_null_member(o, "guest");
        return o;
}

static struct facts_sources sources_of(const Api *api)
{
        const struct api_config *config = &api->config;

        return (struct facts_sources){.env = api->env,
                                      .catalogue = api->catalogue,
                                      .guests = api->guests,
                                      .state_dir = config->state_dir,
                                      .trust_dir = config->trust_dir,
                                      .audit = config->audit,
                                      .wants_immutable = config->immutable_packs,
                                      .listens_for_agents = config->tls_listen != NULL};
}

/* --- a VM --- */

struct visit {
        struct api_call *call;
        struct vm_facts vm;
        struct guest_facts guest;
};

static void visit_free(struct visit *v)
{
        vm_facts_clear(&v->vm);
        guest_facts_clear(&v->guest);
        g_free(v);
}

/* The last of it. */
static void visit_end(struct visit *v)
{
        if (v->call->api) {
                g_autoptr(GPtrArray) findings = doctor_judge_vm(&v->vm);
                g_autoptr(GPtrArray) guest = v->vm.connected ? doctor_judge_guest(&v->guest) : NULL;

                call_answer(v->call, SOUP_STATUS_OK, report_json(v->vm.vm->name, findings, guest, &v->guest));
        }
        call_done(v->call);
        visit_free(v);
}

static void on_facts(const Moult__Message *answer, const GError *error, gpointer user)
{
        struct visit *v = user;

        v->guest.told = answer ? answer->facts : NULL;
        v->guest.problem = answer ? NULL : g_strdup(error->message);
        if (v->call->api)
                v->guest.answered_us = host_wall_us(v->call->api->env);
        visit_end(v);
}

static void ask_agent(struct visit *v)
{
        Moult__FactsQuery query = MOULT__FACTS_QUERY__INIT;
        Moult__Message question = MOULT__MESSAGE__INIT;
        const struct guest_view *g = v->call->api->guests;

        question.body_case = MOULT__MESSAGE__BODY_FACTS_QUERY;
        question.facts_query = &query;
        v->guest.asked_us = host_wall_us(v->call->api->env);
        g->ops->ask(g->self, v->vm.vm->name, &question, LIMIT_FRAME_PAYLOAD, ASK_TIMEOUT_MS, on_facts, v);
}

/* The hypervisor was asked, if there is one: now its status is not one that was never asked for. */
static void on_looked(gpointer user)
{
        struct visit *v = user;
        struct guest_status status = {0};

        if (v->call->api) {
                const struct guest_view *g = v->call->api->guests;

                g->ops->status(g->self, v->vm.vm->name, &status);
                v->vm.qmp_answers = status.qmp;
                if (v->vm.connected && status.tells_facts) {
                        ask_agent(v);
                        return;
                }
                v->guest.older = v->vm.connected;
        }
        visit_end(v);
}

static gboolean visit(struct api_call *call, const char *vm, GError **error)
{
        const struct facts_sources sources = sources_of(call->api);
        struct visit *v = g_new0(struct visit, 1);

        v->call = call;
        if (!facts_of_vm(&sources, vm, &v->vm, error) || !facts_for_guest(&sources, &v->guest, error)) {
                visit_free(v);
                return FALSE;
        }
        call_later(call);
        sources.guests->ops->look(sources.guests->self, vm, on_looked, v);
        return TRUE;
}

/* --- both --- */

gboolean api_doctor_get(struct api_call *call, GError **error)
{
        const struct facts_sources sources = sources_of(call->api);
        const char *vm = g_hash_table_lookup(call->query, "vm");
        g_autoptr(GPtrArray) findings = NULL;
        struct host_facts f = {0};

        if (vm)
                return visit(call, vm, error);
        if (facts_of_host(&sources, &f, error))
                findings = doctor_judge_host(&f);
        host_facts_clear(&f);
        if (findings)
                call_answer(call, SOUP_STATUS_OK, report_json(NULL, findings, NULL, NULL));
        return findings != NULL;
}
