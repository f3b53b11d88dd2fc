/* host-service/api/doctor.c - GET /v1/doctor: what is wrong with this host, or with one VM. */
#include "host-service/api/call.h"
#include "host-service/doctor/facts.h"

static JsonObject *report_json(const char *vm, const GPtrArray *findings)
{
        JsonObject *o = json_object_new();
        JsonArray *a = json_array_new();
        DoctorSeverity worst = DOCTOR_OK;

        for (guint i = 0; i < findings->len; i++) {
                const DoctorFinding *f = findings->pdata[i];
                JsonObject *one = json_object_new();

                json_object_set_string_member(one, "id", f->id);
                json_object_set_string_member(one, "severity", doctor_severity_name(f->severity));
                json_object_set_text(one, "found", f->severity ? f->found : NULL);
                json_object_set_text(one, "action", f->severity ? f->action : NULL);
                json_array_add_object_element(a, one);
                worst = MAX(worst, f->severity);
        }
        json_object_set_text(o, "vm", vm);
        json_object_set_string_member(o, "worst", doctor_severity_name(worst));
        json_object_set_array_member(o, "checks", a);
        return o;
}

gboolean api_doctor_get(struct api_call *call, GError **error)
{
        const struct api_config *config = &call->api->config;
        const struct facts_sources sources = {.env = call->api->env,
                                              .catalogue = call->api->catalogue,
                                              .guests = call->api->guests,
                                              .state_dir = config->state_dir,
                                              .trust_dir = config->trust_dir,
                                              .audit = config->audit,
                                              .wants_immutable = config->immutable_packs,
                                              .listens_for_agents = config->tls_listen != NULL};
        const char *vm = g_hash_table_lookup(call->query, "vm");
        g_autoptr(GPtrArray) findings = NULL;

        if (vm) {
                struct vm_facts f = {0};

                if (facts_of_vm(&sources, vm, &f, error))
                        findings = doctor_judge_vm(&f);
                vm_facts_clear(&f);
        } else {
                struct host_facts f = {0};

                if (facts_of_host(&sources, &f, error))
                        findings = doctor_judge_host(&f);
                host_facts_clear(&f);
        }
        if (findings)
                call_answer(call, SOUP_STATUS_OK, report_json(vm, findings));
        return findings != NULL;
}
