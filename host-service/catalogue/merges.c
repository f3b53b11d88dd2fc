/* host-service/catalogue/merges.c - rows of merges. */
#include "host-service/catalogue/merges.h"

#include "host-service/catalogue/layers.h"
#include "host-service/catalogue/sql.h"

static const char *const states[MERGE_STATE_MAX] = {
        [MERGE_PLANNED] = "planned",   [MERGE_COMPARED] = "compared", [MERGE_STOPPED] = "stopped",
        [MERGE_RECORDED] = "recorded", [MERGE_FOREIGN] = "foreign",
};

const char *merge_state_name(MergeState s)
{
        g_assert(s >= 0 && s < MERGE_STATE_MAX);
        return states[s];
}

/* FOREIGN, of which nothing is touched, for a word that is not known. */
static MergeState state_of(const char *word)
{
        for (MergeState s = 0; s < MERGE_STATE_MAX; s++)
                if (g_strcmp0(states[s], word) == 0)
                        return s;
        return MERGE_FOREIGN;
}

void merge_record_free(MergeRecord *r)
{
        if (!r)
                return;
        g_free(r->id);
        g_free(r->vm);
        g_free(r->device);
        g_free(r->path);
        g_free(r->top);
        g_free(r->upper);
        g_free(r->upper_file);
        g_free(r->lower);
        g_free(r->lower_file);
        g_free(r->file);
        g_free(r->below);
        g_free(r->below_format);
        g_free(r);
}

#define COLUMNS                                                                                              \
        "id, vm, device, path, top, upper, upper_file, lower, lower_file, file, below, below_format, state," \
        " created"

static MergeRecord *from_row(sqlite3_stmt *st)
{
        MergeRecord *r = g_new0(MergeRecord, 1);
        g_autofree char *state = column_text(st, 12);

        r->id = column_text(st, 0);
        r->vm = column_text(st, 1);
        r->device = column_text(st, 2);
        r->path = column_text(st, 3);
        r->top = column_text(st, 4);
        r->upper = column_text(st, 5);
        r->upper_file = column_text(st, 6);
        r->lower = column_text(st, 7);
        r->lower_file = column_text(st, 8);
        r->file = column_text(st, 9);
        r->below = column_text(st, 10);
        r->below_format = column_text(st, 11);
        r->state = state_of(state);
        r->created_us = column_int(st, 13);
        return r;
}

gboolean catalogue_merge_add(Catalogue *c, const MergeRecord *r, GError **error)
{
        return sql_run(c, error,
                       "INSERT INTO merges (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "sssssssssssssi", r->id, r->vm, r->device, r->path, r->top, r->upper, r->upper_file,
                       r->lower, r->lower_file, r->file, r->below, r->below_format, states[r->state],
                       r->created_us);
}

GPtrArray *catalogue_merge_list(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)merge_record_free);
        sqlite3_stmt *st = sql_query(
                c, error, "SELECT " COLUMNS " FROM merges WHERE ?1 IS NULL OR vm = ?1 ORDER BY id", "s", vm);
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0)
                g_ptr_array_add(all, from_row(st));
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

static gboolean set_state(Catalogue *c, const char *id, MergeState state, GError **error)
{
        if (!sql_run(c, error, "UPDATE merges SET state = ? WHERE id = ?", "ss", states[state], id))
                return FALSE;
        if (sql_changes(c) != 1)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no merge %s", id);
        return sql_changes(c) == 1;
}

gboolean catalogue_merge_set_state(Catalogue *c, const char *id, MergeState state, GError **error)
{
        g_assert(state != MERGE_RECORDED);
        return set_state(c, id, state, error);
}

/* The row that knows the disk's top: of its newest snapshot. */
#define OF_NEWEST                                                                                            \
        " WHERE path = ?2 AND snapshot = (SELECT max(s.id) FROM snapshots s JOIN snapshot_disks d"           \
        " ON d.snapshot = s.id WHERE s.vm = ?3 AND d.path = ?2 AND s.state = 'taken')"

/* The merged file beside that of the upper layer, on which another one stands: a layer that changes nothing.
 * The disk's top stands on it now. */
static gboolean add_copy(Catalogue *c, const MergeRecord *r, const char *file_on, GError **error)
{
        g_autoptr(LayerRecord) upper = catalogue_layer_get(c, r->upper, error);
        LayerRecord copy = {.id = r->id,
                            .vm = r->vm,
                            .parent = r->upper,
                            .file = r->file,
                            .file_on = (char *)file_on,
                            .format = (char *)"qcow2",
                            .sealed_us = r->created_us};

        if (!upper)
                return FALSE;
        copy.disk = upper->disk;
        copy.size_bytes = upper->size_bytes;
        return catalogue_layer_add(c, &copy, error) &&
               sql_run(c, error, "UPDATE snapshot_disks SET next_on = ?1" OF_NEWEST, "sss", r->id, r->path,
                       r->vm);
}

static gboolean record_file(Catalogue *c, const MergeRecord *r, const char *file_on, GError **error)
{
        return catalogue_merge_has_branch(c, r->upper)
                       ? add_copy(c, r, file_on, error)
                       : catalogue_layer_set_file(c, r->upper, r->file, file_on, "qcow2", error);
}

static gboolean record_top(Catalogue *c, const MergeRecord *r, const char *new_top, GError **error)
{
        return !new_top || sql_run(c, error, "UPDATE snapshot_disks SET next = ?1" OF_NEWEST, "sss", new_top,
                                   r->path, r->vm);
}

gboolean catalogue_merge_record(Catalogue *c, const MergeRecord *r, const char *new_top, GError **error)
{
        g_autoptr(LayerRecord) lower = catalogue_layer_get(c, r->lower, error);

        return lower && catalogue_begin(c, error) &&
               catalogue_end(c,
                             record_file(c, r, lower->file_on, error) && record_top(c, r, new_top, error) &&
                                     set_state(c, r->id, MERGE_RECORDED, error),
                             error);
}

gboolean catalogue_merge_drop_lower(Catalogue *c, const MergeRecord *r, GError **error)
{
        return sql_run(c, error, "UPDATE layers SET file = NULL, file_on = NULL WHERE id = ? AND file = ?",
                       "ss", r->lower, r->lower_file);
}

gboolean catalogue_merge_remove(Catalogue *c, const char *id, GError **error)
{
        return sql_run(c, error, "DELETE FROM merges WHERE id = ?", "s", id);
}

/* Restore points of the two layers that the store does not have: there is no manifest, their layers are not
 * there, or only as a part of another one. They are in files here, or nowhere. */
#define NOT_STORED                                                                                           \
        "(SELECT count(*) FROM snapshots s JOIN snapshot_disks d ON d.snapshot = s.id"                       \
        " JOIN layers l ON l.id IN (?1, ?2)"                                                                 \
        " AND instr(d.layer, '.moult-' || l.id || '.layer') > 0"                                             \
        " WHERE s.state = 'taken' AND s.uploaded = 0)"

gboolean catalogue_merge_is_kept(Catalogue *c, const char *upper, const char *lower)
{
        return sql_number(c, 1,
                          "SELECT (SELECT count(*) FROM layers WHERE file IS NOT NULL AND (file_on = ?2"
                          " OR (file_on = ?1 AND id <> ?2))) + " NOT_STORED,
                          "ss", lower, upper) > 0;
}

/* A restore point (that is being made, too) is the layer @id. TRUE if it cannot be told. */
static gboolean has_snapshot(Catalogue *c, const char *id)
{
        return sql_number(c, 1,
                          "SELECT count(*) FROM snapshots s JOIN snapshot_disks d ON d.snapshot = s.id"
                          " WHERE s.state <> 'failed' AND instr(d.layer, '.moult-' || ? || '.layer') > 0",
                          "s", id) > 0;
}

/* For the restore point of the lower layer: the store does not have all of both. */
static gboolean is_only_here(Catalogue *c, const MergeRecord *r)
{
        return sql_number(c, 1,
                          "SELECT (SELECT count(*) FROM layers WHERE id IN (?1, ?2) AND uploaded = 0 AND"
                          " folded_into IS NULL) + " NOT_STORED,
                          "ss", r->lower, r->upper) > 0;
}

gboolean catalogue_merge_needs_lower(Catalogue *c, const MergeRecord *r)
{
        if (has_snapshot(c, r->lower) && is_only_here(c, r))
                return TRUE;
        return sql_number(c, 1,
                          "SELECT (SELECT count(*) FROM layers WHERE file_on = ?1 AND file IS NOT NULL)"
                          /* a disk's top, or one that is about to be */
                          " + (SELECT count(*) FROM snapshots s JOIN snapshot_disks d ON d.snapshot = s.id"
                          " WHERE d.next_on = ?1 AND s.state <> 'failed' AND NOT EXISTS"
                          " (SELECT 1 FROM snapshots t JOIN snapshot_disks e ON e.snapshot = t.id"
                          " WHERE t.state = 'taken' AND e.path = d.path AND t.id > s.id))",
                          "s", r->lower) > 0;
}

gboolean catalogue_merge_needs_upper(Catalogue *c, const MergeRecord *r)
{
        return sql_number(c, 1, "SELECT count(*) FROM layers WHERE file = ?", "s", r->upper_file) > 0;
}

gboolean catalogue_merge_has_branch(Catalogue *c, const char *upper)
{
        return sql_number(c, 1, "SELECT count(*) FROM layers WHERE file IS NOT NULL AND file_on = ?", "s",
                          upper) > 0;
}
