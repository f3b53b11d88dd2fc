/* host-service/api/releases.c - /v1/releases: the packs in the store. */
#include "common/error.h"
#include "host-service/api/call.h"
#include "proto/message.h"

gboolean api_releases_list(struct api_call *call, GError **error)
{
        g_autoptr(GPtrArray) list =
                catalogue_release_list(call->api->catalogue, g_hash_table_lookup(call->query, "name"), error);
        JsonObject *o;
        JsonArray *a;

        if (!list)
                return FALSE;
        o = json_object_new();
        a = json_array_new();
        for (guint i = 0; i < list->len; i++)
                json_array_add_object_element(a, release_record_to_json(g_ptr_array_index(list, i)));
        json_object_set_array_member(o, "releases", a);
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

/* An operation whose request is one JSON object; takes it. */
static gboolean start(struct api_call *call, const char *kind, JsonObject *request, GError **error)
{
        g_autofree char *text = json_object_text(request), *id = NULL;

        if (!api_check_room(call->api, error))
                return FALSE;
        id = jobs_add(call->api->jobs, kind, text, error);
        return id && call_answer_operation(call, SOUP_STATUS_ACCEPTED, id, error);
}

gboolean api_releases_import(struct api_call *call, GError **error)
{
        return start(call, "release-import", json_object_ref(call->body), error);
}

gboolean api_releases_verify(struct api_call *call, GError **error)
{
        g_autoptr(ReleaseRecord) r =
                catalogue_release_get(call->api->catalogue, call->params[0], call->params[1], error);
        JsonObject *o;

        if (!r)
                return FALSE;
        o = json_object_new();
        json_object_set_string_member(o, "release", r->name);
        json_object_set_string_member(o, "version", r->version);
        return start(call, "release-verify", o, error);
}

gboolean api_releases_remove(struct api_call *call, GError **error)
{
        Api *api = call->api;
        g_autoptr(ReleaseRecord) r =
                catalogue_release_get(api->catalogue, call->params[0], call->params[1], error);
        g_autofree char *vm = NULL;
        JsonObject *o;

        if (!r)
                return FALSE;
        vm = api->guests->ops->mapped_by(api->guests->self, r->digest);
        if (vm) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "VM %s may still map the pack of release %s %s: wait until its push has ended "
                            "and its window is off (tried every minute; see `moult vm show %s`)",
                            vm, r->name, r->version, vm);
                return FALSE;
        }
        if (!releases_remove(api->releases, r->name, r->version, error))
                return FALSE;
        o = json_object_new();
        json_object_set_object_member(o, "removed", release_record_to_json(r));
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}

static JsonObject *entry_json(const Moult__Entry *e)
{
        static const char *const types[] = {"file",        "directory",    "symlink", "hardlink",
                                            "char-device", "block-device", "fifo",    "delete"};
        g_autofree char *path = message_string(e->path);
        g_autofree char *mode = g_strdup_printf("%04o", e->mode);
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "path", path);
        json_object_set_string_member(o, "type",
                                      (guint)e->type < G_N_ELEMENTS(types) ? types[e->type] : "unknown");
        json_object_set_string_member(o, "mode", mode);
        json_object_set_int_member(o, "uid", e->uid);
        json_object_set_int_member(o, "gid", e->gid);
        json_object_set_int_member(o, "mtime_s", e->mtime_s);
        json_object_set_int_member(o, "size", (gint64)e->size);
        if (e->digest.len)
                json_object_set_hex(o, "digest", e->digest.data, e->digest.len);
        if (e->link_target.len) {
                g_autofree char *target = message_string(e->link_target);

                json_object_set_string_member(o, "link_target", target);
        }
        json_object_set_int_member(o, "xattrs", (gint64)e->n_xattrs);
        return o;
}

static void on_manifest(const Manifest *m, const GError *error, gpointer user)
{
        struct api_call *call = user;
        guint64 first, count;
        g_autoptr(ReleaseRecord) r = NULL;
        g_autoptr(GError) missing = NULL;
        JsonObject *o;
        JsonArray *a;

        if (!call->api) {
                call_done(call);
                return;
        }
        if (m)
                r = catalogue_release_get(call->api->catalogue, call->params[0], call->params[1], &missing);
        if (!r) {
                call_fail(call, m ? missing : error);
                call_done(call);
                return;
        }
        first = (guint64)fields_query_number(call->query, "first", 0);
        count = (guint64)fields_query_number(call->query, "count", 512);
        o = json_object_new();
        a = json_array_new();
        for (guint64 i = first; i < m->n_entries && i - first < count; i++)
                json_array_add_object_element(a, entry_json(m->entries[i]));
        json_object_set_object_member(o, "release", release_record_to_json(r));
        json_object_set_int_member(o, "first", (gint64)first);
        json_object_set_int_member(o, "total", (gint64)m->n_entries);
        json_object_set_array_member(o, "entries", a);
        call_answer(call, SOUP_STATUS_OK, o);
        call_done(call);
}

gboolean api_releases_get(struct api_call *call, GError **error)
{
        g_autoptr(ReleaseRecord) r =
                catalogue_release_get(call->api->catalogue, call->params[0], call->params[1], error);
        JsonObject *o;

        if (!r)
                return FALSE;
        if (fields_query_flag(call->query, "entries")) {
                call_later(call);
                releases_read_manifest(call->api->releases, r, on_manifest, call);
                return TRUE;
        }
        g_autofree char *path = call->api->env->store->path(call->api->env->self, r->file);
        o = json_object_new();
        json_object_set_string_member(o, "pack_path", path);
        json_object_set_object_member(o, "release", release_record_to_json(r));
        call_answer(call, SOUP_STATUS_OK, o);
        return TRUE;
}
