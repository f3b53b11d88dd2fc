/* tests/unit/test_doctor_checks.c - each check of the doctor fires at what it is for, and only there. */
#include "host-service/doctor/checks.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(doctor, .timeout = 60);

#define GIB (1024.0 * 1024 * 1024)

static struct host_facts healthy_host(void)
{
        struct host_facts f = {.trusted_keys = 1,
                               .free_bytes = (guint64)(50 * GIB),
                               .size_bytes = (guint64)(100 * GIB),
                               .state_mode = 0711,
                               .packs_mode = 0755,
                               .others_reach_state = TRUE,
                               .can_be_immutable = TRUE,
                               .wants_immutable = TRUE,
                               .open_files_max = 65536,
                               .vms = 20,
                               .listens_for_agents = TRUE};

        f.trust_dir = g_strdup("/trust");
        f.state_dir = g_strdup("/state");
        f.packs_missing = g_ptr_array_new_with_free_func(g_free);
        f.tokens_ending = g_ptr_array_new_with_free_func(g_free);
        return f;
}

static void no_key(struct host_facts *f)
{
        f->trusted_keys = 0;
}
static void bad_key(struct host_facts *f)
{
        f->trust_problem = g_strdup("x.pub is no key");
}
static void little_room(struct host_facts *f)
{
        f->free_bytes = (guint64)(5 * GIB);
}
static void no_room(struct host_facts *f)
{
        f->free_bytes = (guint64)(1 * GIB);
}
static void closed(struct host_facts *f)
{
        f->state_mode = 0700;
}
static void closed_above(struct host_facts *f)
{
        f->others_reach_state = FALSE;
}
static void not_immutable(struct host_facts *f)
{
        f->can_be_immutable = FALSE;
}
static void few_files(struct host_facts *f)
{
        f->open_files_max = 335;
}
static void pack_gone(struct host_facts *f)
{
        g_ptr_array_add(f->packs_missing, g_strdup("app 2"));
}
static void one_away(struct host_facts *f)
{
        f->vms_away = 2;
}
static void many_away(struct host_facts *f)
{
        f->vms_away = 3;
}
static void no_door(struct host_facts *f)
{
        f->vms_network = 1;
        f->listens_for_agents = FALSE;
}
static void no_audit(struct host_facts *f)
{
        f->audit_problem = g_strdup("the disk is full");
}
static void token_ends(struct host_facts *f)
{
        g_ptr_array_add(f->tokens_ending, g_strdup("ci"));
}

static const struct {
        const char *id;
        DoctorSeverity severity;
        void (*spoil)(struct host_facts *f);
        const char *found;
} host_cases[] = {
        {"trust-keys", DOCTOR_WARNING, no_key, "no public key in /trust"},
        {"trust-keys", DOCTOR_ERROR, bad_key, "x.pub is no key"},
        {"disk-space", DOCTOR_WARNING, little_room, "5120 MiB (5 %) are free for /state"},
        {"disk-space", DOCTOR_ERROR, no_room, "1024 MiB (1 %)"},
        {"state-reachable", DOCTOR_WARNING, closed, "modes 700, 755)"},
        {"state-reachable", DOCTOR_WARNING, closed_above, "a folder above"},
        {"immutable-packs", DOCTOR_NOTICE, not_immutable, "no immutable attribute"},
        {"open-files", DOCTOR_ERROR, few_files, "335 files open; 20 VMs need 336"},
        {"packs-there", DOCTOR_ERROR, pack_gone, "app 2"},
        {"agents-away", DOCTOR_NOTICE, one_away, "2 of 20"},
        {"agents-away", DOCTOR_WARNING, many_away, "3 of 20"},
        {"agents-door", DOCTOR_ERROR, no_door, "1 VMs"},
        {"audit-writable", DOCTOR_ERROR, no_audit, "the disk is full"},
        {"tokens-ending", DOCTOR_NOTICE, token_ends, "ci"},
};

/* Exactly the check @id has found something (NULL: none), and says what to do. */
static void expect_only(GPtrArray *findings, const char *id, DoctorSeverity severity, const char *found)
{
        for (guint i = 0; i < findings->len; i++) {
                const DoctorFinding *f = findings->pdata[i];
                gboolean hit = id && strcmp(f->id, id) == 0;

                cr_expect(eq(int, (int)f->severity, (int)(hit ? severity : DOCTOR_OK)), "%s: %s", f->id,
                          f->found);
                cr_expect(eq(int, *f->found != '\0', hit), "%s: %s", f->id, f->found);
                if (hit)
                        cr_expect(strstr(f->found, found) && *f->action, "%s: %s", f->id, f->found);
        }
}

Test(doctor, a_healthy_host_has_nothing)
{
        struct host_facts f = healthy_host();
        g_autoptr(GPtrArray) findings = doctor_judge_host(&f);

        expect_only(findings, NULL, DOCTOR_OK, NULL);
        host_facts_clear(&f);
}

Test(doctor, each_check_of_the_host_fires_alone)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < G_N_ELEMENTS(host_cases); i++) {
                struct host_facts f = healthy_host();
                g_autoptr(GPtrArray) findings = NULL;

                host_cases[i].spoil(&f);
                findings = doctor_judge_host(&f);
                expect_only(findings, host_cases[i].id, host_cases[i].severity, host_cases[i].found);
                g_hash_table_add(seen, (gpointer)host_cases[i].id);
                if (i + 1 == G_N_ELEMENTS(host_cases))
                        cr_expect(eq(u32, g_hash_table_size(seen), findings->len), "a check has no case");
                host_facts_clear(&f);
        }
}

static struct vm_facts healthy_vm(void)
{
        struct vm_facts f = {.connected = TRUE,
                             .qmp_answers = TRUE,
                             .agent = SOCKET_THERE,
                             .qmp = SOCKET_THERE,
                             .now_us = 100 * G_TIME_SPAN_DAY};

        f.vm = g_new0(VmRecord, 1);
        f.vm->last_seen_us = f.now_us - G_TIME_SPAN_MINUTE;
        f.last = g_new0(PushRecord, 1);
        f.last->operation = g_strdup("01M8");
        f.last->state = PUSH_STATE_DONE;
        f.last->source = MOULT__SOURCE_KIND__SOURCE_IVSHMEM;
        return f;
}

static void agent_off(struct vm_facts *f)
{
        f->connected = FALSE;
        f->agent = SOCKET_MISSING;
}
static void agent_closed(struct vm_facts *f)
{
        f->connected = FALSE;
        f->agent = SOCKET_FORBIDDEN;
}
static void agent_no_socket(struct vm_facts *f)
{
        f->connected = FALSE;
        f->agent = SOCKET_OTHER;
}
static void agent_silent(struct vm_facts *f)
{
        f->connected = FALSE;
}
static void agent_migrated(struct vm_facts *f)
{
        f->connected = FALSE;
        f->agent = SOCKET_NONE;
        f->away = g_strdup("domain d was migrated to another host");
}
static void agent_far(struct vm_facts *f)
{
        f->connected = FALSE;
        f->agent = SOCKET_NONE;
}
static void token_unused(struct vm_facts *f)
{
        f->vm->token_hash = g_strdup("x");
}
static void qmp_none(struct vm_facts *f)
{
        f->qmp_answers = FALSE;
        f->qmp = SOCKET_NONE;
}
static void qmp_held(struct vm_facts *f)
{
        f->qmp_answers = FALSE;
}
static void slow_push(struct vm_facts *f)
{
        f->last->source = MOULT__SOURCE_KIND__SOURCE_SERIAL;
}
static void left(struct vm_facts *f)
{
        f->window_left = TRUE;
}
static void failed(struct vm_facts *f)
{
        f->last->state = PUSH_STATE_FAILED;
        f->last->text = g_strdup("no room");
}

static const struct {
        const char *id;
        DoctorSeverity severity;
        void (*spoil)(struct vm_facts *f);
        const char *found;
} vm_cases[] = {
        {"agent-session", DOCTOR_ERROR, agent_off, "the VM is off"},
        {"agent-session", DOCTOR_ERROR, agent_closed, "may not write"},
        {"agent-session", DOCTOR_ERROR, agent_no_socket, "no socket"},
        {"agent-session", DOCTOR_ERROR, agent_silent, "no agent answers"},
        {"agent-session", DOCTOR_ERROR, agent_migrated, "session: domain d was migrated"},
        {"agent-session", DOCTOR_ERROR, agent_far, "over the network"},
        {"join-pending", DOCTOR_NOTICE, token_unused, "not used"},
        {"qmp-answers", DOCTOR_NOTICE, qmp_none, "without a QMP socket"},
        {"qmp-answers", DOCTOR_WARNING, qmp_held, "another client"},
        {"window-used", DOCTOR_NOTICE, slow_push, "shared memory"},
        {"window-left", DOCTOR_WARNING, left, "live migration"},
        {"last-push", DOCTOR_WARNING, failed, "(01M8) is failed: no room"},
};

Test(doctor, each_check_of_a_vm_fires_alone)
{
        struct vm_facts well = healthy_vm();
        g_autoptr(GPtrArray) nothing = doctor_judge_vm(&well);

        expect_only(nothing, NULL, DOCTOR_OK, NULL);
        vm_facts_clear(&well);
        for (guint i = 0; i < G_N_ELEMENTS(vm_cases); i++) {
                struct vm_facts f = healthy_vm();
                g_autoptr(GPtrArray) findings = NULL;

                vm_cases[i].spoil(&f);
                findings = doctor_judge_vm(&f);
                expect_only(findings, vm_cases[i].id, vm_cases[i].severity, vm_cases[i].found);
                vm_facts_clear(&f);
        }
}

/* It comes with agent-session: an agent that has no session now may have been there today. */
Test(doctor, an_agent_that_is_away_for_days_is_a_finding_of_its_own)
{
        static const gint64 seen_us[] = {0, 97 * G_TIME_SPAN_DAY};
        static const char *const found[] = {"ever been seen", "3 days ago"};

        for (guint i = 0; i < G_N_ELEMENTS(seen_us); i++) {
                struct vm_facts f = healthy_vm();
                g_autoptr(GPtrArray) findings = NULL;
                const DoctorFinding *second;

                f.connected = FALSE;
                f.vm->last_seen_us = seen_us[i];
                findings = doctor_judge_vm(&f);
                second = findings->pdata[1];
                cr_expect(eq(str, (char *)second->id, "agent-seen"));
                cr_expect(eq(int, (int)second->severity, (int)DOCTOR_WARNING));
                cr_expect(ne(ptr, strstr(second->found, found[i]), NULL), "%s", second->found);
                vm_facts_clear(&f);
        }
}

Test(doctor, a_push_that_was_told_how_to_go_is_no_finding)
{
        struct vm_facts f = healthy_vm();
        g_autoptr(GPtrArray) findings = NULL;

        f.last->source = MOULT__SOURCE_KIND__SOURCE_SERIAL;
        f.last->options.transport = PUSH_TRANSPORT_SERIAL;
        findings = doctor_judge_vm(&f);
        expect_only(findings, NULL, DOCTOR_OK, NULL);
        vm_facts_clear(&f);
}
