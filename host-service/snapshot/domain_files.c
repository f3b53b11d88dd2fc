/* host-service/snapshot/domain_files.c - libvirt's answers about disks, and requests. */
#include "host-service/snapshot/domain_files.h"

#include "host-service/hypervisor/qmp_message.h"
#include "host-service/hypervisor/vm_disks.h"
#include "host-service/snapshot/layer_name.h"

static JsonObject *files_of(JsonNode *told, const char *where)
{
        return told ? qmp_object(qmp_member(qmp_object(told), where)) : NULL;
}

gboolean domain_is(JsonNode *told, const char *where)
{
        return files_of(told, where) != NULL;
}

const char *domain_file(JsonNode *told, const char *where, const char *target)
{
        JsonObject *files = files_of(told, where);

        return files ? qmp_string(files, target) : NULL;
}

gboolean domain_is_saved(JsonNode *told)
{
        JsonObject *o = told ? qmp_object(told) : NULL;

        return o && json_object_get_boolean_member_with_default(o, "saved", FALSE);
}

const char *domain_copy(JsonNode *told, const char *target, gboolean *ret_ready)
{
        JsonObject *copies = files_of(told, "copies");
        JsonObject *copy = copies ? qmp_object(json_object_get_member(copies, target)) : NULL;

        *ret_ready = copy && json_object_get_boolean_member_with_default(copy, "ready", FALSE);
        return copy ? qmp_string(copy, "to") : NULL;
}

void domain_call_by_targets(JsonNode *told, GPtrArray *disks)
{
        JsonObject *live = files_of(told, "live");
        g_autoptr(GList) targets = live ? json_object_get_members(live) : NULL;

        for (guint i = 0; i < disks->len; i++) {
                struct vm_disk *d = disks->pdata[i];

                for (GList *l = targets; l; l = l->next) {
                        if (g_strcmp0(d->file, qmp_string(live, l->data)) != 0)
                                continue;
                        g_free(d->device);
                        d->device = g_strdup(l->data);
                }
        }
}

gboolean domain_file_is_of(const char *path, const char *file)
{
        g_autofree char *dir = g_path_get_dirname(file), *name = g_path_get_basename(file);
        g_autofree char *own_dir = g_path_get_dirname(path), *own = g_path_get_basename(path);
        g_autofree char *base = layer_name_base(name);

        return g_str_equal(dir, own_dir) && g_str_equal(base ? base : name, own);
}

void domain_define(JsonObject *changes, const char *target, const char *to, const char *format,
                   const char *const *from)
{
        JsonObject *o = json_object_new();
        JsonArray *all = json_array_new();

        for (; *from; from++)
                json_array_add_string_element(all, *from);
        json_object_set_string_member(o, "to", to);
        json_object_set_string_member(o, "format", format);
        json_object_set_array_member(o, "from", all);
        json_object_set_object_member(changes, target, o);
}
