/* host-service/api/doctor_guest.c - what a guest told, as JSON. */
#include "host-service/api/doctor_guest.h"

#include "common/digest.h"
#include "host-service/catalogue/json.h"
#include "proto/message.h"

static void set_text(JsonObject *o, const char *name, ProtobufCBinaryData text)
{
        g_autofree char *shown = message_string(text);

        json_object_set_text(o, name, *shown ? shown : NULL);
}

/* true, false, "loadable", or null. */
static void set_sight(JsonObject *o, const char *name, Moult__Sight sight)
{
        switch (sight) {
        case MOULT__SIGHT__SIGHT_NO:
        case MOULT__SIGHT__SIGHT_YES:
                json_object_set_boolean_member(o, name, sight == MOULT__SIGHT__SIGHT_YES);
                break;
        case MOULT__SIGHT__SIGHT_LOADABLE:
                json_object_set_string_member(o, name, "loadable");
                break;
        default:
                json_object_set_null_member(o, name);
        }
}

static void set_number(JsonObject *o, const char *name, guint64 n)
{
        json_object_set_int_member(o, name, (gint64)MIN(n, G_MAXINT64));
}

static JsonArray *keys_json(const Moult__Facts *t)
{
        JsonArray *a = json_array_new();

        for (size_t i = 0; i < t->n_keys; i++) {
                char hex[2 * DIGEST_SIZE + 1];

                digest_to_hex(t->keys[i].data, hex);
                json_array_add_string_element(a, hex);
        }
        return a;
}

static JsonArray *places_json(const Moult__Facts *t)
{
        JsonArray *a = json_array_new();

        for (size_t i = 0; i < t->n_places; i++) {
                const Moult__FactsPlace *p = t->places[i];
                JsonObject *o = json_object_new();

                set_text(o, "point", p->point);
                set_text(o, "type", p->type);
                json_object_set_boolean_member(o, "read_only", p->read_only);
                json_object_set_boolean_member(o, "state", p->state);
                set_number(o, "size_bytes", p->size_bytes);
                set_number(o, "free_bytes", p->free_bytes);
                set_number(o, "inodes", p->inodes);
                set_number(o, "free_inodes", p->free_inodes);
                json_array_add_object_element(a, o);
        }
        return a;
}

static JsonObject *kernel_json(const Moult__Facts *t)
{
        JsonObject *o = json_object_new();

        set_text(o, "release", t->kernel);
        set_sight(o, "overlayfs", t->overlayfs);
        set_sight(o, "fuse", t->fuse);
        set_sight(o, "fuse_device", t->fuse_device);
        set_sight(o, "mount_beneath", t->mount_beneath);
        set_sight(o, "fs_verity", t->fs_verity);
        set_sight(o, "virtio_pmem", t->pmem);
        set_text(o, "lockdown", t->lockdown);
        set_text(o, "selinux", t->selinux);
        set_text(o, "apparmor", t->apparmor);
        return o;
}

JsonObject *doctor_guest_json(const struct guest_facts *f)
{
        const Moult__Facts *t = f->told;
        JsonObject *o = json_object_new();

        set_text(o, "software", t->software);
        json_object_set_int_member(o, "protocol", t->protocol);
        json_object_set_int_member(o, "clock_offset_ms", doctor_clock_offset_us(f) / 1000);
        json_object_set_array_member(o, "keys", keys_json(t));
        json_object_set_array_member(o, "places", places_json(t));
        json_object_set_object_member(o, "kernel", kernel_json(t));
        set_sight(o, "target_server", t->target_server);
        json_object_set_int_member(o, "windows", t->windows);
        set_sight(o, "own_namespace", t->own_namespace);
        set_sight(o, "merges_seen", t->merges_seen);
        set_sight(o, "boots_counted", t->boots_counted);
        set_number(o, "generation", t->generation);
        json_object_set_int_member(o, "starts_begun", t->starts_begun);
        json_object_set_boolean_member(o, "starts_good", t->starts_good);
        set_text(o, "unsettled", t->unsettled);
        set_text(o, "label", t->label);
        return o;
}
