/* host-service/store/share_survey.c - listing the shared store and reading what names objects in it. */
#include "host-service/store/share_survey.h"

#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_map.h"

#define RELEASES  "releases/"
#define LAYERS    "layers/"
#define SNAPSHOTS "snapshots/"
#define SUFFIX    ".caibx"

static void list_free(gpointer p)
{
        struct survey_list *l = p;

        g_free(l->key);
        g_free(l->name);
        g_free(l->why);
        g_free(l->layer);
        g_clear_pointer(&l->refs, g_array_unref);
        g_free(l);
}

static void snapshot_free(gpointer p)
{
        struct survey_snapshot *s = p;

        g_free(s->key);
        g_free(s->name);
        g_free(s->why);
        snapshot_manifest_free(s->manifest);
        g_free(s);
}

void share_survey_clear(struct survey_task *t)
{
        g_clear_pointer(&t->layers, g_hash_table_unref);
        g_clear_pointer(&t->objects, g_ptr_array_unref);
        g_clear_pointer(&t->lists, g_ptr_array_unref);
        g_clear_pointer(&t->snapshots, g_ptr_array_unref);
        g_clear_pointer(&t->entries, g_ptr_array_unref);
}

/* Whatever is called a list below releases/ is one, also under a name that we would not give it. */
static void add_release(struct survey_task *t, const char *key)
{
        struct survey_list *l;

        if (!g_str_has_suffix(key, SUFFIX))
                return;
        l = g_new0(struct survey_list, 1);
        l->key = g_strdup(key);
        l->name = g_strndup(key + strlen(RELEASES), strlen(key) - strlen(RELEASES) - strlen(SUFFIX));
        g_strdelimit(l->name, "/", ' ');
        g_ptr_array_add(t->lists, l);
}

static void add_layer(struct survey_task *t, const struct object_entry *o)
{
        g_autofree char *id = layer_key_id(o->key);
        struct survey_list *l;

        if (!id)
                return;
        l = g_new0(struct survey_list, 1);
        l->key = g_strdup(o->key);
        l->name = g_strconcat("layer ", id, NULL);
        l->layer = g_steal_pointer(&id);
        l->o = o;
        g_ptr_array_add(t->lists, l);
        g_hash_table_insert(t->layers, l->layer, l);
}

/* Likewise whatever is called one below snapshots/. */
static void add_snapshot(struct survey_task *t, const struct object_entry *o)
{
        struct survey_snapshot *s;
        const char *name = strrchr(o->key, '/') + 1;

        if (!g_str_has_suffix(o->key, ".json") || *name == '.')
                return;
        s = g_new0(struct survey_snapshot, 1);
        s->key = g_strdup(o->key);
        s->name = g_strndup(o->key + strlen(SNAPSHOTS), strlen(o->key) - strlen(SNAPSHOTS) - strlen(".json"));
        g_strdelimit(s->name, "/", ' ');
        g_ptr_array_add(t->snapshots, s);
}

static gint by_key(gconstpointer a, gconstpointer b)
{
        const struct survey_list *x = *(const struct survey_list *const *)a,
                                 *y = *(const struct survey_list *const *)b;

        if (!x->layer != !y->layer)
                return x->layer ? 1 : -1;
        return strcmp(x->key, y->key);
}

static gint by_snapshot_key(gconstpointer a, gconstpointer b)
{
        return strcmp((*(const struct survey_snapshot *const *)a)->key,
                      (*(const struct survey_snapshot *const *)b)->key);
}

static void begin_anew(struct survey_task *t)
{
        share_survey_clear(t); /* of an attempt that failed */
        t->lists = g_ptr_array_new_with_free_func(list_free);
        t->snapshots = g_ptr_array_new_with_free_func(snapshot_free);
        t->entries = g_ptr_array_new_with_free_func(object_entry_free);
        t->layers = g_hash_table_new(g_str_hash, g_str_equal);
}

/* In this order: see the header. */
static gboolean list_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct survey_task *t = user;
        ObjectStore *o = t->task.owner->objects;
        g_autoptr(GPtrArray) releases = NULL, layers = NULL, snapshots = NULL;

        begin_anew(t);
        t->objects = o->ops->list(o, "chunks/", cancellable, error);
        if (t->objects)
                releases = o->ops->list(o, RELEASES, cancellable, error);
        if (releases)
                layers = o->ops->list(o, LAYERS, cancellable, error);
        if (layers)
                snapshots = o->ops->list(o, SNAPSHOTS, cancellable, error);
        if (!snapshots)
                return FALSE;
        for (guint i = 0; i < releases->len; i++)
                add_release(t, ((const struct object_entry *)releases->pdata[i])->key);
        t->releases = t->lists->len;
        for (guint i = 0; i < layers->len; i++)
                add_layer(t, layers->pdata[i]);
        for (guint i = 0; i < snapshots->len; i++)
                add_snapshot(t, snapshots->pdata[i]);
        g_ptr_array_extend_and_steal(t->entries, g_steal_pointer(&layers));
        g_ptr_array_extend_and_steal(t->entries, g_steal_pointer(&snapshots));
        g_ptr_array_sort(t->lists, by_key);
        g_ptr_array_sort(t->snapshots, by_snapshot_key);
        return TRUE;
}

/* The chunks of a map as those of a release: who counts them need not know what names them. */
static GArray *refs_of_map(const LayerMap *m)
{
        GArray *refs = g_array_sized_new(FALSE, FALSE, sizeof(struct chunk_ref), m->chunks->len);
        uint64_t end = 0;

        for (guint i = 0; i < m->chunks->len; i++) {
                const struct layer_chunk *c = &g_array_index(m->chunks, struct layer_chunk, i);
                struct chunk_ref r = {.end = end += c->len};

                memcpy(r.id, c->id, sizeof r.id);
                g_array_append_val(refs, r);
        }
        return refs;
}

/* NULL, or what is wrong; owned. */
static char *parse_list(struct survey_list *l, GBytes *data)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(LayerMap) map = NULL;

        if (!l->layer) {
                gsize len;
                const guint8 *bytes = g_bytes_get_data(data, &len);

                return g_strdup(chunk_index_parse(bytes, len, &l->refs));
        }
        map = layer_map_unpack(data, l->digest, &error);
        if (!map)
                return g_strdup(error->message);
        l->refs = refs_of_map(map);
        return NULL;
}

static char *parse_snapshot(struct survey_snapshot *s, GBytes *data)
{
        g_autofree char *vm = NULL, *id = NULL;
        gsize len;
        const char *text = g_bytes_get_data(data, &len);
        char *why = snapshot_manifest_parse(text, len, &s->manifest);

        if (why)
                return why;
        if (snapshot_key_parse(s->key, &vm, &id) && g_str_equal(s->manifest->vm, vm) &&
            g_str_equal(s->manifest->id, id))
                return NULL;
        g_clear_pointer(&s->manifest, snapshot_manifest_free);
        return g_strdup("it is the manifest of another snapshot");
}

/* *ret_data is NULL if the object was deleted since it was listed. */
static gboolean get(struct survey_task *t, const char *key, const char *name, gsize max_bytes,
                    GBytes **ret_data, GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->task.owner->objects;
        g_autoptr(GError) why = NULL;

        *ret_data = o->ops->get(o, key, max_bytes, cancellable, &why);
        if (!why || g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return TRUE;
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "the list of %s: ", name);
        return FALSE;
}

static gboolean read_list(struct survey_task *t, struct survey_list *l, GCancellable *cancellable,
                          GError **error)
{
        g_autoptr(GBytes) data = NULL;

        g_clear_pointer(&l->why, g_free);
        if (!get(t, l->key, l->name, CHUNK_INDEX_MAX_BYTES, &data, cancellable, error))
                return FALSE;
        if (data)
                l->why = parse_list(l, data);
        return TRUE;
}

static gboolean read_snapshot(struct survey_task *t, struct survey_snapshot *s, GCancellable *cancellable,
                              GError **error)
{
        g_autoptr(GBytes) data = NULL;

        g_clear_pointer(&s->why, g_free);
        if (!get(t, s->key, s->name, MANIFEST_MAX_BYTES, &data, cancellable, error))
                return FALSE;
        if (data)
                s->why = parse_snapshot(s, data);
        return TRUE;
}

/* Wrong bytes may be the network's: they are asked for twice. */
static gboolean read_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct survey_task *t = user;

        if (index < t->lists->len) {
                struct survey_list *l = t->lists->pdata[index];

                return read_list(t, l, cancellable, error) &&
                       (!l->why || read_list(t, l, cancellable, error));
        }
        struct survey_snapshot *s = t->snapshots->pdata[index - t->lists->len];

        return read_snapshot(t, s, cancellable, error) &&
               (!s->why || read_snapshot(t, s, cancellable, error));
}

static void name_layers(struct survey_task *t, struct survey_snapshot *s)
{
        g_free(s->name);
        s->name = g_strdup_printf("%s %s", s->manifest->vm, s->manifest->name);
        for (guint d = 0; d < s->manifest->disks->len; d++) {
                const struct manifest_disk *disk = s->manifest->disks->pdata[d];

                for (guint i = 0; i < disk->layers->len; i++) {
                        struct survey_list *l = g_hash_table_lookup(
                                t->layers, g_array_index(disk->layers, struct manifest_layer, i).id);

                        if (l)
                                l->named = TRUE;
                }
        }
}

static void on_read(const GError *error, gpointer user)
{
        struct survey_task *t = user;

        t->task.transfer = NULL;
        for (guint i = 0; !error && i < t->snapshots->len; i++) {
                struct survey_snapshot *s = t->snapshots->pdata[i];

                if (s->manifest)
                        name_layers(t, s);
        }
        t->next(error, t);
}

static void on_listed(const GError *error, gpointer user)
{
        struct survey_task *t = user;

        t->task.transfer = NULL;
        if (error)
                t->next(error, t);
        else
                share_task_transfer(&t->task, t->lists->len + t->snapshots->len, SHARE_PARALLEL, read_step,
                                    on_read);
}

void share_survey_begin(struct survey_task *t, transfer_done_func next)
{
        t->next = next;
        share_task_transfer(&t->task, 1, 1, list_step, on_listed);
}
