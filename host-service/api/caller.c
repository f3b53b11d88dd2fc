/* host-service/api/caller.c - who asks, and what they may ask for. */
#include "host-service/api/caller.h"

#include <pwd.h>
#include <unistd.h>

#include "host-service/catalogue/json.h"

static const char *const scope_names[API_SCOPE_MAX] = {"none", "read", "push", "admin"};

const char *api_scope_name(ApiScope s)
{
        return scope_names[s];
}

gboolean api_scope_parse(const char *name, ApiScope *ret)
{
        for (guint i = API_SCOPE_READ; i < API_SCOPE_MAX; i++)
                if (g_str_equal(scope_names[i], name)) {
                        *ret = (ApiScope)i;
                        return TRUE;
                }
        return FALSE;
}

void api_caller_clear(struct api_caller *c)
{
        g_clear_pointer(&c->address, g_free);
        g_clear_pointer(&c->token, g_free);
}

struct api_caller api_caller_copy(const struct api_caller *c)
{
        struct api_caller copy = *c;

        copy.address = g_strdup(c->address);
        copy.token = g_strdup(c->token);
        return copy;
}

/* NULL if the uid has no name. */
static char *user_name(guint uid)
{
        char buf[4096];
        struct passwd pw, *found = NULL;

        if (getpwuid_r(uid, &pw, buf, sizeof buf, &found) != 0 || !found)
                return NULL;
        return g_utf8_make_valid(found->pw_name, -1);
}

JsonObject *api_caller_json(const struct api_caller *c)
{
        JsonObject *o = json_object_new();
        g_autofree char *user = c->network ? NULL : user_name(c->uid);

        json_object_set_string_member(o, "door", c->network ? "tls" : "unix");
        if (c->network) {
                json_object_set_text(o, "token", c->token);
                json_object_set_string_member(o, "scope", api_scope_name(c->scope));
                json_object_set_text(o, "address", c->address);
        } else {
                json_object_set_int_member(o, "uid", c->uid);
                json_object_set_text(o, "user", user);
                json_object_set_int_member(o, "pid", c->pid);
        }
        return o;
}

ApiScope api_scope_needed(const char *method, const char *pattern)
{
        static const struct {
                const char *method, *pattern;
                ApiScope scope;
        } others[] = {
                {"POST", "/v1/pushes", API_SCOPE_PUSH},
                {"POST", "/v1/vms/{name}/rollback", API_SCOPE_PUSH},
                {"POST", "/v1/operations/{id}/cancel", API_SCOPE_PUSH},
                {"POST", "/v1/rollouts", API_SCOPE_PUSH},
                {"POST", "/v1/rollouts/{id}/stop", API_SCOPE_PUSH},
                {"POST", "/v1/rollouts/{id}/resume", API_SCOPE_PUSH},
                {"POST", "/v1/rollouts/{id}/abort", API_SCOPE_PUSH},
                {"GET", "/v1/tokens", API_SCOPE_ADMIN},
        };

        for (guint i = 0; i < G_N_ELEMENTS(others); i++)
                if (g_str_equal(others[i].method, method) && g_str_equal(others[i].pattern, pattern))
                        return others[i].scope;
        return g_str_equal(method, "GET") ? API_SCOPE_READ : API_SCOPE_ADMIN;
}
