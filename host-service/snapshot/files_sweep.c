/* host-service/snapshot/files_sweep.c - one file after the other, in a worker thread. */
#include "host-service/snapshot/files_sweep.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/merge_files.h"

struct FilesSweep {
        const struct host_env *env;
        Catalogue *catalogue;
        const LayerRefs *refs;
        LayersSweep *layers;
        GSource *soon;
        GPtrArray *rows; /* of MergeRecord; NULL: nothing is under way */
        guint k;
        gboolean upper, lower; /* which files of the present row go */
        gboolean working, again, gone;
        GCancellable *cancellable;
};

static void really_free(FilesSweep *s)
{
        host_timer_clear(&s->soon);
        g_clear_pointer(&s->rows, g_ptr_array_unref);
        g_object_unref(s->cancellable);
        g_free(s);
}

FilesSweep *files_sweep_new(const struct host_env *env, Catalogue *c, const LayerRefs *refs,
                            LayersSweep *layers)
{
        FilesSweep *s = g_new0(FilesSweep, 1);

        s->env = env;
        s->catalogue = c;
        s->refs = refs;
        s->layers = layers;
        s->cancellable = g_cancellable_new();
        return s;
}

void files_sweep_free(FilesSweep *s)
{
        if (!s)
                return;
        s->gone = TRUE;
        if (!s->working)
                really_free(s);
}

static gpointer work(gpointer data, GCancellable *c, GError **error)
{
        FilesSweep *s = data;
        const MergeRecord *r = s->rows->pdata[s->k];

        fault_point("merge-sweep");
        if (s->upper && !merge_files_remove(r->upper_file, error))
                return NULL;
        if (s->upper)
                fault_point("merge-swept");
        return !s->lower || merge_files_remove(r->lower_file, error) ? s : NULL;
}

static void next(FilesSweep *s);

static void on_removed(gpointer result, GError *error, gpointer user)
{
        FilesSweep *s = user;
        const MergeRecord *r = s->rows->pdata[s->k];
        g_autoptr(GError) why = NULL;

        s->working = FALSE;
        if (s->gone) {
                really_free(s);
                return;
        }
        if (error)
                event_log(EVENT_WARNING, "merge-file-kept", error->message, "vm", r->vm, "merge", r->id,
                          NULL);
        else if (s->upper && s->lower && !catalogue_merge_remove(s->catalogue, r->id, &why))
                event_log(EVENT_WARNING, "merge-file-kept", why->message, "vm", r->vm, "merge", r->id, NULL);
        else if (s->upper && s->lower) {
                layers_sweep_look(s->layers, r->vm);
                layers_sweep_run(s->layers);
        }
        s->k++;
        next(s);
}

/* Which files of a row nobody needs. */
static void judge(FilesSweep *s, const MergeRecord *r)
{
        g_autoptr(GError) why = NULL;

        s->upper = layer_refs_count(s->refs, r->upper) == 0 && !catalogue_merge_needs_upper(s->catalogue, r);
        s->lower = layer_refs_count(s->refs, r->lower) == 0 && !catalogue_merge_needs_lower(s->catalogue, r);
        /* The row says so first: what it does not name may be missing, what it names may not. */
        if (s->lower && !catalogue_merge_drop_lower(s->catalogue, r, &why))
                s->lower = FALSE;
}

static void next(FilesSweep *s)
{
        for (; s->k < s->rows->len; s->k++) {
                const MergeRecord *r = s->rows->pdata[s->k];

                if (r->state != MERGE_RECORDED)
                        continue;
                judge(s, r);
                if (!s->upper && !s->lower)
                        continue;
                s->working = TRUE;
                s->env->worker->run(s->env->self, work, s, s->cancellable, on_removed, s);
                return;
        }
        g_clear_pointer(&s->rows, g_ptr_array_unref);
        if (s->again)
                files_sweep_run(s);
}

static gboolean begin(gpointer user)
{
        FilesSweep *s = user;
        g_autoptr(GError) error = NULL;

        host_timer_clear(&s->soon);
        s->again = FALSE;
        s->k = 0;
        s->rows = catalogue_merge_list(s->catalogue, NULL, &error);
        if (s->rows)
                next(s);
        else
                event_log(EVENT_WARNING, "merge-file-kept", error->message, NULL);
        return G_SOURCE_REMOVE;
}

void files_sweep_run(FilesSweep *s)
{
        if (s->rows)
                s->again = TRUE; /* after the present one */
        else if (!s->soon)
                s->soon = host_timer_add(s->env, 0, begin, s);
}
