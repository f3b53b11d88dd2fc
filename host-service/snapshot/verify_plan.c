/* host-service/snapshot/verify_plan.c - what a verification has to look at: each layer and each file once. */
#include <string.h>

#include "common/error.h"
#include "host-service/snapshot/verify_private.h"

static void point_free(gpointer data)
{
        struct verify_point *p = data;

        restore_point_free(p->p);
        snapshot_manifest_free(p->manifest);
        g_clear_pointer(&p->chains, g_ptr_array_unref);
        g_free(p);
}

static void layer_free(gpointer data)
{
        struct verify_layer *l = data;

        g_clear_pointer(&l->chunks, g_array_unref);
        g_free(l);
}

static void chunk_free(gpointer data)
{
        struct verify_chunk *c = data;

        g_free(c->why);
        g_free(c);
}

static void file_free(gpointer data)
{
        struct verify_file *f = data;

        g_free(f->path);
        g_free(f->format);
        g_free(f->below);
        g_free(f);
}

static void hurt_free(gpointer data)
{
        struct verify_hurt *h = data;

        g_free(h->layer);
        g_free(h->file);
        g_free(h->text);
        g_free(h);
}

static void chain_free(gpointer chain)
{
        file_chain_free(chain);
}

static guint chunk_hash(gconstpointer p)
{
        guint h;

        memcpy(&h, ((const struct verify_chunk *)p)->id, sizeof h);
        return h;
}

static gboolean chunk_equal(gconstpointer a, gconstpointer b)
{
        const struct verify_chunk *x = a, *y = b;

        return x->len == y->len && memcmp(x->id, y->id, DIGEST_SIZE) == 0;
}

/* ---- the store ---- */

static void add_layers(struct verify *v, const GPtrArray *line)
{
        for (guint i = 0; i < line->len; i++) {
                const LayerRecord *r = line->pdata[i];
                struct verify_layer *l;

                if (!r->uploaded_us || g_hash_table_contains(v->layer_index, r->id))
                        continue;
                l = g_new0(struct verify_layer, 1);
                l->r = r;
                g_ptr_array_add(v->layers, l);
                g_hash_table_insert(v->layer_index, r->id, l);
        }
}

static void plan_store(struct verify *v, struct verify_point *p)
{
        g_autoptr(GError) error = NULL;

        p->in_store = p->p->s->uploaded_us != 0 && v->owner->env->objects;
        if (!p->in_store)
                return;
        p->manifest = restore_point_manifest(p->p, &error);
        if (!p->manifest)
                verify_note(v, FINDING_SNAPSHOT_DAMAGED, NULL, NULL, p, g_strdup(error->message));
        for (guint i = 0; i < p->p->lines->len; i++)
                add_layers(v, p->p->lines->pdata[i]);
}

/* ---- files ---- */

static struct verify_file *find_file(const struct verify *v, const char *path)
{
        for (guint i = 0; i < v->files->len; i++) {
                struct verify_file *f = v->files->pdata[i];

                if (strcmp(f->path, path) == 0)
                        return f;
        }
        return NULL;
}

static const LayerRecord *row_of_file(const GPtrArray *line, const char *path)
{
        for (guint i = 0; i < line->len; i++) {
                const LayerRecord *r = line->pdata[i];

                if (g_strcmp0(r->file, path) == 0)
                        return r;
        }
        return NULL;
}

static void add_files(struct verify *v, GPtrArray *line, const FileChain *chain)
{
        for (guint i = 0; i < chain->images->len; i++) {
                const struct disk_image *image = &g_array_index(chain->images, struct disk_image, i);
                const LayerRecord *r = row_of_file(line, image->path);
                struct verify_file *f;

                if (find_file(v, image->path))
                        continue;
                f = g_new0(struct verify_file, 1);
                f->path = g_strdup(image->path);
                f->format = g_strdup(image->format);
                if (i + 1 < chain->images->len)
                        f->below = g_strdup(g_array_index(chain->images, struct disk_image, i + 1).path);
                if (r && layer_record_is_base(r))
                        f->base = line;
                else if (r)
                        f->size_bytes = r->size_bytes;
                v->total += (gint64)f->size_bytes;
                g_ptr_array_add(v->files, f);
        }
}

static void plan_files(struct verify *v, struct verify_point *p)
{
        g_autoptr(GError) error = NULL;

        p->chains = g_ptr_array_new_with_free_func(chain_free);
        p->in_files = TRUE;
        for (guint i = 0; i < p->p->lines->len; i++) {
                GPtrArray *line = p->p->lines->pdata[i];
                FileChain *chain = layer_line_files(line, 0, line->len, error ? NULL : &error);

                g_ptr_array_add(p->chains, chain);
                if (chain)
                        add_files(v, line, chain);
                else
                        p->in_files = FALSE;
        }
        if (!p->in_store && !p->in_files)
                verify_note(
                        v, FINDING_SNAPSHOT_LOST, NULL, NULL, p,
                        g_strdup_printf("it is not in the store, and not in files here: %s", error->message));
}

/* ---- all of it ---- */

static gboolean keep(struct verify *v, GPtrArray *loaded, GError **error)
{
        for (guint i = 0; i < loaded->len; i++) {
                RestorePoint *p = loaded->pdata[i];
                struct verify_point *point;

                if (v->snapshot && strcmp(p->s->id, v->snapshot) != 0)
                        continue;
                point = g_new0(struct verify_point, 1);
                point->p = g_steal_pointer(&loaded->pdata[i]);
                g_ptr_array_add(v->points, point);
        }
        if (!v->snapshot || v->points->len > 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                    "snapshot %s is not taken (yet): there is nothing to verify", v->snapshot);
        return FALSE;
}

gboolean verify_plan(struct verify *v, GError **error)
{
        g_autoptr(GPtrArray) loaded = restore_points_load(v->owner->catalogue, v->vm, error);

        v->points = g_ptr_array_new_with_free_func(point_free);
        v->layers = g_ptr_array_new_with_free_func(layer_free);
        v->layer_index = g_hash_table_new(g_str_hash, g_str_equal);
        v->chunks = g_ptr_array_new_with_free_func(chunk_free);
        v->chunk_index = g_hash_table_new(chunk_hash, chunk_equal);
        v->files = g_ptr_array_new_with_free_func(file_free);
        v->hurts = g_ptr_array_new_with_free_func(hurt_free);
        v->held = g_ptr_array_new_with_free_func(g_free);
        if (!loaded || !keep(v, loaded, error))
                return FALSE;
        for (guint i = 0; i < v->points->len; i++) {
                struct verify_point *p = v->points->pdata[i];

                plan_store(v, p);
                plan_files(v, p);
                restore_point_add_ids(p->p, v->held);
        }
        return TRUE;
}

void verify_plan_clear(struct verify *v)
{
        g_clear_pointer(&v->layer_index, g_hash_table_unref);
        g_clear_pointer(&v->chunk_index, g_hash_table_unref);
        g_clear_pointer(&v->layers, g_ptr_array_unref);
        g_clear_pointer(&v->chunks, g_ptr_array_unref);
        g_clear_pointer(&v->files, g_ptr_array_unref);
        g_clear_pointer(&v->hurts, g_ptr_array_unref);
        g_clear_pointer(&v->held, g_ptr_array_unref);
        g_clear_pointer(&v->points, g_ptr_array_unref);
}
