/* host-service/layers/snapshot_manifest.c - building and judging manifests of snapshots. */
#include "host-service/layers/snapshot_manifest.h"

#include <string.h>

#include "common/error.h"
#include "host-service/api/fields.h"
#include "host-service/api/refusal.h"
#include "host-service/catalogue/json.h"
#include "host-service/layers/layer_map.h"

#define FORMAT    1
#define DISKS_MAX 64 /* LAYER_DISKS_MAX of snapshot/layer_name.h */
#define TEXT_MAX  1000

static void disk_free(gpointer p)
{
        struct manifest_disk *d = p;

        g_free(d->device);
        g_free(d->path);
        g_array_unref(d->layers);
        g_free(d);
}

SnapshotManifest *snapshot_manifest_new(void)
{
        SnapshotManifest *m = g_new0(SnapshotManifest, 1);

        m->disks = g_ptr_array_new_with_free_func(disk_free);
        return m;
}

void snapshot_manifest_free(SnapshotManifest *m)
{
        if (!m)
                return;
        g_free(m->vm);
        g_free(m->id);
        g_free(m->name);
        g_free(m->why);
        g_ptr_array_unref(m->disks);
        g_free(m);
}

struct manifest_disk *snapshot_manifest_add_disk(SnapshotManifest *m, guint number, const char *device,
                                                 const char *path, guint64 size_bytes)
{
        struct manifest_disk *d = g_new0(struct manifest_disk, 1);

        d->number = number;
        d->device = g_strdup(device);
        d->path = g_strdup(path);
        d->size_bytes = size_bytes;
        d->layers = g_array_new(FALSE, FALSE, sizeof(struct manifest_layer));
        g_ptr_array_add(m->disks, d);
        return d;
}

void manifest_disk_add_layer(struct manifest_disk *d, const char *id,
                             const uint8_t map_digest[static DIGEST_SIZE])
{
        struct manifest_layer l = {0};

        g_assert(layer_id_is_valid(id));
        g_strlcpy(l.id, id, sizeof l.id);
        memcpy(l.map_digest, map_digest, sizeof l.map_digest);
        g_array_append_val(d->layers, l);
}

gboolean snapshot_manifest_names(const SnapshotManifest *m, const char *layer)
{
        for (guint i = 0; i < m->disks->len; i++) {
                const GArray *layers = ((const struct manifest_disk *)m->disks->pdata[i])->layers;

                for (guint k = 0; k < layers->len; k++)
                        if (g_str_equal(g_array_index(layers, struct manifest_layer, k).id, layer))
                                return TRUE;
        }
        return FALSE;
}

static gboolean same_layer(const struct manifest_layer *a, const struct manifest_layer *b)
{
        return strcmp(a->id, b->id) == 0 && memcmp(a->map_digest, b->map_digest, DIGEST_SIZE) == 0;
}

static const struct manifest_layer *layer_at(const struct manifest_disk *d, guint i)
{
        return &g_array_index(d->layers, struct manifest_layer, i);
}

static gboolean disk_is_of(const struct manifest_disk *m, const struct manifest_disk *now)
{
        guint found = 0;

        if (m->number != now->number || m->size_bytes != now->size_bytes || now->layers->len == 0 ||
            !same_layer(layer_at(m, m->layers->len - 1), layer_at(now, now->layers->len - 1)))
                return FALSE;
        for (guint i = 0; i < now->layers->len && found < m->layers->len; i++)
                found += same_layer(layer_at(m, found), layer_at(now, i));
        return found == m->layers->len;
}

gboolean snapshot_manifest_is_of(const SnapshotManifest *m, const SnapshotManifest *now)
{
        gboolean same = m->disks->len == now->disks->len;

        for (guint i = 0; same && i < m->disks->len; i++)
                same = disk_is_of(m->disks->pdata[i], now->disks->pdata[i]);
        return same;
}

/* --- what a manifest may have */

static const char *text_refusal(const char *text)
{
        return strlen(text) <= TEXT_MAX ? NULL : "is too long";
}

static const char *time_refusal(const char *text)
{
        g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(text, NULL);

        return t && g_str_has_suffix(text, "Z") && g_date_time_to_unix(t) > 0
                       ? NULL
                       : "must be a time, as 2026-11-22T16:32:45.123456Z";
}

static int grade_index(const char *text)
{
        for (int g = 0; g < GRADE_MAX; g++)
                if (g_str_equal(text, snapshot_grade_name((SnapshotGrade)g)))
                        return g;
        return -1;
}

static const char *grade_refusal(const char *text)
{
        return grade_index(text) >= 0 ? NULL : "must be crash, filesystem or application";
}

static const char *id_refusal(const char *text)
{
        return layer_id_is_valid(text) ? NULL : "must be the id of a layer";
}

static const char *digest_refusal(const char *text)
{
        uint8_t digest[DIGEST_SIZE];

        return strlen(text) == (size_t)2 * DIGEST_SIZE && digest_from_hex(text, digest) ? NULL
                                                                                        : "must be a SHA-256";
}

static const struct field manifest_fields[] = {
        {"format", FIELD_NUMBER, TRUE, FORMAT, FORMAT, NULL},
        {"vm", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"id", FIELD_TEXT, TRUE, 0, 0, operation_id_refusal},
        {"name", FIELD_TEXT, TRUE, 0, 0, vm_name_refusal},
        {"taken", FIELD_TEXT, TRUE, 0, 0, time_refusal},
        {"grade", FIELD_TEXT, TRUE, 0, 0, grade_refusal},
        {"why", FIELD_TEXT, FALSE, 0, 0, text_refusal},
        {"frozen_us", FIELD_NUMBER, TRUE, 0, G_MAXINT64, NULL},
        {"hooks", FIELD_NUMBER, TRUE, 0, G_MAXINT32, NULL},
        {"disks", FIELD_OBJECTS, TRUE, 1, DISKS_MAX, NULL},
        {0},
};
static const struct field disk_fields[] = {
        {"number", FIELD_NUMBER, TRUE, 0, DISKS_MAX - 1, NULL},
        {"device", FIELD_TEXT, TRUE, 0, 0, text_refusal},
        {"path", FIELD_TEXT, TRUE, 0, 0, file_path_refusal},
        {"size_bytes", FIELD_NUMBER, TRUE, LAYER_SECTOR, LAYER_DISK_MAX, NULL},
        {"layers", FIELD_OBJECTS, TRUE, 1, MANIFEST_LAYERS_MAX, NULL},
        {0},
};
static const struct field layer_fields[] = {
        {"id", FIELD_TEXT, TRUE, 0, 0, id_refusal},
        {"map", FIELD_TEXT, TRUE, 0, 0, digest_refusal},
        {0},
};

/* --- reading */

static char *read_layers(struct manifest_disk *d, JsonArray *layers)
{
        for (guint i = 0; i < json_array_get_length(layers); i++) {
                JsonObject *o = json_array_get_object_element(layers, i);
                uint8_t digest[DIGEST_SIZE];
                char *why = fields_refusal(o, layer_fields);

                if (why)
                        return why;
                digest_from_hex(json_object_get_string_member(o, "map"), digest);
                manifest_disk_add_layer(d, json_object_get_string_member(o, "id"), digest);
        }
        return NULL;
}

static char *read_disks(SnapshotManifest *m, JsonArray *disks)
{
        gint64 before = -1;

        for (guint i = 0; i < json_array_get_length(disks); i++) {
                JsonObject *o = json_array_get_object_element(disks, i);
                char *why = fields_refusal(o, disk_fields);
                struct manifest_disk *d;

                if (why)
                        return why;
                if (json_object_get_int_member(o, "number") <= before)
                        return g_strdup("the numbers of its disks do not ascend");
                before = json_object_get_int_member(o, "number");
                d = snapshot_manifest_add_disk(m, (guint)before, json_object_get_string_member(o, "device"),
                                               json_object_get_string_member(o, "path"),
                                               (guint64)json_object_get_int_member(o, "size_bytes"));
                if (d->size_bytes % LAYER_SECTOR != 0)
                        return g_strdup("a disk is not of whole sectors");
                why = read_layers(d, json_object_get_array_member(o, "layers"));
                if (why)
                        return why;
        }
        return NULL;
}

static void read_members(SnapshotManifest *m, JsonObject *o)
{
        g_autoptr(GDateTime) t =
                g_date_time_new_from_iso8601(json_object_get_string_member(o, "taken"), NULL);

        m->vm = g_strdup(json_object_get_string_member(o, "vm"));
        m->id = g_strdup(json_object_get_string_member(o, "id"));
        m->name = g_strdup(json_object_get_string_member(o, "name"));
        m->why = g_strdup(json_object_get_string_member_with_default(o, "why", NULL));
        m->taken_us = g_date_time_to_unix(t) * G_USEC_PER_SEC + g_date_time_get_microsecond(t);
        m->grade = (SnapshotGrade)grade_index(json_object_get_string_member(o, "grade"));
        m->frozen_us = json_object_get_int_member(o, "frozen_us");
        m->hooks = (guint)json_object_get_int_member(o, "hooks");
}

/* NULL: *ret is filled. */
static char *read_manifest(JsonObject *o, SnapshotManifest **ret)
{
        g_autoptr(SnapshotManifest) m = snapshot_manifest_new();
        char *why = fields_refusal(o, manifest_fields);

        if (why)
                return why;
        read_members(m, o);
        why = read_disks(m, json_object_get_array_member(o, "disks"));
        if (!why)
                *ret = g_steal_pointer(&m);
        return why;
}

char *snapshot_manifest_parse(const char *text, gsize len, SnapshotManifest **ret)
{
        g_autoptr(JsonParser) parser = json_parser_new_immutable();
        JsonNode *root = NULL;

        if (len == 0 || len > MANIFEST_MAX_BYTES || json_text_refusal(text, len))
                return g_strdup("it is no JSON text, or a too long one");
        if (json_parser_load_from_data(parser, text, (gssize)len, NULL))
                root = json_parser_get_root(parser);
        if (!root || !JSON_NODE_HOLDS_OBJECT(root))
                return g_strdup("it is no JSON object");
        return read_manifest(json_node_get_object(root), ret);
}

/* --- writing */

static JsonArray *layers_json(const struct manifest_disk *d)
{
        JsonArray *a = json_array_new();

        for (guint i = 0; i < d->layers->len; i++) {
                const struct manifest_layer *l = &g_array_index(d->layers, struct manifest_layer, i);
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "id", l->id);
                json_object_set_hex(o, "map", l->map_digest, DIGEST_SIZE);
                json_array_add_object_element(a, o);
        }
        return a;
}

static JsonArray *disks_json(const SnapshotManifest *m)
{
        JsonArray *a = json_array_new();

        for (guint i = 0; i < m->disks->len; i++) {
                const struct manifest_disk *d = m->disks->pdata[i];
                JsonObject *o = json_object_new();

                json_object_set_int_member(o, "number", d->number);
                json_object_set_string_member(o, "device", d->device);
                json_object_set_string_member(o, "path", d->path);
                json_object_set_int_member(o, "size_bytes", (gint64)d->size_bytes);
                json_object_set_array_member(o, "layers", layers_json(d));
                json_array_add_object_element(a, o);
        }
        return a;
}

GBytes *snapshot_manifest_encode(const SnapshotManifest *m, GError **error)
{
        JsonObject *o = json_object_new();
        g_autoptr(SnapshotManifest) back = NULL;
        g_autofree char *text = NULL, *why = NULL;
        gsize len;

        json_object_set_int_member(o, "format", FORMAT);
        json_object_set_string_member(o, "vm", m->vm);
        json_object_set_string_member(o, "id", m->id);
        json_object_set_string_member(o, "name", m->name);
        json_object_set_time(o, "taken", m->taken_us);
        json_object_set_string_member(o, "grade", snapshot_grade_name(m->grade));
        if (m->why)
                json_object_set_string_member(o, "why", m->why);
        json_object_set_int_member(o, "frozen_us", m->frozen_us);
        json_object_set_int_member(o, "hooks", m->hooks);
        json_object_set_array_member(o, "disks", disks_json(m));
        text = json_object_text(o);
        len = strlen(text);
        why = snapshot_manifest_parse(text, len, &back);
        if (!why)
                return g_bytes_new_take(g_steal_pointer(&text), len);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "the snapshot %s of %s cannot be described in the store: %s", m->id, m->vm, why);
        return NULL;
}

#define FOLDER "snapshots/"
#define SUFFIX ".json"

char *snapshot_key(const char *vm, const char *id)
{
        return g_strconcat(FOLDER, vm, "/", id, SUFFIX, NULL);
}

gboolean snapshot_key_parse(const char *key, char **ret_vm, char **ret_id)
{
        g_auto(GStrv) parts = g_strsplit(key, "/", 4);

        if (g_strv_length(parts) != 3 || !g_str_equal(parts[0], "snapshots") || vm_name_refusal(parts[1]) ||
            !g_str_has_suffix(parts[2], SUFFIX))
                return FALSE;
        parts[2][strlen(parts[2]) - strlen(SUFFIX)] = 0;
        if (operation_id_refusal(parts[2]))
                return FALSE;
        *ret_vm = g_strdup(parts[1]);
        *ret_id = g_strdup(parts[2]);
        return TRUE;
}
