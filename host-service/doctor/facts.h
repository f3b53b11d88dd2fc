/* host-service/doctor/facts.h - gathers what the doctor's checks look at. Quick looks only: it runs on the
 * loop. */
#pragma once

#include "host-service/audit_log.h"
#include "host-service/doctor/checks.h"
#include "host-service/doctor/guest_checks.h"
#include "host-service/guest_view.h"

struct facts_sources {
        const struct host_env *env;
        Catalogue *catalogue;
        const struct guest_view *guests;
        const char *state_dir, *trust_dir;
        AuditLog *audit; /* or NULL */
        gboolean wants_immutable, listens_for_agents;
};

/* host_facts_clear() afterwards, also on failure. */
gboolean facts_of_host(const struct facts_sources *s, struct host_facts *ret, GError **error);
/* NOT_FOUND. */
gboolean facts_of_vm(const struct facts_sources *s, const char *vm, struct vm_facts *ret, GError **error);
/* What the host adds to what a guest tells: its releases. guest_facts_clear() afterwards, also on failure. */
gboolean facts_for_guest(const struct facts_sources *s, struct guest_facts *ret, GError **error);
