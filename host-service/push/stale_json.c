/* host-service/push/stale_json.c - a guest's report of who still runs old code, as JSON. */
#include "host-service/push/stale_json.h"

#include "host-service/catalogue/json.h"
#include "proto/message.h"

static void set_bytes(JsonObject *o, const char *member, ProtobufCBinaryData b)
{
        g_autofree char *text = b.len ? message_string(b) : NULL;

        json_object_set_text(o, member, text);
}

static void set_list(JsonObject *o, const char *member, const ProtobufCBinaryData *list, size_t n)
{
        JsonArray *a = json_array_new();

        for (size_t i = 0; i < n; i++) {
                g_autofree char *text = message_string(list[i]);

                json_array_add_string_element(a, text);
        }
        json_object_set_array_member(o, member, a);
}

static JsonObject *process(const Moult__StaleProcess *p)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "pid", p->pid);
        set_bytes(o, "command", p->command);
        set_bytes(o, "unit", p->unit);
        set_list(o, "files", p->files, p->n_files);
        json_object_set_int_member(o, "files_total", p->files_total);
        return o;
}

static JsonObject *namespace(const Moult__StaleNamespace *n)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "inode", (gint64)MIN(n->inode, (guint64)G_MAXINT64));
        json_object_set_int_member(o, "processes", n->processes);
        json_object_set_int_member(o, "pid", n->pid);
        set_bytes(o, "command", n->command);
        set_bytes(o, "unit", n->unit);
        set_list(o, "mounts", n->mounts, n->n_mounts);
        json_object_set_int_member(o, "mounts_total", n->mounts_total);
        return o;
}

static JsonObject *restart(const Moult__StaleRestart *r)
{
        JsonObject *o = json_object_new();

        set_bytes(o, "unit", r->unit);
        set_bytes(o, "error", r->error);
        return o;
}

char *stale_json_text(const Moult__StaleReport *r)
{
        JsonObject *o = json_object_new();
        JsonArray *processes = json_array_new(), *namespaces = json_array_new(), *restarts = json_array_new();

        for (size_t i = 0; i < r->n_processes; i++)
                json_array_add_object_element(processes, process(r->processes[i]));
        for (size_t i = 0; i < r->n_namespaces; i++)
                json_array_add_object_element(namespaces, namespace(r->namespaces[i]));
        for (size_t i = 0; i < r->n_restarts; i++)
                json_array_add_object_element(restarts, restart(r->restarts[i]));
        json_object_set_boolean_member(o, "known", TRUE);
        json_object_set_null_member(o, "text");
        json_object_set_int_member(o, "looked_at", r->looked_at);
        json_object_set_int_member(o, "processes_total", r->processes_total);
        json_object_set_array_member(o, "processes", processes);
        json_object_set_int_member(o, "namespaces_total", r->namespaces_total);
        json_object_set_array_member(o, "namespaces", namespaces);
        json_object_set_array_member(o, "restarts", restarts);
        set_bytes(o, "incomplete", r->incomplete);
        return json_object_text(o);
}

char *stale_json_unknown(const char *why)
{
        JsonObject *o = json_object_new();

        json_object_set_boolean_member(o, "known", FALSE);
        json_object_set_string_member(o, "text", why);
        return json_object_text(o);
}
