/* guest-agent/upgrade/transaction_merge.c - the target file system in a transaction: planned, staged,
 * switched. */
#include <fcntl.h>
#include <unistd.h>

#include "common/fault.h"
#include "fuse-overlay/merge_reach.h"
#include "guest-agent/upgrade/merged.h"
#include "guest-agent/upgrade/plan_merge.h"
#include "guest-agent/upgrade/transaction_parts.h"
#include "proto/message.h"

gboolean transaction_load_merged(Transaction *t, GError **error)
{
        struct wanted w;
        if (!merged_wanted(t->u, &w, error))
                return FALSE;
        t->before = g_steal_pointer(&w.target);
        return TRUE;
}

gboolean transaction_plan_merges(Transaction *t, GError **error)
{
        GError *why = NULL;
        g_autofree char *name = message_string(t->manifest->name),
                        *version = message_string(t->manifest->version);
        g_autofree char *text = g_strdup_printf("%s %s", name, version);
        struct target_release release = {
                .name = text,
                .generation = t->g != NULL ? t->g->number : 0,
                .manifest_digest = pack_reader_header(t->pack)->manifest_digest,
        };
        g_autoptr(Target) composed = plan_compose(t->plan, t->before, &release, t->u->root_fd, &why);
        if (why != NULL) {
                g_propagate_error(error, why);
                return FALSE;
        }
        if (composed == NULL)
                return TRUE;
        Merger *merger = t->u->read_only ? NULL : engine_merger(t->u, error);
        if (merger == NULL && !t->u->read_only)
                return FALSE;
        if (!plan_place_merges(t->plan, t->before, composed, merger, t->merge_forced, &t->target, &t->methods,
                               error))
                return FALSE;
        /* Of another tree than the machine's own, it is the caller's affair who is to see it. */
        return t->plan->n_merged == 0 || !g_str_equal(t->u->root, "/") || merge_reach_check(t->target, error);
}

gboolean transaction_open_incoming(Transaction *t, GError **error)
{
        if (t->plan->n_merged == 0)
                return TRUE;
        t->incoming_fd = merged_incoming(t->u, t->g->number, /* create= */ TRUE, error);
        return t->incoming_fd >= 0;
}

/* The target's own entry for what is staged as an object; NULL: it is not to be seen (something above it
 * hides it). */
static const Moult__Entry *object_entry(const Transaction *t, const struct plan_entry *pe)
{
        struct target_item item;
        if (pe->how != HOW_MERGE || !pe->object || !pe->selected || !plan_is_staged(pe) ||
            !target_lookup(t->target, pe->physical, &item) ||
            item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return NULL;
        return item.entry;
}

/* What a directory above brings can be served from the pack; a lone file is bound to its object, and a file
 * without a hash tree can be copied only. */
static void defer(Transaction *t)
{
        for (guint i = 0; t->instant && i < t->plan->n_entries; i++) {
                struct plan_entry *pe = &t->plan->entries[i];
                pe->deferred = object_entry(t, pe) != NULL && pe->reach == REACH_TREE &&
                               manifest_is_verifiable_by_block(t->manifest, t->manifest->entries[i]);
        }
}

gboolean transaction_skip_objects(Transaction *t, GCancellable *c, GError **error)
{
        if (t->plan->n_merged == 0)
                return TRUE;
        Merger *merger = engine_merger(t->u, error);
        ObjectStore *store = merger != NULL ? merger_store(merger) : NULL;
        for (guint i = 0; store != NULL && i < t->plan->n_entries; i++) {
                struct plan_entry *pe = &t->plan->entries[i];
                const Moult__Entry *e = object_entry(t, pe);
                if (e == NULL || !object_store_has(store, e))
                        continue;
                g_autoptr(GError) why = NULL;
                if (object_store_verify(store, e, c, &why)) {
                        pe->object = FALSE;
                        progress_bytes(t->progress, e->size);
                } else if (moult_error_code(why) == MOULT_ERROR_CANCELLED) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
        }
        defer(t);
        return store != NULL;
}

/* New, or there already: of an equal file of the same release, or damaged. */
static gboolean keep_object(ObjectStore *store, const Moult__Entry *e, int dirfd, const char *name,
                            GError **error)
{
        g_autoptr(GError) why = NULL;
        if (object_store_verify(store, e, NULL, &why))
                return TRUE;
        if (moult_error_code(why) == MOULT_ERROR_CORRUPT)
                return object_store_mend(store, e, dirfd, name, error);
        return object_store_take(store, e, dirfd, name, error);
}

gboolean transaction_take_object(ObjectStore *store, const Moult__Entry *e, int dirfd, const char *name,
                                 const char *path, GError **error)
{
        int fake = fault_point("stage-object-taken");
        if (fake != 0)
                return moult_error_errno(error, fake, "taking /%s into the store", path);
        if (keep_object(store, e, dirfd, name, error))
                return TRUE;
        g_prefix_error(error, "taking /%s into the store: ", path);
        return FALSE;
}

/* What was staged before the switch. */
static gboolean take_objects(Transaction *t, GError **error)
{
        Merger *merger = engine_merger(t->u, error);
        ObjectStore *store = merger != NULL ? merger_store(merger) : NULL;
        for (guint i = 0; store != NULL && i < t->plan->n_entries; i++) {
                const struct plan_entry *pe = &t->plan->entries[i];
                const Moult__Entry *e = object_entry(t, pe);
                g_autofree char *name = plan_staged_path(t->plan, i);
                if (e != NULL && !pe->deferred &&
                    !transaction_take_object(store, e, t->incoming_fd, name, pe->path, error))
                        return FALSE;
        }
        return store != NULL;
}

gboolean transaction_prepare_merges(Transaction *t, GCancellable *c, GError **error)
{
        if (t->target == NULL)
                return TRUE;
        if (t->plan->n_merged > 0 && !take_objects(t, error))
                return FALSE;
        if (t->plan->n_merged > 0 && !t->instant && !merged_remove_incoming(t->u, t->g->number, error))
                return FALSE;
        if (!generation_save_target(t->g, t->target, error))
                return FALSE;
        Merger *merger = engine_merger(t->u, error);
        if (merger == NULL)
                return FALSE;
        g_autofree char *record = NULL;
        struct merge_source source = merged_source(t->u, t->g->number, &record);
        t->prepared =
                merger_prepare(merger, t->target, t->merge_forced, t->instant ? &source : NULL, c, error);
        if (t->prepared == NULL)
                g_prefix_error(error, "making the mounts of the target file system: ");
        return t->prepared != NULL;
}

gboolean transaction_switch_merges(Transaction *t, GString *notes, GError **error)
{
        if (t->prepared != NULL && !merger_switch(t->u->merger, t->prepared, notes, error))
                return FALSE;
        /* Its descriptors would keep a merge, and the server of a union, that is replaced when all is copied.
         */
        g_clear_pointer(&t->prepared, prepared_free);
        return TRUE;
}

void transaction_free_merges(Transaction *t)
{
        g_clear_pointer(&t->prepared, prepared_free);
        g_clear_pointer(&t->methods, g_array_unref);
        g_clear_pointer(&t->before, target_unref);
        g_clear_pointer(&t->target, target_unref);
        if (t->incoming_fd >= 0)
                close(g_steal_fd(&t->incoming_fd));
}
