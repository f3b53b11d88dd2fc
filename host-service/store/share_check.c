/* host-service/store/share_check.c - the job kind "store-verify-shared": whether every snapshot of the shared
 * store has its layers, every release and layer its chunks, and these have the bytes that their names say.
 * Nothing is changed. */
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_map.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/chunk_look.h"
#include "host-service/store/report.h"
#include "host-service/store/share_survey.h"

#define FINDINGS_MAX 1000 /* that are told one by one */
#define NAMES_MAX    8    /* releases, layers or snapshots that one finding names */

/* A chunk as a list describes it. */
struct wanted {
        uint8_t id[DIGEST_SIZE];
        guint32 len;
        guint32 list; /* the first that names it */
};

/* A layer that a snapshot names, and that was not there. */
struct missing_layer {
        guint snapshot;
        const struct manifest_layer *layer; /* the manifest's */
};

struct check_task {
        struct survey_task s;
        GArray *wanted;  /* of struct wanted */
        GArray *missing; /* of struct missing_layer */
        GMutex lock;
        GPtrArray *findings;
        guint more; /* findings that are not told */
        guint64 bytes;
};

static void check_clear(struct share_task *task)
{
        struct check_task *t = (struct check_task *)task;

        share_survey_clear(&t->s);
        g_clear_pointer(&t->wanted, g_array_unref);
        g_clear_pointer(&t->missing, g_array_unref);
        g_clear_pointer(&t->findings, g_ptr_array_unref);
        g_mutex_clear(&t->lock);
}

static const struct survey_list *list_of(const struct check_task *t, guint i)
{
        return t->s.lists->pdata[i];
}

static guint wanted_hash(gconstpointer p)
{
        guint h;

        memcpy(&h, ((const struct wanted *)p)->id, sizeof h);
        return h;
}

static gboolean wanted_equal(gconstpointer a, gconstpointer b)
{
        const struct wanted *x = a, *y = b;

        return x->len == y->len && memcmp(x->id, y->id, DIGEST_SIZE) == 0;
}

static struct wanted wanted_of(const GArray *refs, guint i, guint list)
{
        const struct chunk_ref *r = &g_array_index(refs, struct chunk_ref, i);
        struct wanted w = {.len = (guint32)(r->end - chunk_begin(refs, i)), .list = list};

        memcpy(w.id, r->id, DIGEST_SIZE);
        return w;
}

/* Each chunk once, however many lists name it. */
static void collect_wanted(struct check_task *t)
{
        g_autoptr(GHashTable) seen = g_hash_table_new_full(wanted_hash, wanted_equal, g_free, NULL);

        t->wanted = g_array_new(FALSE, FALSE, sizeof(struct wanted));
        for (guint r = 0; r < t->s.lists->len; r++) {
                const GArray *refs = list_of(t, r)->refs;

                for (guint i = 0; refs && i < refs->len; i++) {
                        struct wanted w = wanted_of(refs, i, r);

                        if (!g_hash_table_contains(seen, &w)) {
                                g_hash_table_add(seen, g_memdup2(&w, sizeof w));
                                g_array_append_val(t->wanted, w);
                                t->s.task.total += w.len;
                        }
                }
        }
}

/* What else wants it, in words. */
static void append_others(const struct check_task *t, const struct wanted *w, GString *text)
{
        guint n = 0;

        for (guint r = w->list + 1; r < t->s.lists->len; r++) {
                const GArray *refs = list_of(t, r)->refs;

                for (guint i = 0; refs && i < refs->len; i++) {
                        struct wanted other = wanted_of(refs, i, r);

                        if (!wanted_equal(w, &other))
                                continue;
                        if (n++ < NAMES_MAX)
                                g_string_append_printf(text, "%s%s", n == 1 ? "; it is also of " : ", ",
                                                       list_of(t, r)->name);
                        break;
                }
        }
        if (n > NAMES_MAX)
                g_string_append_printf(text, " and %u more", n - NAMES_MAX);
}

/* Any thread. Takes @f; @list: whose release it is about, or NULL. */
static void add_finding(struct check_task *t, Finding *f, const struct survey_list *list)
{
        if (list && !list->layer) {
                g_auto(GStrv) words = g_strsplit(list->name, " ", 2);

                f->name = g_strdup(words[0]);
                f->version = g_strdup(words[0] && words[1] ? words[1] : "");
        }
        g_mutex_lock(&t->lock);
        if (t->findings->len < FINDINGS_MAX)
                g_ptr_array_add(t->findings, g_steal_pointer(&f));
        else
                t->more++;
        g_mutex_unlock(&t->lock);
        finding_free(f);
}

/* What was deleted meanwhile may lose its chunks. */
static gboolean still_there(struct check_task *t, const struct wanted *w, gboolean *ret,
                            GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->s.task.owner->objects;

        return o->ops->has(o, list_of(t, w->list)->key, ret, NULL, cancellable, error);
}

static gboolean check_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct check_task *t = user;
        const struct wanted *w = &g_array_index(t->wanted, struct wanted, index);
        g_autofree char *key = chunk_key(w->id);
        g_autoptr(GError) why = NULL;
        gboolean there = TRUE;

        if (!chunk_look(t->s.task.owner->objects, w->id, w->len, &why, cancellable, error) ||
            (why && !still_there(t, w, &there, cancellable, error)))
                return FALSE;
        if (why && there) {
                gboolean missing = g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
                const struct survey_list *list = list_of(t, w->list);
                g_autoptr(GString) text = g_string_new(NULL);

                g_string_printf(text, missing ? "a chunk of %s is not there" : "a chunk of %s: %s",
                                list->layer ? list->name : "the release", why->message);
                append_others(t, w, text);
                add_finding(t,
                            finding_new(missing ? FINDING_CHUNK_MISSING : FINDING_CHUNK_DAMAGED, NULL, key,
                                        text->str),
                            list);
        }
        __atomic_add_fetch(&t->bytes, (guint64)w->len, __ATOMIC_RELAXED);
        share_task_count(&t->s.task, w->len);
        return TRUE;
}

/* What nothing names: of an upload that goes on, or of one that did not end. */
static guint count_unnamed(const struct check_task *t)
{
        g_autoptr(GHashTable) named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        guint n = 0;

        for (guint i = 0; i < t->wanted->len; i++)
                g_hash_table_add(named, chunk_key(g_array_index(t->wanted, struct wanted, i).id));
        for (guint i = 0; i < t->s.objects->len; i++)
                n += !g_hash_table_contains(named,
                                            ((const struct object_entry *)t->s.objects->pdata[i])->key);
        for (guint i = t->s.releases; i < t->s.lists->len; i++)
                n += !list_of(t, i)->named;
        return n;
}

static gint by_place(gconstpointer a, gconstpointer b)
{
        const Finding *x = *(const Finding *const *)a, *y = *(const Finding *const *)b;
        gint c = g_strcmp0(x->name, y->name);

        if (c == 0)
                c = g_strcmp0(x->version, y->version);
        return c ? c : g_strcmp0(x->file, y->file);
}

static JsonObject *result_of(struct check_task *t)
{
        JsonObject *o = json_object_new();
        JsonArray *findings = json_array_new();

        g_ptr_array_sort(t->findings, by_place);
        for (guint i = 0; i < t->findings->len; i++)
                json_array_add_object_element(findings, finding_to_json(t->findings->pdata[i], NULL));
        json_object_set_string_member(o, "store", t->s.task.owner->objects->name);
        json_object_set_int_member(o, "releases", t->s.releases);
        json_object_set_int_member(o, "snapshots", t->s.snapshots->len);
        json_object_set_int_member(o, "layers", g_hash_table_size(t->s.layers));
        json_object_set_int_member(o, "chunks", t->wanted->len);
        json_object_set_int_member(o, "bytes", (gint64)t->bytes);
        json_object_set_int_member(o, "unnamed", count_unnamed(t));
        json_object_set_array_member(o, "findings", findings);
        json_object_set_int_member(o, "more", t->more);
        return o;
}

static void on_checked(const GError *error, gpointer user)
{
        struct check_task *t = user;
        g_autoptr(GError) why = NULL;
        JsonObject *result;

        t->s.task.transfer = NULL;
        result = result_of(t);
        findings_tell(t->findings);
        why = error ? g_error_copy(error) : findings_error(t->findings);
        share_task_finish(&t->s.task, result, why);
}

/* Which restore points need the layer, in words. */
static void append_snapshots(const struct check_task *t, const char *layer, GString *text)
{
        guint n = 0;

        for (guint i = 0; i < t->s.snapshots->len; i++) {
                const struct survey_snapshot *s = t->s.snapshots->pdata[i];

                if (!s->manifest || !snapshot_manifest_names(s->manifest, layer))
                        continue;
                if (n++ < NAMES_MAX)
                        g_string_append_printf(text, "%s%s", n == 1 ? "; it is needed by " : ", ", s->name);
        }
        if (n > NAMES_MAX)
                g_string_append_printf(text, " and %u more", n - NAMES_MAX);
}

static void layer_finding(struct check_task *t, FindingKind kind, const char *id, const char *why)
{
        g_autofree char *key = layer_key(id);
        g_autoptr(GString) text = g_string_new(why);

        append_snapshots(t, id, text);
        add_finding(t, finding_new(kind, NULL, key, text->str), NULL);
}

/* A layer that is put meanwhile is not missing, nor is one whose snapshot is removed. */
static gboolean missing_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct check_task *t = user;
        ObjectStore *o = t->s.task.owner->objects;
        const struct missing_layer *m = &g_array_index(t->missing, struct missing_layer, index);
        const struct survey_snapshot *s = t->s.snapshots->pdata[m->snapshot];
        g_autofree char *key = layer_key(m->layer->id);
        gboolean there, needed;

        if (!o->ops->has(o, key, &there, NULL, cancellable, error) ||
            !o->ops->has(o, s->key, &needed, NULL, cancellable, error))
                return FALSE;
        if (!there && needed)
                layer_finding(t, FINDING_LAYER_MISSING, m->layer->id, "the layer is not there");
        return TRUE;
}

static void on_missing_checked(const GError *error, gpointer user)
{
        struct check_task *t = user;

        t->s.task.transfer = NULL;
        if (error)
                on_checked(error, t);
        else
                share_task_transfer(&t->s.task, t->wanted->len, SHARE_PARALLEL, check_step, on_checked);
}

/* @seen: ids that something was said about: once is enough, since that names all that need it. */
static void judge_layer(struct check_task *t, guint snapshot, const struct manifest_layer *m,
                        GHashTable *seen)
{
        const struct survey_list *l = g_hash_table_lookup(t->s.layers, m->id);
        const struct missing_layer missing = {snapshot, m};

        if (l && (!l->refs || memcmp(l->digest, m->map_digest, DIGEST_SIZE) == 0))
                return; /* damaged ones are told anyway */
        if (!g_hash_table_add(seen, (gpointer)m->id))
                return;
        if (l)
                layer_finding(t, FINDING_LAYER_DAMAGED, m->id,
                              "it is not the map that a snapshot was made with");
        else
                g_array_append_val(t->missing, missing);
}

static void judge_snapshot(struct check_task *t, guint i, GHashTable *seen)
{
        const struct survey_snapshot *s = t->s.snapshots->pdata[i];

        if (s->why)
                add_finding(t, finding_new(FINDING_SNAPSHOT_DAMAGED, NULL, s->key, s->why), NULL);
        for (guint d = 0; s->manifest && d < s->manifest->disks->len; d++) {
                const struct manifest_disk *disk = s->manifest->disks->pdata[d];

                for (guint k = 0; k < disk->layers->len; k++)
                        judge_layer(t, i, &g_array_index(disk->layers, struct manifest_layer, k), seen);
        }
}

static void judge_lists(struct check_task *t)
{
        for (guint i = 0; i < t->s.lists->len; i++) {
                const struct survey_list *l = list_of(t, i);

                if (l->why && l->layer)
                        layer_finding(t, FINDING_LAYER_DAMAGED, l->layer, l->why);
                else if (l->why)
                        add_finding(t, finding_new(FINDING_LIST_DAMAGED, NULL, l->key, l->why), l);
        }
}

static void on_surveyed(const GError *error, gpointer user)
{
        struct check_task *t = user;
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

        t->s.task.transfer = NULL;
        if (error) {
                share_task_finish(&t->s.task, NULL, error);
                return;
        }
        judge_lists(t);
        for (guint i = 0; i < t->s.snapshots->len; i++)
                judge_snapshot(t, i, seen);
        collect_wanted(t);
        share_task_transfer(&t->s.task, t->missing->len, SHARE_PARALLEL, missing_step, on_missing_checked);
}

static void check_start(const OperationRecord *op, gpointer user)
{
        struct check_task *t =
                share_task_new(user, op, sizeof *t, check_clear, g_strdup("verifying the shared store"));

        g_mutex_init(&t->lock);
        t->findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
        t->missing = g_array_new(FALSE, FALSE, sizeof(struct missing_layer));
        if (share_task_has_store(&t->s.task))
                share_survey_begin(&t->s, on_surveyed);
}

const struct job_kind share_check_kind = {"store-verify-shared", check_start, check_start, share_cancel};
