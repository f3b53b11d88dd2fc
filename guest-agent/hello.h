/* guest-agent/hello.h - what this agent says of itself. */
#pragma once

#include "proto/session.h"
#include "proto/tls_identity.h"

/* Of this boot; "unknown" if the kernel does not say. The caller frees. */
char *agent_boot_id(void);
/* To hosts and to the guest's own command. @boot_id and @identity must outlive it. */
struct session_hello agent_hello(const char *boot_id, const TlsIdentity *identity);
