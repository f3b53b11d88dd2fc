/* host-service/doctor/checks.c - what is wrong as the host sees it, and what to do.
 * docs/operation.md has the ids. */
#include "host-service/doctor/checks.h"

#define MIB                (1024.0 * 1024.0)
#define OPEN_FILES_PER_VM  4u
#define OPEN_FILES_OF_OURS 256u
#define AWAY_LONG_US       (24 * G_TIME_SPAN_HOUR)

void host_facts_clear(struct host_facts *f)
{
        g_free(f->trust_dir);
        g_free(f->trust_problem);
        g_free(f->state_dir);
        g_clear_pointer(&f->packs_missing, g_ptr_array_unref);
        g_free(f->audit_problem);
        g_clear_pointer(&f->tokens_ending, g_ptr_array_unref);
}

void vm_facts_clear(struct vm_facts *f)
{
        vm_record_free(f->vm);
        g_free(f->away);
        push_record_free(f->last);
}

/* --- the host --- */

static DoctorSeverity trust_keys(const struct host_facts *f, GString *found)
{
        if (f->trust_problem) {
                g_string_append(found, f->trust_problem);
                return DOCTOR_ERROR;
        }
        if (f->trusted_keys > 0)
                return DOCTOR_OK;
        g_string_append_printf(found, "there is no public key in %s: no release can be imported",
                               f->trust_dir);
        return DOCTOR_WARNING;
}

static DoctorSeverity disk_space(const struct host_facts *f, GString *found)
{
        double left = f->size_bytes ? (double)f->free_bytes / (double)f->size_bytes : 1;

        if (left >= 0.1)
                return DOCTOR_OK;
        g_string_append_printf(found, "%.0f MiB (%.0f %%) are free for %s", (double)f->free_bytes / MIB,
                               left * 100, f->state_dir);
        return left < 0.02 ? DOCTOR_ERROR : DOCTOR_WARNING;
}

static DoctorSeverity state_reachable(const struct host_facts *f, GString *found)
{
        if ((f->state_mode & 01) && (f->packs_mode & 05) == 05 && f->others_reach_state)
                return DOCTOR_OK;
        g_string_append_printf(
                found,
                "other users cannot pass to %s/packs (modes %03o, %03o%s): a QEMU that does not "
                "run as root cannot open packs, so they do not go through shared memory",
                f->state_dir, f->state_mode, f->packs_mode,
                f->others_reach_state ? "" : ", or a folder above");
        return DOCTOR_WARNING;
}

static DoctorSeverity immutable_packs(const struct host_facts *f, GString *found)
{
        if (!f->wants_immutable || f->can_be_immutable)
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "the file system of %s has no immutable attribute: packs are guarded by "
                               "their mode only",
                               f->state_dir);
        return DOCTOR_NOTICE;
}

static DoctorSeverity open_files(const struct host_facts *f, GString *found)
{
        guint64 needed = OPEN_FILES_OF_OURS + (guint64)OPEN_FILES_PER_VM * f->vms;

        if (f->open_files_max >= needed)
                return DOCTOR_OK;
        g_string_append_printf(
                found, "moultd may have %" G_GUINT64_FORMAT " files open; %u VMs need %" G_GUINT64_FORMAT,
                f->open_files_max, f->vms, needed);
        return DOCTOR_ERROR;
}

static DoctorSeverity packs_there(const struct host_facts *f, GString *found)
{
        if (f->packs_missing->len == 0)
                return DOCTOR_OK;
        g_string_append(found, "not in the store: ");
        doctor_append_names(found, f->packs_missing);
        return DOCTOR_ERROR;
}

static DoctorSeverity agents_away(const struct host_facts *f, GString *found)
{
        if (f->vms_away == 0)
                return DOCTOR_OK;
        g_string_append_printf(found, "%u of %u VMs have no agent session", f->vms_away, f->vms);
        return f->vms_away * 10 > f->vms ? DOCTOR_WARNING : DOCTOR_NOTICE;
}

static DoctorSeverity agents_door(const struct host_facts *f, GString *found)
{
        if (f->listens_for_agents || f->vms_network == 0)
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "%u VMs can come over the network only, and moultd does not listen there",
                               f->vms_network);
        return DOCTOR_ERROR;
}

static DoctorSeverity audit_writable(const struct host_facts *f, GString *found)
{
        if (!f->audit_problem)
                return DOCTOR_OK;
        g_string_append(found, f->audit_problem);
        return DOCTOR_ERROR;
}

static DoctorSeverity tokens_ending(const struct host_facts *f, GString *found)
{
        if (f->tokens_ending->len == 0)
                return DOCTOR_OK;
        g_string_append(found, "over within a week: ");
        doctor_append_names(found, f->tokens_ending);
        return DOCTOR_NOTICE;
}

static const struct {
        const char *id;
        DoctorSeverity (*look)(const struct host_facts *f, GString *found);
        const char *action;
} host_checks[] = {
        {"trust-keys", trust_keys,
         "put the public half of the signing key (moult key new) there; chmod go-w"},
        {"disk-space", disk_space, "moult store gc, moult release remove, or a larger file system"},
        {"state-reachable", state_reachable, "chmod o+x the state directory and those above it; packs: 0755"},
        {"immutable-packs", immutable_packs, "use ext4, xfs or btrfs, or set immutable-packs = no"},
        {"open-files", open_files, "raise LimitNOFILE in moultd's unit (systemctl edit moultd)"},
        {"packs-there", packs_there, "moult release remove them, and import them again"},
        {"agents-away", agents_away, "moult vm list shows which; moult doctor VM says why"},
        {"agents-door", agents_door, "set tls-listen in moultd.conf, and restart moultd"},
        {"audit-writable", audit_writable, "make room, or correct audit-log: changes are refused meanwhile"},
        {"tokens-ending", tokens_ending, "moult token new for those who still need one"},
};

/* --- a VM --- */

static DoctorSeverity agent_session(const struct vm_facts *f, GString *found)
{
        static const char *const why[] = {
                [SOCKET_NONE] = "it comes over the network, and has not",
                [SOCKET_MISSING] =
                        ("the socket of its port is not there: the VM is off, or its port has another "
                         "path"),
                [SOCKET_OTHER] = "what is at the path of its port is no socket",
                [SOCKET_FORBIDDEN] = "moultd may not write to the socket of its port",
                [SOCKET_THERE] = "QEMU has its port, and no agent answers in the guest",
        };

        if (f->connected)
                return DOCTOR_OK;
        if (f->away)
                g_string_append_printf(found, "the agent has no session: %s", f->away);
        else
                g_string_append_printf(found, "the agent has no session: %s", why[f->agent]);
        return DOCTOR_ERROR;
}

static DoctorSeverity agent_seen(const struct vm_facts *f, GString *found)
{
        if (f->connected || (f->vm->last_seen_us && f->now_us - f->vm->last_seen_us < AWAY_LONG_US))
                return DOCTOR_OK;
        if (!f->vm->last_seen_us)
                g_string_append(found, "no agent of this VM has ever been seen");
        else
                g_string_append_printf(found, "the agent was seen last %d days ago",
                                       (int)((f->now_us - f->vm->last_seen_us) / G_TIME_SPAN_DAY));
        return DOCTOR_WARNING;
}

static DoctorSeverity join_pending(const struct vm_facts *f, GString *found)
{
        if (!f->vm->token_hash)
                return DOCTOR_OK;
        g_string_append(found, "its join token was not used yet");
        return DOCTOR_NOTICE;
}

static DoctorSeverity qmp_answers(const struct vm_facts *f, GString *found)
{
        static const char *const why[] = {
                [SOCKET_NONE] =
                        ("the VM was added without a QMP socket: packs go over the agent's session, not "
                         "through shared memory"),
                [SOCKET_MISSING] =
                        "the QMP socket is not there: the VM is off, or the socket has another path",
                [SOCKET_OTHER] = "what is at the path of the QMP socket is no socket",
                [SOCKET_FORBIDDEN] = "moultd may not write to the QMP socket",
                [SOCKET_THERE] = "the QMP socket does not answer: another client may hold it",
        };

        if (f->qmp_answers)
                return DOCTOR_OK;
        g_string_append(found, why[f->qmp]);
        return f->qmp == SOCKET_NONE ? DOCTOR_NOTICE : DOCTOR_WARNING;
}

static DoctorSeverity window_used(const struct vm_facts *f, GString *found)
{
        gboolean slow = f->last && f->qmp != SOCKET_NONE &&
                        f->last->options.transport == PUSH_TRANSPORT_AUTO &&
                        (f->last->source == MOULT__SOURCE_KIND__SOURCE_SERIAL ||
                         f->last->source == MOULT__SOURCE_KIND__SOURCE_TLS);

        if (!slow)
                return DOCTOR_OK;
        g_string_append(found,
                        "the last push did not go through shared memory, although the VM has a QMP socket");
        return DOCTOR_NOTICE;
}

static DoctorSeverity window_left(const struct vm_facts *f, GString *found)
{
        if (!f->window_left)
                return DOCTOR_OK;
        g_string_append(found,
                        "the window of an ended push is still plugged: live migration is not possible");
        return DOCTOR_WARNING;
}

static DoctorSeverity last_push(const struct vm_facts *f, GString *found)
{
        if (!f->last || f->last->state == PUSH_STATE_DONE || f->last->state == PUSH_STATE_CANCELLED)
                return DOCTOR_OK;
        g_string_append_printf(found, "the last push (%s) is %s: %s", f->last->operation,
                               push_state_name(f->last->state), f->last->text ? f->last->text : "no reason");
        return DOCTOR_WARNING;
}

static const struct {
        const char *id;
        DoctorSeverity (*look)(const struct vm_facts *f, GString *found);
        const char *action;
} vm_checks[] = {
        {"agent-session", agent_session,
         "start the VM; in it: systemctl status moult-agent; on the host: the port org.moult.agent.0 and its "
         "socket's path and owner (moult vm show)"},
        {"agent-seen", agent_seen, "remove VMs that are gone (moult vm remove); else see agent-session"},
        {"join-pending", join_pending,
         "put the token into [network] of the guest's moult-agent.conf; lost: add the VM again"},
        {"qmp-answers", qmp_answers, "give QEMU a -qmp socket for moultd alone; correct its path and owner"},
        {"window-used", window_used,
         "the log's push-no-window has the reason: mostly no free pcie-root-port with pref64-reserve "
         "(docs/architecture.md, The ladder)"},
        {"window-left", window_left,
         "nothing, it is tried every minute; a restart of the VM takes it off too"},
        {"last-push", last_push, "moult jobs show ID; moult history VM"},
};

/* --- both --- */

GPtrArray *doctor_judge_host(const struct host_facts *f)
{
        GPtrArray *list = doctor_findings_new();

        for (guint i = 0; i < G_N_ELEMENTS(host_checks); i++) {
                GString *found = g_string_new(NULL);
                DoctorSeverity s = host_checks[i].look(f, found);

                doctor_add(list, host_checks[i].id, s, found, host_checks[i].action);
        }
        return list;
}

GPtrArray *doctor_judge_vm(const struct vm_facts *f)
{
        GPtrArray *list = doctor_findings_new();

        for (guint i = 0; i < G_N_ELEMENTS(vm_checks); i++) {
                GString *found = g_string_new(NULL);
                DoctorSeverity s = vm_checks[i].look(f, found);

                doctor_add(list, vm_checks[i].id, s, found, vm_checks[i].action);
        }
        return list;
}
