/* host-service/store/share_check.c - the job kind "store-verify-shared": whether every release of the shared
 * store has its chunks, and these have the bytes that their names say. Nothing is changed. */
#include <string.h>

#include "common/error.h"
#include "host-service/store/chunk_file.h"
#include "host-service/store/report.h"
#include "host-service/store/share_survey.h"

#define FINDINGS_MAX 1000 /* that are told one by one */
#define NAMES_MAX    8    /* releases that one finding names */

/* A chunk as a release describes it. */
struct wanted {
        uint8_t id[DIGEST_SIZE];
        guint32 len;
        guint32 release; /* the first that names it */
};

struct check_task {
        struct survey_task s;
        GArray *wanted; /* of struct wanted */
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
        g_clear_pointer(&t->findings, g_ptr_array_unref);
        g_mutex_clear(&t->lock);
}

static const struct survey_release *release_of(const struct check_task *t, guint i)
{
        return t->s.releases->pdata[i];
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

static struct wanted wanted_of(const GArray *refs, guint i, guint release)
{
        const struct chunk_ref *r = &g_array_index(refs, struct chunk_ref, i);
        struct wanted w = {.len = (guint32)(r->end - chunk_begin(refs, i)), .release = release};

        memcpy(w.id, r->id, DIGEST_SIZE);
        return w;
}

/* Each chunk once, however many releases name it. */
static void collect_wanted(struct check_task *t)
{
        g_autoptr(GHashTable) seen = g_hash_table_new_full(wanted_hash, wanted_equal, g_free, NULL);

        t->wanted = g_array_new(FALSE, FALSE, sizeof(struct wanted));
        for (guint r = 0; r < t->s.releases->len; r++) {
                const GArray *refs = release_of(t, r)->refs;

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

/* Which other releases want it, in words. */
static void append_others(const struct check_task *t, const struct wanted *w, GString *text)
{
        guint n = 0;

        for (guint r = w->release + 1; r < t->s.releases->len; r++) {
                const GArray *refs = release_of(t, r)->refs;

                for (guint i = 0; refs && i < refs->len; i++) {
                        struct wanted other = wanted_of(refs, i, r);

                        if (!wanted_equal(w, &other))
                                continue;
                        if (n++ < NAMES_MAX)
                                g_string_append_printf(text, "%s%s", n == 1 ? "; it is also of " : ", ",
                                                       release_of(t, r)->name);
                        break;
                }
        }
        if (n > NAMES_MAX)
                g_string_append_printf(text, " and %u more", n - NAMES_MAX);
}

/* Any thread. @text is copied. */
static void add_finding(struct check_task *t, FindingKind kind, guint release, const char *key,
                        const char *text)
{
        g_mutex_lock(&t->lock);
        if (t->findings->len < FINDINGS_MAX) {
                Finding *f = finding_new(kind, NULL, key, text);
                g_auto(GStrv) words = g_strsplit(release_of(t, release)->name, " ", 2);

                f->name = g_strdup(words[0]);
                f->version = g_strdup(words[0] && words[1] ? words[1] : "");
                g_ptr_array_add(t->findings, f);
        } else {
                t->more++;
        }
        g_mutex_unlock(&t->lock);
}

/* TRUE: the chunk is whole, or *ret_why says what it is instead, NOT_FOUND or another. FALSE: it could not be
 * looked at. */
static gboolean look_once(struct check_task *t, const struct wanted *w, const char *key, GError **ret_why,
                          GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->s.task.owner->objects;
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) stored = o->ops->get(o, key, OBJECT_MAX_BYTES, cancellable, &why), chunk = NULL;

        g_clear_error(ret_why);
        if (stored)
                chunk = chunk_unpack(stored, w->len, w->id, &why);
        if (chunk)
                return TRUE;
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CORRUPT) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_IO)) {
                *ret_why = g_steal_pointer(&why);
                return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
}

/* A release that was deleted meanwhile may lose its chunks. */
static gboolean still_there(struct check_task *t, const struct wanted *w, gboolean *ret,
                            GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->s.task.owner->objects;

        return o->ops->has(o, release_of(t, w->release)->key, ret, NULL, cancellable, error);
}

/* What is wrong may be the network's: it is looked at twice. */
static gboolean check_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct check_task *t = user;
        const struct wanted *w = &g_array_index(t->wanted, struct wanted, index);
        g_autofree char *key = chunk_key(w->id);
        g_autoptr(GError) why = NULL;
        gboolean there = TRUE;

        if (!look_once(t, w, key, &why, cancellable, error) ||
            (why && !look_once(t, w, key, &why, cancellable, error)) ||
            (why && !still_there(t, w, &there, cancellable, error)))
                return FALSE;
        if (why && there) {
                gboolean missing = g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
                g_autoptr(GString) text =
                        g_string_new(missing ? "a chunk of the release is not there" : why->message);

                append_others(t, w, text);
                add_finding(t, missing ? FINDING_CHUNK_MISSING : FINDING_CHUNK_DAMAGED, w->release, key,
                            text->str);
        }
        __atomic_add_fetch(&t->bytes, (guint64)w->len, __ATOMIC_RELAXED);
        share_task_count(&t->s.task, w->len);
        return TRUE;
}

/* Chunks that no release names: of an upload that goes on, or of one that did not end. */
static guint count_unnamed(const struct check_task *t)
{
        g_autoptr(GHashTable) named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        guint n = 0;

        for (guint i = 0; i < t->wanted->len; i++)
                g_hash_table_add(named, chunk_key(g_array_index(t->wanted, struct wanted, i).id));
        for (guint i = 0; i < t->s.objects->len; i++)
                n += !g_hash_table_contains(named,
                                            ((const struct object_entry *)t->s.objects->pdata[i])->key);
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
        json_object_set_int_member(o, "releases", t->s.releases->len);
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

static void on_surveyed(const GError *error, gpointer user)
{
        struct check_task *t = user;

        t->s.task.transfer = NULL;
        if (error) {
                share_task_finish(&t->s.task, NULL, error);
                return;
        }
        for (guint i = 0; i < t->s.releases->len; i++)
                if (release_of(t, i)->why)
                        add_finding(t, FINDING_LIST_DAMAGED, i, release_of(t, i)->key, release_of(t, i)->why);
        collect_wanted(t);
        share_task_transfer(&t->s.task, t->wanted->len, SHARE_PARALLEL, check_step, on_checked);
}

static void check_start(const OperationRecord *op, gpointer user)
{
        struct check_task *t =
                share_task_new(user, op, sizeof *t, check_clear, g_strdup("verifying the shared store"));

        g_mutex_init(&t->lock);
        t->findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
        if (share_task_has_store(&t->s.task))
                share_survey_begin(&t->s, on_surveyed);
}

const struct job_kind share_check_kind = {"store-verify-shared", check_start, check_start, share_cancel};
