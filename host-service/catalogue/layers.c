/* host-service/catalogue/layers.c - rows of layers. */
#include "host-service/catalogue/layers.h"

#include "host-service/catalogue/sql.h"

void layer_record_free(LayerRecord *r)
{
        if (!r)
                return;
        g_free(r->id);
        g_free(r->vm);
        g_free(r->parent);
        g_free(r->file);
        g_free(r->file_on);
        g_free(r->format);
        g_free(r->folded_into);
        g_free(r->below);
        g_free(r->identity);
        g_free(r);
}

/* ---- reading ---- */

#define COLUMNS                                                                                              \
        "id, vm, disk, parent, file, file_on, format, size, sealed, uploaded, stored, folded_into, below,"   \
        " identity, map"

static LayerRecord *from_row(sqlite3_stmt *st)
{
        LayerRecord *r = g_new0(LayerRecord, 1);

        r->id = column_text(st, 0);
        r->vm = column_text(st, 1);
        r->disk = (guint)column_int(st, 2);
        r->parent = column_text(st, 3);
        r->file = column_text(st, 4);
        r->file_on = column_text(st, 5);
        r->format = column_text(st, 6);
        r->size_bytes = (guint64)column_int(st, 7);
        r->sealed_us = column_int(st, 8);
        r->uploaded_us = column_int(st, 9);
        r->stored_bytes = (guint64)column_int(st, 10);
        r->folded_into = column_text(st, 11);
        r->below = column_text(st, 12);
        r->identity = column_text(st, 13);
        column_blob(st, 14, r->map_digest, sizeof r->map_digest);
        return r;
}

/* The first row, if there is one. */
static LayerRecord *one(Catalogue *c, sqlite3_stmt *st, GError **error)
{
        LayerRecord *r = NULL;

        if (st && sql_step(c, st, error) > 0) {
                r = from_row(st);
                sql_done(st);
        }
        return r;
}

LayerRecord *catalogue_layer_get(Catalogue *c, const char *id, GError **error)
{
        g_autoptr(GError) why = NULL;
        LayerRecord *r =
                one(c, sql_query(c, &why, "SELECT " COLUMNS " FROM layers WHERE id = ?", "s", id), &why);

        if (!r && !why)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no layer %s", id);
        else if (why)
                g_propagate_error(error, g_steal_pointer(&why));
        return r;
}

LayerRecord *catalogue_layer_of_file(Catalogue *c, const char *file, GError **error)
{
        return one(c,
                   sql_query(c, error,
                             "SELECT " COLUMNS " FROM layers WHERE file = ? AND vm IS NOT NULL"
                             " AND sealed <> 0 ORDER BY id DESC",
                             "s", file),
                   error);
}

LayerRecord *catalogue_layer_base(Catalogue *c, const char *file, const char *below, const char *identity,
                                  GError **error)
{
        return one(c,
                   sql_query(c, error,
                             "SELECT " COLUMNS " FROM layers WHERE file = ? AND vm IS NULL AND below = ?"
                             " AND identity = ? ORDER BY id",
                             "sss", file, below, identity),
                   error);
}

GPtrArray *catalogue_layer_list(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)layer_record_free);
        sqlite3_stmt *st = sql_query(
                c, error, "SELECT " COLUMNS " FROM layers WHERE vm = ? ORDER BY sealed, id", "s", vm);
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0)
                g_ptr_array_add(all, from_row(st));
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

GPtrArray *catalogue_layer_line(Catalogue *c, const char *id, GError **error)
{
        g_autoptr(GPtrArray) line = g_ptr_array_new_with_free_func((GDestroyNotify)layer_record_free);

        for (const char *next = id; next;) {
                LayerRecord *r = line->len < LAYER_LINE_MAX ? catalogue_layer_get(c, next, error) : NULL;

                if (!r) {
                        if (line->len >= LAYER_LINE_MAX)
                                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                            "the line of layer %s never ends", id);
                        return NULL;
                }
                g_ptr_array_add(line, r);
                next = r->parent;
        }
        return g_steal_pointer(&line);
}

/* ---- writing ---- */

gboolean catalogue_layer_add(Catalogue *c, const LayerRecord *r, GError **error)
{
        return sql_run(c, error,
                       "INSERT INTO layers (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                       " NULL)",
                       "ssissssiiiisss", r->id, r->vm, (gint64)r->disk, r->parent, r->file, r->file_on,
                       r->format, (gint64)r->size_bytes, r->sealed_us, r->uploaded_us,
                       (gint64)r->stored_bytes, r->folded_into, r->below, r->identity);
}

static gboolean changed(Catalogue *c, gboolean ran, const char *id, const char *why, GError **error)
{
        if (ran && sql_changes(c) != 1)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "layer %s %s", id, why);
        return ran && sql_changes(c) == 1;
}

gboolean catalogue_layer_seal(Catalogue *c, const char *id, gint64 when_us, GError **error)
{
        return changed(c,
                       sql_run(c, error, "UPDATE layers SET sealed = ? WHERE id = ? AND sealed = 0", "is",
                               when_us, id),
                       id, "is not being made", error);
}

gboolean catalogue_layer_drop(Catalogue *c, const char *id, GError **error)
{
        return changed(c, sql_run(c, error, "DELETE FROM layers WHERE id = ? AND sealed = 0", "s", id), id,
                       "is not being made", error);
}

gboolean catalogue_layer_forget(Catalogue *c, const char *id, GError **error)
{
        return changed(c,
                       sql_run(c, error, "DELETE FROM layers WHERE id = ? AND sealed <> 0 AND vm IS NOT NULL",
                               "s", id),
                       id, "is being made, or is a base", error);
}

GPtrArray *catalogue_layer_vms(Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
        sqlite3_stmt *st =
                sql_query(c, error, "SELECT DISTINCT vm FROM layers WHERE vm IS NOT NULL ORDER BY vm", "");
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0)
                g_ptr_array_add(all, column_text(st, 0));
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

gboolean catalogue_layer_set_file(Catalogue *c, const char *id, const char *file, const char *file_on,
                                  const char *format, GError **error)
{
        return changed(c,
                       sql_run(c, error, "UPDATE layers SET file = ?, file_on = ?, format = ? WHERE id = ?",
                               "ssss", file, file_on, format, id),
                       id, "is not known", error);
}

gboolean catalogue_layer_set_uploaded(Catalogue *c, const char *id, gint64 when_us,
                                      const guint8 map_digest[static DIGEST_SIZE], guint64 stored_bytes,
                                      GError **error)
{
        return changed(
                c,
                sql_run(c, error,
                        "UPDATE layers SET uploaded = ?, map = ?, stored = ?, folded_into = NULL WHERE id = ?"
                        " AND uploaded = 0",
                        "ibis", when_us, map_digest, (gsize)DIGEST_SIZE, (gint64)stored_bytes, id),
                id, "is uploaded already", error);
}

gboolean catalogue_layer_set_lost(Catalogue *c, const char *id, GError **error)
{
        return changed(c,
                       sql_run(c, error,
                               "UPDATE layers SET uploaded = 0, map = NULL, stored = 0 WHERE id = ?", "s",
                               id),
                       id, "is not known", error);
}

gboolean catalogue_layer_fold(Catalogue *c, const char *id, const char *into, GError **error)
{
        return changed(
                c,
                sql_run(c, error,
                        "UPDATE layers SET folded_into = ? WHERE id = ? AND uploaded = 0 AND vm IS NOT NULL",
                        "ss", into, id),
                id, "is uploaded, or is a base", error);
}
