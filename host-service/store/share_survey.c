/* host-service/store/share_survey.c - listing the shared store and reading its lists of chunks. */
#include "host-service/store/share_survey.h"

#include <string.h>

#include "common/error.h"

#define RELEASES "releases/"
#define SUFFIX   ".caibx"

static void release_free(gpointer p)
{
        struct survey_release *r = p;

        g_free(r->key);
        g_free(r->name);
        g_free(r->why);
        g_clear_pointer(&r->refs, g_array_unref);
        g_free(r);
}

void share_survey_clear(struct survey_task *t)
{
        g_clear_pointer(&t->objects, g_ptr_array_unref);
        g_clear_pointer(&t->releases, g_ptr_array_unref);
}

/* Whatever is called a list below releases/ is one, also under a name that we would not give it. */
static void add_release(struct survey_task *t, const char *key)
{
        struct survey_release *r;

        if (!g_str_has_suffix(key, SUFFIX))
                return;
        r = g_new0(struct survey_release, 1);
        r->key = g_strdup(key);
        r->name = g_strndup(key + strlen(RELEASES), strlen(key) - strlen(RELEASES) - strlen(SUFFIX));
        g_strdelimit(r->name, "/", ' ');
        g_ptr_array_add(t->releases, r);
}

static gint by_key(gconstpointer a, gconstpointer b)
{
        return strcmp((*(const struct survey_release *const *)a)->key,
                      (*(const struct survey_release *const *)b)->key);
}

static gboolean list_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct survey_task *t = user;
        ObjectStore *o = t->task.owner->objects;
        g_autoptr(GPtrArray) lists = NULL;

        share_survey_clear(t); /* of an attempt that failed */
        t->releases = g_ptr_array_new_with_free_func(release_free);
        t->objects = o->ops->list(o, "chunks/", cancellable, error);
        if (t->objects)
                lists = o->ops->list(o, RELEASES, cancellable, error);
        for (guint i = 0; lists && i < lists->len; i++)
                add_release(t, ((const struct object_entry *)lists->pdata[i])->key);
        g_ptr_array_sort(t->releases, by_key);
        return lists != NULL;
}

/* *ret_why: what was read is no list; a static text. */
static gboolean read_once(struct survey_task *t, struct survey_release *r, const char **ret_why,
                          GCancellable *cancellable, GError **error)
{
        ObjectStore *o = t->task.owner->objects;
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) data = o->ops->get(o, r->key, CHUNK_INDEX_MAX_BYTES, cancellable, &why);
        gsize len;

        *ret_why = NULL;
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return TRUE; /* deleted since it was listed */
        if (why) {
                g_propagate_prefixed_error(error, g_steal_pointer(&why), "the list of %s: ", r->name);
                return FALSE;
        }
        const guint8 *bytes = g_bytes_get_data(data, &len);
        *ret_why = chunk_index_parse(bytes, len, &r->refs);
        return TRUE;
}

/* Wrong bytes may be the network's: they are asked for twice. */
static gboolean read_step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct survey_task *t = user;
        struct survey_release *r = t->releases->pdata[index];
        const char *why;

        if (!read_once(t, r, &why, cancellable, error) || (why && !read_once(t, r, &why, cancellable, error)))
                return FALSE;
        g_free(r->why);
        r->why = g_strdup(why);
        return TRUE;
}

static void on_listed(const GError *error, gpointer user)
{
        struct survey_task *t = user;

        t->task.transfer = NULL;
        if (error)
                t->next(error, t);
        else
                share_task_transfer(&t->task, t->releases->len, SHARE_PARALLEL, read_step, t->next);
}

void share_survey_begin(struct survey_task *t, transfer_done_func next)
{
        t->next = next;
        share_task_transfer(&t->task, 1, 1, list_step, on_listed);
}
