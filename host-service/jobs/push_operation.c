/* host-service/jobs/push_operation.c - making a push. */
#include "host-service/jobs/push_operation.h"

#include <string.h>

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/push_options.h"
#include "host-service/catalogue/vms.h"

static gboolean check_vms(Catalogue *c, const char *const *vms, GError **error)
{
        g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

        if (!vms || !vms[0]) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "no VM was named");
                return FALSE;
        }
        for (; *vms; vms++) {
                g_autoptr(VmRecord) vm = NULL;

                if (!g_hash_table_add(names, (gpointer)*vms)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "VM \"%s\" is named twice",
                                    *vms);
                        return FALSE;
                }
                vm = catalogue_vm_get(c, *vms, error);
                if (!vm)
                        return FALSE;
        }
        return TRUE;
}

static char *request_text(const ReleaseRecord *release, const char *const *vms,
                          const struct push_options *options)
{
        JsonObject *o = json_object_new();
        JsonArray *a = json_array_new();

        if (release) {
                json_object_set_string_member(o, "release", release->name);
                json_object_set_string_member(o, "version", release->version);
                json_object_set_hex(o, "digest", release->digest, sizeof release->digest);
        }
        for (; *vms; vms++)
                json_array_add_string_element(a, *vms);
        json_object_set_array_member(o, "vms", a);
        json_object_set_object_member(o, "options", push_options_to_json(options));
        return json_object_text(o);
}

static gboolean add_rows(const struct host_env *env, Catalogue *c, const char *operation,
                         const ReleaseRecord *release, const char *const *vms,
                         const struct push_options *options, GError **error)
{
        for (; *vms; vms++) {
                PushRecord p = {.operation = (char *)operation, .vm = (char *)*vms, .options = *options};

                if (release) {
                        p.release_name = release->name;
                        p.release_version = release->version;
                        memcpy(p.digest, release->digest, sizeof p.digest);
                }
                host_random_fill(env, p.push_id, sizeof p.push_id);
                if (!catalogue_push_add(c, &p, error))
                        return FALSE;
        }
        return TRUE;
}

static char *add(const struct host_env *env, Catalogue *c, Jobs *j, const ReleaseRecord *release,
                 const char *const *vms, const struct push_options *options, const char *guest,
                 GError **error)
{
        g_autofree char *request = NULL, *id = NULL;

        g_assert((release == NULL) == (options->rollback != FALSE));
        if (!catalogue_begin(c, error))
                return NULL;
        if (check_vms(c, vms, error)) {
                request = request_text(release, vms, options);
                id = jobs_add_for(j, options->rollback ? "rollback" : "push", request, guest, error);
        }
        if (!id || !add_rows(env, c, id, release, vms, options, error)) {
                catalogue_rollback(c);
                return NULL;
        }
        return catalogue_commit(c, error) ? g_steal_pointer(&id) : NULL;
}

char *push_operation_add(const struct host_env *env, Catalogue *c, Jobs *j, const ReleaseRecord *release,
                         const char *const *vms, const struct push_options *options, GError **error)
{
        return add(env, c, j, release, vms, options, NULL, error);
}

char *push_operation_add_for_guest(const struct host_env *env, Catalogue *c, Jobs *j,
                                   const ReleaseRecord *release, const char *guest,
                                   const struct push_options *options, GError **error)
{
        const char *vms[] = {guest, NULL};

        return add(env, c, j, release, vms, options, guest, error);
}
