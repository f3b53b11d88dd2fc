/* host-service/config.h - moultd's settings: defaults, then the configuration file, then the command line. */
#pragma once

#include <glib.h>

#include "common/events.h"

#define HOST_SOCKET_DEFAULT   "/run/moult-host/moultd.sock"
#define CONCURRENT_PUSHES_MAX 1000u
#define S3_TIMEOUT_MAX_S      3600u

typedef struct host_config { /* filled once; const from then on */
        char *state_dir;     /* /var/lib/moult-host */
        char *socket;        /* HOST_SOCKET_DEFAULT; mode 0660 */
        char *socket_group;  /* or NULL: the group that moultd runs as */
        char *trust_dir;     /* /etc/moult/trusted.d */
        char *tls_listen;    /* "ADDR:PORT" or NULL: no TLS */
        char *api_listen;    /* "ADDR:PORT" or NULL: the API is on its socket only */
        char *audit_log;     /* NULL: none */
        char *shared_store;  /* "none", a directory, "s3://BUCKET[/PREFIX]"; NULL: STATE_DIR/objects */
        char *s3_endpoint, *s3_region, *s3_credentials, *s3_ca; /* or NULL, but for the region */
        guint s3_timeout_s;
        char *disk_helper;            /* socket of moult-disks; NULL: none */
        gboolean merge_after_upload;  /* of VMs' disks: what the store has becomes one file */
        gboolean immutable_packs;     /* sealed packs get the immutable attribute where there is one */
        guint concurrent_pushes;      /* that talk to their guests at once; 1..CONCURRENT_PUSHES_MAX */
        guint concurrent_per_backing; /* of these, for VMs that share a backing file; 0: any */
        guint64 concurrent_bytes;     /* of packs that these stage; 0: any */
        EventLevel log_level;
} HostConfig;

/* Reads argv (and --config FILE; /etc/moult/moultd.conf if it is there). NULL without an error: the program
 * should end now with status *ret_exit (--version, --check-config). Errors: MALFORMED and those of reading
 * files. */
struct host_config *host_config_from_args(int *argc, char ***argv, int *ret_exit, GError **error);
void host_config_free(struct host_config *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostConfig, host_config_free)
