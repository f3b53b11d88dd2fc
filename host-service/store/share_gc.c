/* host-service/store/share_gc.c - the job kind "store-gc-shared": objects that nothing in the shared store
 * names, and that have lain there for longer than any push or upload takes, go. Releases and snapshots are
 * named by nobody, and stay.
 *
 * Layers first: maps that no snapshot names. Then chunks that no release names, and no map that is still
 * there: not before, since an upload may find a map, and so make it young, until the moment in which it goes.
 *
 * What makes it safe beside pushes of other hosts, without a lock: who puts a list puts first what it names,
 * or makes it young where it is there (chunk_push.h, snapshot_manifest.h); what is named is listed here
 * before what names it is read; and each object's age is asked for once more right before it goes. All times
 * are the store's own. */
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/layers/layer_map.h"
#include "host-service/store/share_survey.h"

#define NAMES_MAX 1000 /* objects that the result names */

struct gc_task {
        struct survey_task s;
        gboolean dry_run;
        gint64 grace_s, limit_s; /* what was changed later than limit_s stays */
        GPtrArray *chosen;       /* of struct object_entry, which the survey owns */
        guint named, young;
        guint64 young_bytes;
        GMutex lock;      /* of: */
        GHashTable *gone; /* keys */
        guint64 bytes;
};

static void gc_clear(struct share_task *task)
{
        struct gc_task *t = (struct gc_task *)task;

        g_clear_pointer(&t->chosen, g_ptr_array_unref);
        g_clear_pointer(&t->gone, g_hash_table_unref);
        g_mutex_clear(&t->lock);
        share_survey_clear(&t->s);
}

static gint by_text(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static JsonObject *result_of(struct gc_task *t)
{
        JsonObject *o = json_object_new();
        JsonArray *names = json_array_new();
        guint count;
        g_autofree gpointer *gone = g_hash_table_get_keys_as_array(t->gone, &count);

        qsort(gone, count, sizeof *gone, by_text);
        for (guint i = 0; i < count && i < NAMES_MAX; i++)
                json_array_add_string_element(names, gone[i]);
        json_object_set_boolean_member(o, "dry_run", t->dry_run);
        json_object_set_string_member(o, "store", t->s.task.owner->objects->name);
        json_object_set_int_member(o, "releases", t->s.releases);
        json_object_set_int_member(o, "snapshots", t->s.snapshots ? t->s.snapshots->len : 0);
        json_object_set_int_member(o, "layers", t->s.layers ? g_hash_table_size(t->s.layers) : 0);
        json_object_set_int_member(o, "named", t->named);
        json_object_set_int_member(o, "young", t->young);
        json_object_set_int_member(o, "young_bytes", (gint64)t->young_bytes);
        json_object_set_int_member(o, "removed", count);
        json_object_set_int_member(o, "bytes", (gint64)t->bytes);
        json_object_set_array_member(o, "objects", names);
        return o;
}

static void over(struct gc_task *t, const GError *why)
{
        guint count = g_hash_table_size(t->gone);
        g_autofree char *n = g_strdup_printf("%u", count),
                        *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, t->bytes);

        if (!t->dry_run && count > 0)
                event_log(EVENT_INFO, "store-shared-collected",
                          "objects that nothing names are gone from the shared store", "store",
                          t->s.task.owner->objects->name, "objects", n, "bytes", bytes, NULL);
        share_task_finish(&t->s.task, result_of(t), why);
}

static gboolean clock_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct gc_task *t = user;
        ObjectStore *o = t->s.task.owner->objects;
        gint64 now_s;

        if (!o->ops->now(o, &now_s, cancellable, error))
                return FALSE;
        t->limit_s = now_s - t->grace_s;
        return TRUE;
}

/* Only what was made by us: a chunk, a map, or what was left of an object that was being written. */
static gboolean is_ours(const char *key)
{
        g_autofree char *layer = layer_key_id(key);
        const char *name = strrchr(key, '/') + 1;

        return layer || chunk_key_is(key) || *name == '.';
}

/* What nothing names. */
static void choose_if_old(struct gc_task *t, struct object_entry *e)
{
        if (!is_ours(e->key))
                return;
        if (e->modified_s < t->limit_s) {
                g_ptr_array_add(t->chosen, e);
        } else {
                t->young++;
                t->young_bytes += e->size;
        }
}

static gboolean cannot_say(struct gc_task *t, const char *key, const char *why, GError **error)
{
        g_set_error(error, MOULT_ERROR, why ? MOULT_ERROR_CORRUPT : MOULT_ERROR_BUSY,
                    "%s: %s: %s; nothing was removed, because what it needs is not known: %s",
                    t->s.task.owner->objects->name, key, why ? why : "it went while it was looked at",
                    why ? "see moult store verify --shared" : "try again");
        return FALSE;
}

/* FALSE: what is needed is not known. A layer or a snapshot that went needs nothing; a layer that nobody
 * names may be anything. */
static gboolean judge_survey(struct gc_task *t, GError **error)
{
        for (guint i = 0; i < t->s.lists->len; i++) {
                const struct survey_list *l = t->s.lists->pdata[i];

                if (!l->refs && (!l->layer || (l->named && l->why)))
                        return cannot_say(t, l->key, l->why, error);
        }
        for (guint i = 0; i < t->s.snapshots->len; i++) {
                const struct survey_snapshot *s = t->s.snapshots->pdata[i];

                if (s->why)
                        return cannot_say(t, s->key, s->why, error);
        }
        return TRUE;
}

static void choose_layers(struct gc_task *t)
{
        t->chosen = g_ptr_array_new();
        for (guint i = 0; i < t->s.entries->len; i++) {
                struct object_entry *e = t->s.entries->pdata[i];
                g_autofree char *id = layer_key_id(e->key);
                const struct survey_list *l = id ? g_hash_table_lookup(t->s.layers, id) : NULL;

                if (!l || !l->named)
                        choose_if_old(t, e);
        }
}

/* By releases, and by the layers that are still there. */
static GHashTable *named_chunks(const struct gc_task *t)
{
        GHashTable *named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        for (guint i = 0; i < t->s.lists->len; i++) {
                const struct survey_list *l = t->s.lists->pdata[i];

                if (g_hash_table_contains(t->gone, l->key))
                        continue;
                for (guint k = 0; l->refs && k < l->refs->len; k++)
                        g_hash_table_add(named, chunk_key(g_array_index(l->refs, struct chunk_ref, k).id));
        }
        return named;
}

static void choose_chunks(struct gc_task *t)
{
        g_autoptr(GHashTable) named = named_chunks(t);

        t->named = g_hash_table_size(named);
        g_ptr_array_set_size(t->chosen, 0);
        for (guint i = 0; i < t->s.objects->len; i++) {
                struct object_entry *e = t->s.objects->pdata[i];

                if (!g_hash_table_contains(named, e->key))
                        choose_if_old(t, e);
        }
}

/* Meanwhile somebody may have found it, and made it young. */
static gboolean remove_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct gc_task *t = user;
        ObjectStore *o = t->s.task.owner->objects;
        const struct object_entry *e = t->chosen->pdata[index];
        gint64 modified_s;
        gboolean there;

        if (!o->ops->has(o, e->key, &there, &modified_s, cancellable, error))
                return FALSE;
        if (there && modified_s < t->limit_s) {
                if (!t->dry_run && !o->ops->remove(o, e->key, cancellable, error))
                        return FALSE;
                fault_point("shared-gc-removed");
                g_mutex_lock(&t->lock);
                g_hash_table_add(t->gone, g_strdup(e->key));
                t->bytes += e->size;
                g_mutex_unlock(&t->lock);
        }
        share_task_count(&t->s.task, 1);
        return TRUE;
}

static void on_removed(const GError *error, gpointer user)
{
        struct gc_task *t = user;

        t->s.task.transfer = NULL;
        over(t, error);
}

static void on_layers_removed(const GError *error, gpointer user)
{
        struct gc_task *t = user;

        t->s.task.transfer = NULL;
        if (error) {
                over(t, error);
                return;
        }
        choose_chunks(t);
        fault_point("shared-gc-chosen");
        t->s.task.total += t->chosen->len;
        share_task_transfer(&t->s.task, t->chosen->len, SHARE_PARALLEL, remove_step, on_removed);
}

static void on_surveyed(const GError *error, gpointer user)
{
        struct gc_task *t = user;
        g_autoptr(GError) why = NULL;

        t->s.task.transfer = NULL;
        if (error) {
                over(t, error);
                return;
        }
        if (!judge_survey(t, &why)) {
                over(t, why);
                return;
        }
        choose_layers(t);
        fault_point("shared-gc-layers-chosen");
        t->s.task.total = t->chosen->len;
        share_task_transfer(&t->s.task, t->chosen->len, SHARE_PARALLEL, remove_step, on_layers_removed);
}

static void on_clock(const GError *error, gpointer user)
{
        struct gc_task *t = user;

        t->s.task.transfer = NULL;
        if (error)
                over(t, error);
        else
                share_survey_begin(&t->s, on_surveyed);
}

static void gc_start(const OperationRecord *op, gpointer user)
{
        struct gc_task *t = share_task_new(user, op, sizeof *t, gc_clear,
                                           g_strdup("collecting what nobody needs in the shared store"));
        g_autoptr(JsonObject) o = share_request(op);

        g_mutex_init(&t->lock);
        t->gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        t->dry_run = json_object_get_boolean_member_with_default(o, "dry_run", FALSE);
        t->grace_s =
                3600 * json_object_get_int_member_with_default(o, "grace_hours", SHARE_GRACE_HOURS_DEFAULT);
        if (share_task_has_store(&t->s.task))
                share_task_transfer(&t->s.task, 1, 1, clock_step, on_clock);
}

const struct job_kind share_gc_kind = {"store-gc-shared", gc_start, gc_start, share_cancel};
