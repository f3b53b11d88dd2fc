/* host-service/api/caller.h - who asks, and what they may ask for. */
#pragma once

#include <json-glib/json-glib.h>

typedef enum {
        API_SCOPE_NONE,
        API_SCOPE_READ,  /* everything that changes nothing */
        API_SCOPE_PUSH,  /* and pushes, rollbacks, rollouts, cancelling */
        API_SCOPE_ADMIN, /* and everything else */
        API_SCOPE_MAX
} ApiScope;
const char *api_scope_name(ApiScope s); /* "read" */
gboolean api_scope_parse(const char *name, ApiScope *ret);

struct api_caller {
        gboolean network; /* else the Unix socket */
        guint uid;        /* Unix socket: of the process that connected */
        gint pid;
        char *address;  /* network: "10.0.0.7:40312" */
        char *token;    /* network: its name; NULL: none that is valid */
        ApiScope scope; /* the Unix socket's mode is its guard: ADMIN */
};

void api_caller_clear(struct api_caller *c);
struct api_caller api_caller_copy(const struct api_caller *c);
/* {"door": "unix", "uid", "user", "pid"} or {"door": "tls", "token", "scope", "address"} */
JsonObject *api_caller_json(const struct api_caller *c);

/* What a caller needs for a route. A route that nobody has thought of needs ADMIN, unless it is a GET. */
ApiScope api_scope_needed(const char *method, const char *pattern);
