/* guest-agent/config.h - what the agent was told: one file and its command line, in one struct that never
 * changes.
 *
 * Theory of operation: a table names every setting once (group, key, type, default, limits, help). The key
 * file and the command line are both read through it: `[upgrade] workers=4` and `--workers=4` are the same
 * row, and the command line wins. A key that is not in the table is an error: a misspelled setting must not
 * be a silently ignored one. */
#pragma once

#include <gio/gio.h>

#include "guest-agent/upgrade/transaction.h"

#define AGENT_CONFIG_FILE "/etc/moult/moult-agent.conf"
#define AGENT_SOCKET      "/run/moult/agent.sock"

struct agent_config {
        /* [agent] */
        char *root;         /* the tree that is upgraded */
        char *state;        /* journal, generations, pins */
        char *trust;        /* directory of *.pub */
        char *channel;      /* "auto", a device, "unix:PATH", or "none" */
        char *socket;       /* the guest's own commands */
        unsigned log_level; /* an EventLevel */
        /* [network] */
        char *host;  /* "ADDRESS:PORT", "" for what the host says over virtio-serial */
        char *token; /* "moult1:FINGERPRINT:SECRET" or "" */
        char *tls;   /* key pair; "" is STATE/tls */
        /* [upgrade] */
        unsigned workers;
        unsigned sync_mode; /* a Moult__SyncMode, for offers that leave it open */
        unsigned keep_generations;
        gboolean idle_io;
        unsigned confirm_timeout_ms; /* for offers that name none */
        unsigned patience_s;         /* how long staging waits for any way to the pack's bytes */
        unsigned idle_timeout_s;     /* a push that nobody drives for this long is dropped */
        char *init_command;          /* "" is found by looking */
        /* [freeze] */
        char *freeze_hooks; /* directory of pre-freeze.d and post-thaw.d */
        unsigned freeze_hook_timeout_s;
        /* [paths]: where the kernel shows its devices; tests have their own */
        char *mountinfo;
        char *pci;
        char *block;
        char *virtio_ports;
        char *dev;
        char *pack_socket; /* beside `socket`: follows from it */
};

/* Defaults, then FILE, then the command line. Recognised options are taken out of @argv (as GOption does).
 * @file_default may be missing; a file named by --config must exist. NULL with @error (MALFORMED or
 * G_OPTION_ERROR). */
struct agent_config *agent_config_load(int *argc, char ***argv, const char *file_default, GError **error);
void agent_config_free(struct agent_config *c);
typedef struct agent_config AgentConfig;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentConfig, agent_config_free)

/* The engine's part of it. Strings belong to @c. */
struct upgrade_config agent_config_upgrade(const struct agent_config *c);
