/* host-service/catalogue/releases.c - the releases in the store, and which of them has which path. */
#include "host-service/catalogue/releases.h"

#include <string.h>

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/sql.h"

#define COLUMNS                                                                                              \
        "r.id, r.name, r.version, r.digest, r.file, r.size, r.padded_size, r.key_id, r.security_floor, "     \
        "r.entries,"                                                                                         \
        " r.created, r.imported, r.description"

void release_record_free(ReleaseRecord *r)
{
        if (!r)
                return;
        g_free(r->name);
        g_free(r->version);
        g_free(r->file);
        g_free(r->description);
        g_free(r);
}

static ReleaseRecord *from_row(sqlite3_stmt *st)
{
        ReleaseRecord *r = g_new0(ReleaseRecord, 1);

        r->id = column_int(st, 0);
        r->name = column_text(st, 1);
        r->version = column_text(st, 2);
        column_blob(st, 3, r->digest, sizeof r->digest);
        r->file = column_text(st, 4);
        r->size = (guint64)column_int(st, 5);
        r->padded_size = (guint64)column_int(st, 6);
        column_blob(st, 7, r->key_id, sizeof r->key_id);
        r->security_floor = (guint64)column_int(st, 8);
        r->entries = (guint64)column_int(st, 9);
        r->created_us = column_int(st, 10);
        r->imported_us = column_int(st, 11);
        r->description = column_text(st, 12);
        return r;
}

/* The first row, or NULL without an error if there is none. */
static ReleaseRecord *first(Catalogue *c, sqlite3_stmt *st, GError **error)
{
        ReleaseRecord *r = NULL;

        if (st && sql_step(c, st, error) == 1) {
                r = from_row(st);
                sql_done(st);
        }
        return r;
}

static gboolean tell(Catalogue *c, const char *type, const ReleaseRecord *r, GError **error)
{
        g_autofree char *data = json_object_text(release_record_to_json(r));

        return catalogue_event_add(c, type, NULL, NULL, data, error);
}

/* Unseen rows have no name. Their version says what they are, with the row's id, so that it is unique. */
static gboolean hide(Catalogue *c, gint64 id, const char *as, GError **error)
{
        g_autofree char *mark = g_strdup_printf("%s-%" G_GINT64_FORMAT, as, id);

        return sql_run(c, error,
                       "UPDATE releases SET name = '', version = ?1, file = ?1, digest = CAST(?1 AS BLOB)"
                       " WHERE id = ?2",
                       "si", mark, id);
}

static gint64 prepare(Catalogue *c, GError **error)
{
        gint64 id;

        if (!sql_run(c, error,
                     "INSERT INTO releases (name, version, digest, file, size, padded_size, key_id,"
                     " security_floor, entries, created, imported) VALUES ('', '', x'', '', 0, 0, x'', 0, 0, "
                     "0, 0)",
                     ""))
                return 0;
        id = sqlite3_last_insert_rowid(c->db);
        return hide(c, id, "import", error) ? id : 0;
}

gint64 catalogue_release_prepare(Catalogue *c, GError **error)
{
        gint64 id = 0;

        if (catalogue_begin(c, error) && catalogue_end(c, (id = prepare(c, error)) > 0, error))
                return id;
        return 0;
}

static gboolean add_paths(Catalogue *c, gint64 id, const char *const *paths, gsize n, GError **error)
{
        for (gsize i = 0; i < n; i++)
                if (!sql_run(c, error, "INSERT OR IGNORE INTO release_paths (path, release) VALUES (?, ?)",
                             "bi", paths[i], strlen(paths[i]), id))
                        return FALSE;
        return TRUE;
}

gboolean catalogue_release_add_paths(Catalogue *c, gint64 id, const char *const *paths, gsize n,
                                     GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add_paths(c, id, paths, n, error), error);
}

static gboolean publish(Catalogue *c, gint64 id, const ReleaseRecord *r, GError **error)
{
        g_autoptr(ReleaseRecord) added = NULL;

        if (sql_number(c, 0, "SELECT count(*) FROM releases WHERE name = ? AND version = ?", "ss", r->name,
                       r->version) > 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "release %s %s exists already; a release never changes: give the new one another "
                            "version",
                            r->name, r->version);
                return FALSE;
        }
        if (!sql_run(
                    c, error,
                    "UPDATE releases SET name = ?, version = ?, digest = ?, file = ?, size = ?, padded_size "
                    "= ?,"
                    " key_id = ?, security_floor = ?, entries = ?, created = ?, imported = ?, description = ?"
                    " WHERE id = ?",
                    "ssbsiibiiiisi", r->name, r->version, r->digest, sizeof r->digest, r->file,
                    (gint64)r->size, (gint64)r->padded_size, r->key_id, sizeof r->key_id,
                    (gint64)r->security_floor, (gint64)r->entries, r->created_us, host_wall_us(c->env),
                    r->description, id))
                return FALSE;
        added = catalogue_release_get(c, r->name, r->version, error);
        return added && tell(c, "release.imported", added, error);
}

gboolean catalogue_release_publish(Catalogue *c, gint64 id, const ReleaseRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, publish(c, id, r, error), error);
}

static gboolean add(Catalogue *c, const ReleaseRecord *r, const char *const *paths, GError **error)
{
        gint64 id = prepare(c, error);
        gsize n = paths ? g_strv_length((char **)paths) : 0;

        return id > 0 && add_paths(c, id, paths, n, error) && publish(c, id, r, error);
}

gboolean catalogue_release_add(Catalogue *c, const ReleaseRecord *r, const char *const *paths, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add(c, r, paths, error), error);
}

gboolean catalogue_release_abandon(Catalogue *c, gint64 id, GError **error)
{
        if (id != 0)
                return hide(c, id, "gone", error);
        return sql_run(c, error,
                       "UPDATE releases SET version = 'gone-' || id, file = 'gone-' || id,"
                       " digest = CAST('gone-' || id AS BLOB) WHERE name = ''",
                       "");
}

static gboolean sweep(Catalogue *c, gint64 rows, gboolean *ret_more, GError **error)
{
        gint64 id = sql_number(
                c, 0, "SELECT id FROM releases WHERE name = '' AND version LIKE 'gone-%' LIMIT 1", "");

        *ret_more = id != 0;
        if (id == 0)
                return TRUE;
        if (!sql_run(c, error,
                     "DELETE FROM release_paths WHERE release = ?1 AND path IN"
                     " (SELECT path FROM release_paths WHERE release = ?1 LIMIT ?2)",
                     "ii", id, rows))
                return FALSE;
        return sql_changes(c) >= rows || sql_run(c, error, "DELETE FROM releases WHERE id = ?", "i", id);
}

gboolean catalogue_release_sweep(Catalogue *c, gint64 rows, gboolean *ret_more, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, sweep(c, rows, ret_more, error), error);
}

static ReleaseRecord *found_or(ReleaseRecord *r, GError *failure, GError **error, const char *name,
                               const char *version)
{
        if (r)
                return r;
        if (failure)
                g_propagate_error(error, failure);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no release %s%s%s", name,
                            version ? " " : "", version ? version : "");
        return NULL;
}

ReleaseRecord *catalogue_release_get(Catalogue *c, const char *name, const char *version, GError **error)
{
        GError *failure = NULL;
        ReleaseRecord *r = first(
                c,
                sql_query(c, &failure, "SELECT " COLUMNS " FROM releases r WHERE name = ? AND version = ?",
                          "ss", name, version),
                &failure);

        return found_or(r, failure, error, name, version);
}

ReleaseRecord *catalogue_release_resolve(Catalogue *c, const char *spec, GError **error)
{
        const char *equals = strchr(spec, '=');
        GError *failure = NULL;
        ReleaseRecord *r;

        if (equals) {
                g_autofree char *name = g_strndup(spec, (gsize)(equals - spec));

                return catalogue_release_get(c, name, equals + 1, error);
        }
        r = first(c,
                  sql_query(c, &failure,
                            "SELECT " COLUMNS " FROM releases r WHERE name = ?"
                            " ORDER BY version COLLATE moult_version DESC, id DESC LIMIT 1",
                            "s", spec),
                  &failure);
        return found_or(r, failure, error, spec, NULL);
}

ReleaseRecord *catalogue_release_by_digest(Catalogue *c, const guint8 digest[static DIGEST_SIZE],
                                           GError **error)
{
        char hex[2 * DIGEST_SIZE + 1];
        GError *failure = NULL;
        ReleaseRecord *r = first(c,
                                 sql_query(c, &failure, "SELECT " COLUMNS " FROM releases r WHERE digest = ?",
                                           "b", digest, (gsize)DIGEST_SIZE),
                                 &failure);

        digest_to_hex(digest, hex);
        return found_or(r, failure, error, "with the manifest digest", hex);
}

GPtrArray *catalogue_release_list(Catalogue *c, const char *name, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)release_record_free);
        sqlite3_stmt *st =
                sql_query(c, error,
                          "SELECT " COLUMNS " FROM releases r WHERE name <> '' AND (?1 IS NULL OR name = ?1)"
                          " ORDER BY name, version COLLATE moult_version DESC, id DESC",
                          "s", name);
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

/* TRUE if release @id has every one of @paths. */
static gboolean has_all(Catalogue *c, gint64 id, const char *const *paths)
{
        for (; *paths; paths++)
                if (sql_number(c, 0, "SELECT count(*) FROM release_paths WHERE path = ? AND release = ?",
                               "bi", *paths, strlen(*paths), id) == 0)
                        return FALSE;
        return TRUE;
}

ReleaseRecord *catalogue_release_with_paths(Catalogue *c, const char *const *paths, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_release_list(c, NULL, error);
        ReleaseRecord *best = NULL;
        const char *name_done = NULL;

        if (!all)
                return NULL;
        /* The list has the highest version of each name first: take one of each name, and of these the
         * youngest. */
        for (guint i = 0; i < all->len; i++) {
                ReleaseRecord *r = g_ptr_array_index(all, i);

                if (g_strcmp0(name_done, r->name) == 0 || !has_all(c, r->id, paths))
                        continue;
                name_done = r->name;
                if (!best || r->created_us > best->created_us ||
                    (r->created_us == best->created_us && r->id > best->id))
                        best = r;
        }
        if (best)
                return catalogue_release_get(c, best->name, best->version, error);
        for (; *paths; paths++) {
                if (sql_number(c, 0,
                               "SELECT count(*) FROM release_paths p JOIN releases r ON r.id = p.release"
                               " WHERE p.path = ? AND r.name <> ''",
                               "b", *paths, strlen(*paths)) > 0)
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "no release on this host has the file /%s", *paths);
                return NULL;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "no single release on this host has all of the files asked for; ask for fewer at a time");
        return NULL;
}

static gboolean remove_release(Catalogue *c, const char *name, const char *version, GError **error)
{
        g_autoptr(ReleaseRecord) r = catalogue_release_get(c, name, version, error);

        if (!r)
                return FALSE;
        if (catalogue_push_uses_digest(c, r->digest)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "release %s %s is being pushed; wait for the push or cancel it first", name,
                            version);
                return FALSE;
        }
        return tell(c, "release.removed", r, error) && hide(c, r->id, "gone", error);
}

gboolean catalogue_release_remove(Catalogue *c, const char *name, const char *version, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, remove_release(c, name, version, error), error);
}
