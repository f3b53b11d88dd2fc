/* guest-agent/hello.c - what this agent says of itself. */
#include "guest-agent/hello.h"

#include "common/fault.h"
#include "guest-agent/version.h"
#include "proto/limits.h"

char *agent_boot_id(void)
{
        char *text = NULL;

        if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
                return g_strdup("unknown");
        return g_strchomp(text);
}

struct session_hello agent_hello(const char *boot_id, const TlsIdentity *identity)
{
        static const char *const all[] = {CAPABILITY_PMEM, CAPABILITY_FACTS, CAPABILITY_FREEZE, NULL};
        static const char *const old[] = {CAPABILITY_PMEM, CAPABILITY_FREEZE, NULL};

        return (struct session_hello){
                .role = MOULT__ROLE__ROLE_AGENT,
                .software = agent_software(),
                .boot_id = boot_id,
                .hostname = g_get_host_name(),
                .capabilities = fault_skip("agent-facts") ? old : all, /* as an older agent */
                .tls_fingerprint = tls_identity_fingerprint(identity),
        };
}
