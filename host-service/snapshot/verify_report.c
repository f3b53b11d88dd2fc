/* host-service/snapshot/verify_report.c - which restore points are affected by what was found, and what is
 * told of it. */
#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/json.h"
#include "host-service/snapshot/verify_private.h"

#define FINDINGS_MAX 1000 /* that are told one by one */

void verify_note(struct verify *v, FindingKind kind, const char *layer, const char *file,
                 struct verify_point *point, char *text)
{
        struct verify_hurt *h = g_new0(struct verify_hurt, 1);

        h->kind = kind;
        h->layer = g_strdup(layer);
        h->file = g_strdup(file);
        h->point = point;
        h->text = text;
        g_mutex_lock(&v->lock);
        g_ptr_array_add(v->hurts, h);
        g_mutex_unlock(&v->lock);
}

/* ---- whom it affects ---- */

static gboolean needs_layer(const struct verify_point *p, const char *layer)
{
        for (guint d = 0; p->in_store && d < p->p->lines->len; d++) {
                const GPtrArray *line = p->p->lines->pdata[d];

                for (guint i = 0; i < line->len; i++)
                        if (strcmp(((const LayerRecord *)line->pdata[i])->id, layer) == 0)
                                return TRUE;
        }
        return FALSE;
}

static gboolean needs_file(const struct verify_point *p, const char *file)
{
        for (guint d = 0; p->in_files && d < p->chains->len; d++) {
                const FileChain *chain = p->chains->pdata[d];

                for (guint i = 0; i < chain->images->len; i++)
                        if (strcmp(g_array_index(chain->images, struct disk_image, i).path, file) == 0)
                                return TRUE;
        }
        return FALSE;
}

static gboolean affects(const struct verify_hurt *h, const struct verify_point *p)
{
        return h->point == p || (h->layer && needs_layer(p, h->layer)) || (h->file && needs_file(p, h->file));
}

static void hurt_point(const struct verify_hurt *h, struct verify_point *p)
{
        if (h->file || h->kind == FINDING_STATE_DIFFERS || h->kind == FINDING_SNAPSHOT_LOST)
                p->files_hurt = TRUE;
        if (!h->file)
                p->store_hurt = TRUE;
}

void verify_judge(struct verify *v)
{
        for (guint i = 0; i < v->hurts->len; i++)
                for (guint k = 0; k < v->points->len; k++)
                        if (affects(v->hurts->pdata[i], v->points->pdata[k]))
                                hurt_point(v->hurts->pdata[i], v->points->pdata[k]);
}

/* One that was removed meanwhile may have lost what it needs. */
static void forget_removed(struct verify *v)
{
        for (guint i = v->points->len; i-- > 0;) {
                struct verify_point *p = v->points->pdata[i];
                g_autoptr(GError) error = NULL;
                g_autoptr(SnapshotRecord) s =
                        catalogue_snapshot_get(v->owner->catalogue, p->p->s->id, &error);

                if (!g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        continue;
                for (guint k = v->hurts->len; k-- > 0;)
                        if (((struct verify_hurt *)v->hurts->pdata[k])->point == p)
                                g_ptr_array_remove_index(v->hurts, k);
                g_ptr_array_remove_index(v->points, i);
        }
}

/* ---- telling ---- */

static gboolean is_damaged(const struct verify_point *p)
{
        return p->store_hurt || p->files_hurt;
}

static gboolean can_be_had(const struct verify_point *p)
{
        return (p->in_store && !p->store_hurt) || (p->in_files && !p->files_hurt);
}

static const char *condition(gboolean there, gboolean hurt)
{
        return !there ? "absent" : hurt ? "damaged" : "whole";
}

static JsonObject *name_of(const struct verify_point *p)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "vm", p->p->s->vm);
        json_object_set_string_member(o, "id", p->p->s->id);
        json_object_set_string_member(o, "name", p->p->s->name);
        return o;
}

static JsonArray *points_json(const struct verify *v, guint *ret_damaged)
{
        JsonArray *a = json_array_new();

        *ret_damaged = 0;
        for (guint i = 0; i < v->points->len; i++) {
                const struct verify_point *p = v->points->pdata[i];
                JsonObject *o = name_of(p);

                json_object_set_time(o, "taken", p->p->s->taken_us);
                json_object_set_string_member(o, "state", is_damaged(p) ? "damaged" : "good");
                json_object_set_boolean_member(o, "rebuildable", can_be_had(p));
                json_object_set_string_member(o, "store", condition(p->in_store, p->store_hurt));
                json_object_set_string_member(o, "files", condition(p->in_files, p->files_hurt));
                json_object_set_boolean_member(o, "rebuilt", p->rebuilt);
                json_object_set_boolean_member(o, "compared", p->compared);
                *ret_damaged += is_damaged(p);
                json_array_add_object_element(a, o);
        }
        return a;
}

static JsonObject *hurt_json(const struct verify *v, const struct verify_hurt *h, guint *ret_affected)
{
        g_autofree char *layer = h->layer ? g_strdup_printf("layers/%s.layer", h->layer) : NULL;
        g_autoptr(Finding) f = finding_new(h->kind, NULL, h->file ? h->file : layer, h->text);
        JsonObject *o = finding_to_json(f, NULL);
        JsonArray *a = json_array_new();

        for (guint i = 0; i < v->points->len; i++)
                if (affects(h, v->points->pdata[i]))
                        json_array_add_object_element(a, name_of(v->points->pdata[i]));
        *ret_affected = json_array_get_length(a);
        json_object_set_array_member(o, "snapshots", a);
        return o;
}

static JsonArray *hurts_json(const struct verify *v, guint *ret_more)
{
        JsonArray *a = json_array_new();

        *ret_more = 0;
        for (guint i = 0; i < v->hurts->len; i++) {
                const struct verify_hurt *h = v->hurts->pdata[i];
                guint affected;
                JsonObject *o = hurt_json(v, h, &affected);

                if (affected > 0 && json_array_get_length(a) < FINDINGS_MAX) {
                        json_array_add_object_element(a, o);
                        event_log(EVENT_ERROR, "snapshot-damaged", h->text, "kind", finding_name(h->kind),
                                  NULL);
                        continue;
                }
                *ret_more += affected > 0;
                json_object_unref(o);
        }
        return a;
}

JsonObject *verify_result(struct verify *v)
{
        JsonObject *o = json_object_new();
        guint damaged, more;

        forget_removed(v);
        verify_judge(v);
        json_object_set_text(o, "vm", v->vm);
        json_object_set_boolean_member(o, "deep", v->deep);
        json_object_set_array_member(o, "snapshots", points_json(v, &damaged));
        json_object_set_int_member(o, "good", v->points->len - damaged);
        json_object_set_int_member(o, "damaged", damaged);
        json_object_set_int_member(o, "layers", v->layers->len);
        json_object_set_int_member(o, "chunks", v->chunks->len);
        json_object_set_int_member(o, "files", v->files->len);
        json_object_set_int_member(o, "bytes", v->bytes);
        json_object_set_array_member(o, "findings", hurts_json(v, &more));
        json_object_set_int_member(o, "more", more);
        return o;
}

static const char *first_text(const struct verify *v)
{
        for (guint i = 0; i < v->hurts->len; i++)
                for (guint k = 0; k < v->points->len; k++)
                        if (affects(v->hurts->pdata[i], v->points->pdata[k]))
                                return ((const struct verify_hurt *)v->hurts->pdata[i])->text;
        return NULL;
}

GError *verify_error(struct verify *v)
{
        const char *first = first_text(v);
        guint damaged = 0;

        if (!first)
                return NULL;
        for (guint i = 0; i < v->points->len; i++)
                damaged += is_damaged(v->points->pdata[i]);
        return g_error_new(MOULT_ERROR, MOULT_ERROR_CORRUPT,
                           "%u of %u restore points are damaged; the first finding: %s", damaged,
                           v->points->len, first);
}
