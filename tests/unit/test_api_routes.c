/* tests/unit/test_api_routes.c - the table of routes, and that docs/openapi.yaml says the same. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/api/call.h"
#include "host-service/api/yaml_json.h"

TestSuite(api_routes, .timeout = 60);

static JsonNode *description(void)
{
        g_autofree char *text = NULL;
        gsize len;

        cr_assert(g_file_get_contents(MOULT_SOURCE_DIR "/docs/openapi.yaml", &text, &len, NULL));
        JsonNode *node = yaml_to_json(text, len);
        cr_assert(ne(ptr, node, NULL));
        return node;
}

static JsonObject *member(JsonObject *o, const char *name)
{
        return o && json_object_has_member(o, name) ? json_object_get_object_member(o, name) : NULL;
}

/* What "$ref" points at, or @o itself. */
static JsonObject *resolve(JsonObject *root, JsonObject *o)
{
        const char *ref = json_object_get_string_member_with_default(o, "$ref", NULL);
        g_auto(GStrv) parts = g_strsplit(ref ? ref : "#", "/", -1);

        if (!ref)
                return o;
        o = root;
        for (GStrv p = parts + 1; *p; p++) {
                o = member(o, *p);
                cr_assert(ne(ptr, o, NULL), "%s leads nowhere", ref);
        }
        return o;
}

static JsonObject *documented(JsonObject *root, const struct api_route *r)
{
        g_autofree char *method = g_ascii_strdown(r->method, -1);

        return member(member(member(root, "paths"), r->pattern), method);
}

Test(api_routes, every_route_is_documented)
{
        g_autoptr(JsonNode) node = description();

        for (guint i = 0; i < api_route_count; i++)
                cr_expect(ne(ptr, documented(json_node_get_object(node), &api_routes[i]), NULL), "%s %s",
                          api_routes[i].method, api_routes[i].pattern);
}

Test(api_routes, every_documented_request_has_a_route)
{
        static const char *const methods[] = {"get", "put", "post", "delete", "patch", "head", "options"};
        g_autoptr(JsonNode) node = description();
        JsonObject *paths = member(json_node_get_object(node), "paths");
        guint n = 0;
        JsonObjectIter iter;
        const char *path;

        json_object_iter_init(&iter, paths);
        while (json_object_iter_next(&iter, &path, NULL))
                for (guint m = 0; m < G_N_ELEMENTS(methods); m++) {
                        gboolean found = FALSE;

                        if (!member(member(paths, path), methods[m]))
                                continue;
                        n++;
                        for (guint i = 0; i < api_route_count; i++)
                                found = found || (g_str_equal(api_routes[i].pattern, path) &&
                                                  g_ascii_strcasecmp(api_routes[i].method, methods[m]) == 0);
                        cr_expect(found, "%s %s", methods[m], path);
                }
        cr_expect(eq(u32, n, api_route_count));
}

/* Names of the parameters of one place ("query"), of the request and of its path. */
static GHashTable *parameters(JsonObject *root, const struct api_route *r, const char *in)
{
        GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);
        JsonObject *places[] = {documented(root, r), member(member(root, "paths"), r->pattern)};

        for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
                JsonArray *a = json_object_has_member(places[i], "parameters")
                                       ? json_object_get_array_member(places[i], "parameters")
                                       : NULL;

                for (guint p = 0; a && p < json_array_get_length(a); p++) {
                        JsonObject *o = resolve(root, json_array_get_object_element(a, p));

                        if (g_str_equal(json_object_get_string_member(o, "in"), in))
                                g_hash_table_add(names, (gpointer)json_object_get_string_member(o, "name"));
                }
        }
        return names;
}

static guint count_fields(const struct field *f)
{
        guint n = 0;

        while (f && f[n].name)
                n++;
        return n;
}

Test(api_routes, query_parameters_are_those_of_the_code)
{
        g_autoptr(JsonNode) node = description();

        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];
                g_autoptr(GHashTable) names = parameters(json_node_get_object(node), r, "query");

                cr_expect(eq(u32, g_hash_table_size(names), count_fields(r->query)), "%s %s", r->method,
                          r->pattern);
                for (const struct field *f = r->query; f && f->name; f++)
                        cr_expect(g_hash_table_contains(names, f->name), "%s %s: %s", r->method, r->pattern,
                                  f->name);
        }
}

Test(api_routes, path_parameters_are_documented_and_each_has_its_check)
{
        g_autoptr(JsonNode) node = description();

        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];
                g_autoptr(GHashTable) names = parameters(json_node_get_object(node), r, "path");
                guint braces = 0;

                for (const char *p = r->pattern; (p = strchr(p, '{')); p++)
                        braces++;
                cr_expect(eq(u32, g_hash_table_size(names), braces), "%s %s", r->method, r->pattern);
                for (guint p = 0; p < API_PARAMS_MAX; p++)
                        cr_expect(eq(int, r->param_refusal[p] != NULL, p < braces), "%s %s", r->method,
                                  r->pattern);
        }
}

Test(api_routes, bodies_have_the_members_of_the_code_and_nothing_more)
{
        g_autoptr(JsonNode) node = description();
        JsonObject *root = json_node_get_object(node);

        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];
                JsonObject *content = member(member(documented(root, r), "requestBody"), "content");
                JsonObject *schema = member(member(content, "application/json"), "schema");
                JsonObject *properties = member(schema, "properties");
                JsonArray *required = schema && json_object_has_member(schema, "required")
                                              ? json_object_get_array_member(schema, "required")
                                              : NULL;
                guint n = 0;

                cr_expect(eq(u32, properties ? json_object_get_size(properties) : 0, count_fields(r->body)),
                          "%s %s", r->method, r->pattern);
                for (const struct field *f = r->body; f && f->name; f++) {
                        cr_expect(properties && json_object_has_member(properties, f->name), "%s %s: %s",
                                  r->method, r->pattern, f->name);
                        n += f->required ? 1 : 0;
                }
                cr_expect(eq(u32, required ? json_array_get_length(required) : 0, n), "%s %s", r->method,
                          r->pattern);
                if (schema)
                        cr_expect(not(json_object_get_boolean_member_with_default(
                                schema, "additionalProperties", TRUE)));
        }
}

static void check_refs(JsonObject *root, JsonNode *node)
{
        if (JSON_NODE_HOLDS_ARRAY(node)) {
                JsonArray *a = json_node_get_array(node);

                for (guint i = 0; i < json_array_get_length(a); i++)
                        check_refs(root, json_array_get_element(a, i));
        } else if (JSON_NODE_HOLDS_OBJECT(node)) {
                JsonObjectIter iter;
                JsonNode *value;

                resolve(root, json_node_get_object(node));
                json_object_iter_init(&iter, json_node_get_object(node));
                while (json_object_iter_next(&iter, NULL, &value))
                        check_refs(root, value);
        }
}

Test(api_routes, every_reference_leads_somewhere)
{
        g_autoptr(JsonNode) node = description();

        check_refs(json_node_get_object(node), node);
}

static const struct api_route *find(const char *method, const char *path, char **ret_first, char **ret_allow)
{
        char *params[API_PARAMS_MAX] = {NULL};
        const struct api_route *r = api_route_find(method, path, params, ret_allow);

        *ret_first = params[0];
        for (guint i = 1; i < API_PARAMS_MAX; i++)
                g_free(params[i]);
        return r;
}

Test(api_routes, paths_are_matched_after_they_are_split)
{
        static const struct {
                const char *method, *path, *pattern, *first, *allow;
        } cases[] = {
                {"GET", "/v1/vms/web-1", "/v1/vms/{name}", "web-1", NULL},
                {"GET", "/v1/vms/a%2Eb", "/v1/vms/{name}", "a.b", NULL},
                {"GET", "/v1/vms/a%2Fb", NULL, NULL, NULL},
                {"GET", "/v1/vms/a%00", NULL, NULL, NULL},
                {"GET", "/v1/vms/%ff", NULL, NULL, NULL},
                {"GET", "/v1/vms/a/b", NULL, NULL, NULL},
                {"GET", "/v1/vms/a/history", "/v1/vms/{name}/history", "a", NULL},
                {"POST", "/v1/vms/a/tree", "/v1/vms/{name}/tree", "a", NULL},
                {"GET", "/v1/releases/app/verify", "/v1/releases/{name}/{version}", "app", NULL},
                {"POST", "/v1/releases/app/1/verify", "/v1/releases/{name}/{version}/verify", "app", NULL},
                {"PUT", "/v1/vms/a", NULL, NULL, "GET, DELETE"},
                {"get", "/v1/vms", NULL, NULL, "GET, POST"},
                {"GET", "", NULL, NULL, NULL},
                {"GET", "//", NULL, NULL, NULL},
                {"GET", "/v1/status/", NULL, NULL, NULL},
        };

        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *first = NULL, *allow = NULL;
                const struct api_route *r = find(cases[i].method, cases[i].path, &first, &allow);

                cr_expect(eq(int, g_strcmp0(r ? r->pattern : NULL, cases[i].pattern), 0), "%s",
                          cases[i].path);
                cr_expect(eq(int, g_strcmp0(first, cases[i].first), 0), "%s: %s", cases[i].path, first);
                cr_expect(eq(int, g_strcmp0(allow, cases[i].allow), 0), "%s: %s", cases[i].path, allow);
        }
}

/* A route that nobody has thought of needs the highest scope, unless it only reads. */
Test(api_routes, each_route_has_the_scope_that_the_manual_says)
{
        static const char *const pushing[] = {"/v1/pushes",
                                              "/v1/vms/{name}/rollback",
                                              "/v1/operations/{id}/cancel",
                                              "/v1/rollouts",
                                              "/v1/rollouts/{id}/stop",
                                              "/v1/rollouts/{id}/resume",
                                              "/v1/rollouts/{id}/abort",
                                              NULL};
        guint n = 0;

        for (guint i = 0; i < api_route_count; i++) {
                const struct api_route *r = &api_routes[i];
                gboolean reads = g_str_equal(r->method, "GET");
                gboolean pushes = g_str_equal(r->method, "POST") && g_strv_contains(pushing, r->pattern);
                ApiScope wanted = pushes ? API_SCOPE_PUSH : reads ? API_SCOPE_READ : API_SCOPE_ADMIN;

                if (reads && g_str_equal(r->pattern, "/v1/tokens"))
                        wanted = API_SCOPE_ADMIN;
                n += pushes ? 1 : 0;
                cr_expect(eq(int, (int)api_scope_needed(r->method, r->pattern), (int)wanted), "%s %s",
                          r->method, r->pattern);
        }
        cr_expect(eq(u32, n, g_strv_length((char **)pushing)), "a route of the list is gone");
        cr_expect(eq(int, (int)api_scope_needed("DELETE", "/v1/new"), (int)API_SCOPE_ADMIN));
}

Test(api_routes, every_error_has_a_fitting_status)
{
        for (int code = 0; code < MOULT_ERROR_MAX; code++) {
                g_autoptr(GError) e = g_error_new(MOULT_ERROR, code, "what\xff");
                g_autoptr(JsonObject) o = call_error_json(e);
                JsonObject *shown = json_object_get_object_member(o, "error");
                guint status = call_status_of(e);

                cr_expect(status >= 400 && status < 600, "%d", code);
                cr_expect(eq(str, (char *)json_object_get_string_member(shown, "code"),
                             (char *)moult_error_name((MoultError)code)));
                cr_expect(g_utf8_validate(json_object_get_string_member(shown, "text"), -1, NULL));
        }
}
