/* host-service/catalogue/snapshots.c - rows of snapshots and of their disks. */
#include "host-service/catalogue/snapshots.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/sql.h"

static const char *const states[SNAPSHOT_STATE_MAX] = {
        [SNAPSHOT_MAKING] = "making",
        [SNAPSHOT_STOPPED] = "stopped",
        [SNAPSHOT_TAKEN] = "taken",
        [SNAPSHOT_FAILED] = "failed",
};
static const char *const grades[GRADE_MAX] = {
        [GRADE_CRASH] = "crash",
        [GRADE_FILESYSTEM] = "filesystem",
        [GRADE_APPLICATION] = "application",
};

const char *snapshot_state_name(SnapshotState s)
{
        g_assert(s >= 0 && s < SNAPSHOT_STATE_MAX);
        return states[s];
}

const char *snapshot_grade_name(SnapshotGrade g)
{
        g_assert(g >= 0 && g < GRADE_MAX);
        return grades[g];
}

/* 0, which claims least, for a word that is not known. */
static int index_of(const char *const *words, int n, const char *word)
{
        for (int i = 0; i < n; i++)
                if (g_strcmp0(words[i], word) == 0)
                        return i;
        return 0;
}

static void disk_free(gpointer data)
{
        struct snapshot_disk *d = data;

        g_free(d->device);
        g_free(d->path);
        g_free(d->layer);
        g_free(d->next);
        g_free(d->next_on);
        g_free(d->format);
        g_free(d);
}

SnapshotRecord *snapshot_record_new(void)
{
        SnapshotRecord *r = g_new0(SnapshotRecord, 1);

        r->disks = g_ptr_array_new_with_free_func(disk_free);
        return r;
}

void snapshot_record_free(SnapshotRecord *r)
{
        if (!r)
                return;
        g_free(r->id);
        g_free(r->vm);
        g_free(r->name);
        g_free(r->why);
        g_ptr_array_unref(r->disks);
        g_free(r);
}

struct snapshot_disk *snapshot_record_add_disk(SnapshotRecord *r)
{
        struct snapshot_disk *d = g_new0(struct snapshot_disk, 1);

        d->number = r->disks->len;
        g_ptr_array_add(r->disks, d);
        return d;
}

/* ---- writing ---- */

static gboolean tell(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        g_autofree char *type = g_strconcat("snapshot.", snapshot_state_name(r->state), NULL);
        g_autofree char *data = json_object_text(snapshot_record_to_json(r));

        return catalogue_event_add(c, type, r->id, r->vm, data, error);
}

static gboolean add_disk(Catalogue *c, const char *snapshot, const struct snapshot_disk *d, GError **error)
{
        return sql_run(c, error,
                       "INSERT INTO snapshot_disks (snapshot, number, device, path, layer, next, next_on, "
                       "format, size,"
                       " is_first) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "sissssssii", snapshot, (gint64)d->number, d->device, d->path, d->layer, d->next,
                       d->next_on, d->format, (gint64)d->size_bytes, (gint64)d->is_first);
}

static gboolean add(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        if (sql_number(c, 0, "SELECT count(*) FROM snapshots WHERE vm = ? AND name = ? AND state <> 'failed'",
                       "ss", r->vm, r->name) > 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "VM \"%s\" has a snapshot named \"%s\" already; choose another name", r->vm,
                            r->name);
                return FALSE;
        }
        if (!sql_run(
                    c, error,
                    "INSERT INTO snapshots (id, vm, name, state, created, taken, running, grade, why, frozen,"
                    " hooks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    "ssssiiissii", r->id, r->vm, r->name, snapshot_state_name(r->state), r->created_us,
                    r->taken_us, (gint64)r->running, snapshot_grade_name(r->grade), r->why, r->frozen_us,
                    (gint64)r->hooks))
                return FALSE;
        for (guint i = 0; i < r->disks->len; i++)
                if (!add_disk(c, r->id, r->disks->pdata[i], error))
                        return FALSE;
        return tell(c, r, error);
}

gboolean catalogue_snapshot_add(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add(c, r, error), error);
}

static gboolean update(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        if (!sql_run(c, error,
                     "UPDATE snapshots SET state = ?, taken = ?, running = ?, grade = ?, why = ?, frozen = ?,"
                     " hooks = ? WHERE id = ? AND state NOT IN ('taken', 'failed')",
                     "siissiis", snapshot_state_name(r->state), r->taken_us, (gint64)r->running,
                     snapshot_grade_name(r->grade), r->why, r->frozen_us, (gint64)r->hooks, r->id))
                return FALSE;
        if (sql_changes(c) == 1)
                return tell(c, r, error);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE, "snapshot %s is not being made", r->id);
        return FALSE;
}

gboolean catalogue_snapshot_update(Catalogue *c, const SnapshotRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, update(c, r, error), error);
}

static gboolean set_uploaded(Catalogue *c, const char *id, gint64 when_us, GError **error)
{
        g_autoptr(SnapshotRecord) r = NULL;
        g_autofree char *data = NULL;

        if (!sql_run(c, error,
                     "UPDATE snapshots SET uploaded = ? WHERE id = ? AND state = 'taken' AND uploaded = 0",
                     "is", when_us, id))
                return FALSE;
        if (sql_changes(c) == 0)
                return TRUE;
        r = catalogue_snapshot_get(c, id, error);
        if (!r)
                return FALSE;
        data = json_object_text(snapshot_record_to_json(r));
        return catalogue_event_add(c, "snapshot.uploaded", id, r->vm, data, error);
}

gboolean catalogue_snapshot_set_uploaded(Catalogue *c, const char *id, gint64 when_us, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, set_uploaded(c, id, when_us, error), error);
}

/* ---- reading ---- */

#define COLUMNS "id, vm, name, state, created, taken, running, grade, why, frozen, hooks, uploaded"

static SnapshotRecord *from_row(sqlite3_stmt *st)
{
        SnapshotRecord *r = snapshot_record_new();

        r->id = column_text(st, 0);
        r->vm = column_text(st, 1);
        r->name = column_text(st, 2);
        r->state =
                (SnapshotState)index_of(states, SNAPSHOT_STATE_MAX, (const char *)sqlite3_column_text(st, 3));
        r->created_us = column_int(st, 4);
        r->taken_us = column_int(st, 5);
        r->running = column_int(st, 6) != 0;
        r->grade = (SnapshotGrade)index_of(grades, GRADE_MAX, (const char *)sqlite3_column_text(st, 7));
        r->why = column_text(st, 8);
        r->frozen_us = column_int(st, 9);
        r->hooks = (guint)column_int(st, 10);
        r->uploaded_us = column_int(st, 11);
        return r;
}

#define DISK_COLUMNS    "d.device, d.path, d.layer, d.next, d.format, d.size, d.is_first, d.next_on"
#define SNAPSHOT_COLUMN 8 /* after these */

static struct snapshot_disk *disk_from_row(sqlite3_stmt *st)
{
        struct snapshot_disk *d = g_new0(struct snapshot_disk, 1);

        d->device = column_text(st, 0);
        d->path = column_text(st, 1);
        d->layer = column_text(st, 2);
        d->next = column_text(st, 3);
        d->format = column_text(st, 4);
        d->size_bytes = (guint64)column_int(st, 5);
        d->is_first = column_int(st, 6) != 0;
        d->next_on = column_text(st, 7);
        return d;
}

static void add_row_disk(SnapshotRecord *r, sqlite3_stmt *st)
{
        struct snapshot_disk *d = disk_from_row(st);

        d->number = r->disks->len;
        g_ptr_array_add(r->disks, d);
}

static gboolean read_disks(Catalogue *c, SnapshotRecord *r, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT " DISK_COLUMNS " FROM snapshot_disks d WHERE d.snapshot = ?"
                                     " ORDER BY d.number",
                                     "s", r->id);
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0)
                add_row_disk(r, st);
        return step == 0;
}

SnapshotRecord *catalogue_snapshot_get(Catalogue *c, const char *id, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM snapshots WHERE id = ?", "s", id);
        int step = st ? sql_step(c, st, error) : -1;
        g_autoptr(SnapshotRecord) r = NULL;

        if (step == 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "there is no snapshot %s", id);
        if (step <= 0)
                return NULL;
        r = from_row(st);
        sql_done(st);
        return read_disks(c, r, error) ? g_steal_pointer(&r) : NULL;
}

static void no_such_snapshot(Catalogue *c, const char *vm, const char *which, GError **error)
{
        g_autoptr(GPtrArray) all = catalogue_snapshot_list(c, vm, 10, NULL);
        g_autoptr(GString) names = g_string_new(NULL);

        for (guint i = 0; all && i < all->len; i++)
                g_string_append_printf(names, "%s%s", i ? ", " : "",
                                       ((const SnapshotRecord *)all->pdata[i])->name);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                    "VM \"%s\" has no snapshot \"%s\"; its newest are: %s", vm, which,
                    names->len ? names->str : "none");
}

static SnapshotRecord *get_first(Catalogue *c, sqlite3_stmt *st, gboolean *ret_none, GError **error)
{
        int step = st ? sql_step(c, st, error) : -1;
        g_autofree char *id = NULL;

        *ret_none = step == 0;
        if (step <= 0)
                return NULL;
        id = column_text(st, 0);
        sql_done(st);
        return catalogue_snapshot_get(c, id, error);
}

SnapshotRecord *catalogue_snapshot_find(Catalogue *c, const char *vm, const char *which, GError **error)
{
        gboolean none;
        SnapshotRecord *r = get_first(c,
                                      sql_query(c, error,
                                                "SELECT id FROM snapshots WHERE vm = ? AND state <> 'failed'"
                                                " AND (id = ? OR name = ?)",
                                                "sss", vm, which, which),
                                      &none, error);

        if (none)
                no_such_snapshot(c, vm, which, error);
        return r;
}

SnapshotRecord *catalogue_snapshot_at(Catalogue *c, const char *vm, gint64 at_us, GError **error)
{
        gboolean none;
        SnapshotRecord *r = get_first(c,
                                      sql_query(c, error,
                                                "SELECT id FROM snapshots WHERE vm = ? AND state = 'taken'"
                                                " AND taken <= ? ORDER BY taken DESC, id DESC LIMIT 1",
                                                "si", vm, at_us),
                                      &none, error);
        g_autoptr(SnapshotRecord) first = NULL;
        gboolean ignored;

        if (r || !none)
                return r;
        first = get_first(c,
                          sql_query(c, NULL,
                                    "SELECT id FROM snapshots WHERE vm = ? AND state = 'taken'"
                                    " ORDER BY taken, id LIMIT 1",
                                    "s", vm),
                          &ignored, NULL);
        if (first)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "VM \"%s\" has no restore point that is so old; its first one is \"%s\"", vm,
                            first->name);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "VM \"%s\" has no restore point", vm);
        return NULL;
}

/* ---- disks ---- */

static gboolean has_disk(const GPtrArray *all, const char *device, const char *path)
{
        for (guint i = 0; i < all->len; i++) {
                const struct snapshot_disk *d = all->pdata[i];

                if (g_str_equal(d->device, device) || g_str_equal(d->path, path))
                        return TRUE;
        }
        return FALSE;
}

GPtrArray *catalogue_snapshot_disks(Catalogue *c, const char *vm, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(disk_free);
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT " DISK_COLUMNS " FROM snapshot_disks d JOIN snapshots s"
                                     " ON s.id = d.snapshot WHERE s.vm = ? AND s.state = 'taken'"
                                     " ORDER BY s.id DESC, d.number",
                                     "s", vm);
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0) {
                struct snapshot_disk *d = disk_from_row(st);

                d->number = all->len;
                if (has_disk(all, d->device, d->path))
                        disk_free(d);
                else
                        g_ptr_array_add(all, d);
        }
        return step == 0 ? g_steal_pointer(&all) : NULL;
}

void snapshot_top_clear(struct snapshot_top *t)
{
        g_clear_pointer(&t->name, g_free);
        g_clear_pointer(&t->on, g_free);
        g_clear_pointer(&t->layer, g_free);
}

gboolean catalogue_snapshot_top(Catalogue *c, const char *vm, const char *path, struct snapshot_top *ret,
                                GError **error)
{
        sqlite3_stmt *st =
                sql_query(c, error,
                          "SELECT d.next, d.next_on, d.layer FROM snapshot_disks d JOIN snapshots s"
                          " ON s.id = d.snapshot WHERE s.vm = ? AND s.state = 'taken' AND d.path = ?"
                          " ORDER BY s.id DESC LIMIT 1",
                          "ss", vm, path);
        int step = st ? sql_step(c, st, error) : -1;

        *ret = (struct snapshot_top){0};
        if (step == 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no snapshot was taken of %s", path);
        if (step <= 0)
                return FALSE;
        ret->name = column_text(st, 0);
        ret->on = column_text(st, 1);
        ret->layer = column_text(st, 2);
        sql_done(st);
        return TRUE;
}

gboolean catalogue_snapshot_made(Catalogue *c, const char *name)
{
        return sql_number(c, 1,
                          "SELECT count(*) FROM snapshot_disks d JOIN snapshots s ON s.id = d.snapshot"
                          " WHERE d.next = ? AND s.state = 'taken'",
                          "s", name) > 0;
}

/* Of all of @all at once, which are the @limit newest: both come newest first. */
static gboolean read_all_disks(Catalogue *c, GPtrArray *all, const char *vm, guint limit, GError **error)
{
        sqlite3_stmt *st = sql_query(
                c, error,
                "SELECT " DISK_COLUMNS ", d.snapshot FROM snapshot_disks d JOIN (SELECT id FROM snapshots"
                " WHERE vm = coalesce(?, vm) AND state <> 'failed' ORDER BY id DESC LIMIT ?) s"
                " ON s.id = d.snapshot ORDER BY d.snapshot DESC, d.number",
                "si", vm, (gint64)limit);
        guint i = 0;
        int step = -1;

        while (st && (step = sql_step(c, st, error)) > 0) {
                const char *id = (const char *)sqlite3_column_text(st, SNAPSHOT_COLUMN);

                while (i < all->len && g_strcmp0(((SnapshotRecord *)all->pdata[i])->id, id) != 0)
                        i++;
                g_assert(i < all->len);
                add_row_disk(all->pdata[i], st);
        }
        return step == 0;
}

GPtrArray *catalogue_snapshot_list(Catalogue *c, const char *vm, guint limit, GError **error)
{
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_record_free);
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT " COLUMNS " FROM snapshots WHERE vm = coalesce(?, vm)"
                                     " AND state <> 'failed' ORDER BY id DESC LIMIT ?",
                                     "si", vm, (gint64)limit);
        int step;

        if (!st)
                return NULL;
        while ((step = sql_step(c, st, error)) > 0)
                g_ptr_array_add(all, from_row(st));
        return step == 0 && read_all_disks(c, all, vm, limit, error) ? g_steal_pointer(&all) : NULL;
}

/* ---- telling ---- */

JsonObject *snapshot_record_to_json(const SnapshotRecord *r)
{
        JsonObject *o = json_object_new();
        JsonArray *disks = json_array_new();
        guint64 size = 0;

        json_object_set_string_member(o, "id", r->id);
        json_object_set_string_member(o, "vm", r->vm);
        json_object_set_string_member(o, "name", r->name);
        json_object_set_string_member(o, "state", snapshot_state_name(r->state));
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "taken", r->taken_us);
        json_object_set_boolean_member(o, "running", r->running);
        json_object_set_string_member(o, "grade", snapshot_grade_name(r->grade));
        json_object_set_text(o, "why", r->why);
        json_object_set_int_member(o, "frozen_us", r->frozen_us);
        json_object_set_int_member(o, "hooks", r->hooks);
        json_object_set_time(o, "uploaded", r->uploaded_us);
        for (guint i = 0; i < r->disks->len; i++) {
                const struct snapshot_disk *d = r->disks->pdata[i];
                JsonObject *disk = json_object_new();

                json_object_set_string_member(disk, "device", d->device);
                json_object_set_string_member(disk, "path", d->path);
                json_object_set_string_member(disk, "layer", d->layer);
                json_object_set_string_member(disk, "format", d->format);
                json_object_set_int_member(disk, "size_bytes", (gint64)d->size_bytes);
                json_array_add_object_element(disks, disk);
                size += d->size_bytes;
        }
        json_object_set_int_member(o, "size_bytes", (gint64)size);
        json_object_set_array_member(o, "disks", disks);
        return o;
}
