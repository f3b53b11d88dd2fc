/* host-service/catalogue/vms.c - the VMs that moultd knows. */
#include "host-service/catalogue/vms.h"

#include "host-service/catalogue/json.h"
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/sql.h"

#define COLUMNS                                                                                              \
        "name, qmp, agent, network, pin, token_hash, created, last_seen, boot_id, hostname, last_release, "  \
        "(SELECT json_group_object(key, value) FROM (SELECT key, value FROM vm_labels WHERE vm = name"       \
        " ORDER BY key)), booted, libvirt, domain"

void vm_record_free(VmRecord *r)
{
        if (!r)
                return;
        g_free(r->name);
        g_free(r->qmp);
        g_free(r->agent);
        g_free(r->libvirt);
        g_free(r->domain);
        g_free(r->token_hash);
        g_free(r->boot_id);
        g_free(r->hostname);
        g_free(r->last_release);
        g_free(r->labels);
        g_free(r);
}

static VmRecord *from_row(sqlite3_stmt *st)
{
        VmRecord *r = g_new0(VmRecord, 1);

        r->name = column_text(st, 0);
        r->qmp = column_text(st, 1);
        r->agent = column_text(st, 2);
        r->network = column_int(st, 3) != 0;
        r->has_pin = column_blob(st, 4, r->pin, sizeof r->pin);
        r->token_hash = column_text(st, 5);
        r->created_us = column_int(st, 6);
        r->last_seen_us = column_int(st, 7);
        r->boot_id = column_text(st, 8);
        r->hostname = column_text(st, 9);
        r->last_release = column_text(st, 10);
        r->labels = column_text(st, 11);
        r->booted_us = column_int(st, 12);
        r->libvirt = column_text(st, 13);
        r->domain = column_text(st, 14);
        return r;
}

/* The only row of @st, or NULL: NOT_FOUND with @missing as its text. */
static VmRecord *one(Catalogue *c, sqlite3_stmt *st, const char *missing, GError **error)
{
        int step = st ? sql_step(c, st, error) : -1;
        VmRecord *r;

        if (step < 0)
                return NULL;
        if (step == 0) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, missing);
                return NULL;
        }
        r = from_row(st);
        sql_done(st);
        return r;
}

static gboolean tell(Catalogue *c, const char *type, const char *name, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);
        g_autofree char *data = NULL;

        if (!r)
                return FALSE;
        data = json_object_text(vm_record_to_json(r));
        return catalogue_event_add(c, type, NULL, name, data, error);
}

static gboolean add_labels(Catalogue *c, const char *name, const char *labels, GError **error)
{
        return !labels ||
               sql_run(c, error,
                       "INSERT INTO vm_labels (vm, key, value) SELECT ?1, key, value FROM"
                       " json_each(?2) WHERE true ON CONFLICT DO UPDATE SET value = excluded.value",
                       "ss", name, labels);
}

/* Says what of @r the VM in the row has already. */
static void refuse_taken(sqlite3_stmt *st, const VmRecord *r, GError **error)
{
        g_autofree char *other = column_text(st, 0);

        if (column_int(st, 1) != 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "a VM named \"%s\" exists already",
                            r->name);
        else if (r->qmp && column_int(st, 2) != 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "the QMP socket %s belongs to VM \"%s\"",
                            r->qmp, other);
        else if (r->libvirt)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "the domain %s of %s belongs to VM \"%s\"",
                            r->domain, r->libvirt, other);
        else
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "the agent socket %s belongs to VM \"%s\"",
                            r->agent, other);
}

static gboolean add(Catalogue *c, const VmRecord *r, GError **error)
{
        sqlite3_stmt *st =
                sql_query(c, error,
                          "SELECT name, name = ?1, qmp IS ?2 FROM vms"
                          " WHERE name = ?1 OR qmp = ?2 OR agent = ?3 OR (libvirt = ?4 AND domain = ?5)"
                          " ORDER BY name <> ?1 LIMIT 1",
                          "sssss", r->name, r->qmp, r->agent, r->libvirt, r->domain);
        int step = st ? sql_step(c, st, error) : -1;

        if (step < 0)
                return FALSE;
        if (step == 1) {
                refuse_taken(st, r, error);
                sql_done(st);
                return FALSE;
        }
        return sql_run(c, error,
                       "INSERT INTO vms (name, qmp, agent, network, pin, token_hash, created, libvirt, "
                       "domain)"
                       " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "sssibsiss", r->name, r->qmp, r->agent, (gint64)r->network, r->has_pin ? r->pin : NULL,
                       sizeof r->pin, r->token_hash, host_wall_us(c->env), r->libvirt, r->domain) &&
               add_labels(c, r->name, r->labels, error) && tell(c, "vm.added", r->name, error);
}

gboolean catalogue_vm_add(Catalogue *c, const VmRecord *r, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, add(c, r, error), error);
}

VmRecord *catalogue_vm_get(Catalogue *c, const char *name, GError **error)
{
        g_autofree char *missing = g_strdup_printf("there is no VM named \"%s\"", name);

        return one(c, sql_query(c, error, "SELECT " COLUMNS " FROM vms WHERE name = ?", "s", name), missing,
                   error);
}

GPtrArray *catalogue_vm_list(Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)vm_record_free);
        sqlite3_stmt *st = sql_query(c, error, "SELECT " COLUMNS " FROM vms ORDER BY name", "");
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

GPtrArray *catalogue_vm_select(Catalogue *c, const char *labels, GError **error)
{
        g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)vm_record_free);
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT " COLUMNS
                                     " FROM vms WHERE NOT EXISTS (SELECT 1 FROM json_each(?1) w WHERE NOT"
                                     " EXISTS (SELECT 1 FROM vm_labels l WHERE l.vm = vms.name AND l.key ="
                                     " w.key AND l.value = w.value)) ORDER BY name",
                                     "s", labels ? labels : "{}");
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1)
                g_ptr_array_add(list, from_row(st));
        return r < 0 ? NULL : g_steal_pointer(&list);
}

static gboolean set_labels(Catalogue *c, const char *name, const char *labels, const char *const *without,
                           GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);
        gint64 count;

        if (!r)
                return FALSE;
        for (; without && *without; without++)
                if (!sql_run(c, error, "DELETE FROM vm_labels WHERE vm = ? AND key = ?", "ss", name,
                             *without))
                        return FALSE;
        if (!add_labels(c, name, labels, error))
                return FALSE;
        count = sql_number(c, 0, "SELECT count(*) FROM vm_labels WHERE vm = ?", "s", name);
        if (count > VM_LABELS_MAX) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "VM \"%s\" would have %d labels, and at most %d are kept; its labels are as they "
                            "were: remove some first",
                            name, (int)count, VM_LABELS_MAX);
                return FALSE;
        }
        return tell(c, "vm.labels", name, error);
}

gboolean catalogue_vm_set_labels(Catalogue *c, const char *name, const char *labels,
                                 const char *const *without, GError **error)
{
        return catalogue_begin(c, error) &&
               catalogue_end(c, set_labels(c, name, labels, without, error), error);
}

/* Rollouts go on without it. */
static gboolean skip_held_back(Catalogue *c, const char *name, GError **error)
{
        for (;;) {
                g_autofree char *operation = NULL;
                sqlite3_stmt *st = sql_query(c, error,
                                             "SELECT operation FROM pushes WHERE vm = ? AND final = 0 AND"
                                             " held_back <> 0 LIMIT 1",
                                             "s", name);
                int r = st ? sql_step(c, st, error) : -1;

                if (r <= 0)
                        return r == 0;
                operation = column_text(st, 0);
                sql_done(st);
                if (!catalogue_push_end_held_back(c, operation, name, PUSH_STATE_SKIPPED,
                                                  MOULT_ERROR_UNSPECIFIED,
                                                  "the VM was removed before its turn", error))
                        return FALSE;
        }
}

static gboolean remove_vm(Catalogue *c, const char *name, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);

        if (!r)
                return FALSE;
        if (sql_number(c, 1, "SELECT count(*) FROM pushes WHERE vm = ? AND final = 0 AND held_back = 0", "s",
                       name) > 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "VM \"%s\" has a push that is not finished; wait for it or cancel it first",
                            name);
                return FALSE;
        }
        if (sql_number(c, 1,
                       "SELECT count(*) FROM operations WHERE kind IN ('snapshot-create', 'snapshot-merge',"
                       " 'snapshot-rollback')"
                       " AND state IN ('queued', 'running') AND json_extract(request, '$.vm') = ?",
                       "s", name) > 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "a snapshot of VM \"%s\" is being made, its history merged, or its disks rolled "
                            "back; wait for it",
                            name);
                return FALSE;
        }
        return skip_held_back(c, name, error) && tell(c, "vm.removed", name, error) &&
               sql_run(c, error, "DELETE FROM vms WHERE name = ?", "s", name);
}

gboolean catalogue_vm_remove(Catalogue *c, const char *name, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, remove_vm(c, name, error), error);
}

static gboolean seen(Catalogue *c, const char *name, const char *boot_id, const char *hostname,
                     GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);

        if (!r || !sql_run(c, error, "UPDATE vms SET last_seen = ?, boot_id = ?, hostname = ? WHERE name = ?",
                           "isss", host_wall_us(c->env), boot_id, hostname, name))
                return FALSE;
        if (g_strcmp0(r->boot_id, boot_id) != 0 &&
            !sql_run(c, error, "UPDATE vms SET booted = ? WHERE name = ?", "is", host_wall_us(c->env), name))
                return FALSE;
        if (g_strcmp0(r->boot_id, boot_id) == 0 && g_strcmp0(r->hostname, hostname) == 0)
                return TRUE;
        return tell(c, "vm.seen", name, error);
}

gboolean catalogue_vm_seen(Catalogue *c, const char *name, const char *boot_id, const char *hostname,
                           GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, seen(c, name, boot_id, hostname, error), error);
}

gboolean catalogue_vm_touch(Catalogue *c, const char *name, GError **error)
{
        return sql_run(c, error, "UPDATE vms SET last_seen = ? WHERE name = ?", "is", host_wall_us(c->env),
                       name);
}

static gboolean set_release(Catalogue *c, const char *name, const char *release, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);

        if (!r)
                return FALSE;
        if (g_strcmp0(r->last_release, release) == 0)
                return TRUE;
        return sql_run(c, error, "UPDATE vms SET last_release = ? WHERE name = ?", "ss", release, name) &&
               tell(c, "vm.release", name, error);
}

gboolean catalogue_vm_set_release(Catalogue *c, const char *name, const char *release, GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, set_release(c, name, release, error), error);
}

static gboolean pin(Catalogue *c, const char *name, const guint8 *fingerprint, GError **error)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(c, name, error);

        if (!r)
                return FALSE;
        if (r->has_pin && memcmp(r->pin, fingerprint, DIGEST_SIZE) == 0)
                return TRUE;
        if (sql_number(c, 1, "SELECT count(*) FROM vms WHERE pin = ?", "b", fingerprint, (gsize)DIGEST_SIZE) >
            0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                            "VM \"%s\" shows the key of another VM: its disk was cloned with the agent's "
                            "identity; "
                            "remove the agent's identity.pem in one of them and restart its agent",
                            name);
                return FALSE;
        }
        return sql_run(c, error, "UPDATE vms SET pin = ?, token_hash = NULL WHERE name = ?", "bs",
                       fingerprint, (gsize)DIGEST_SIZE, name) &&
               tell(c, "vm.pinned", name, error);
}

gboolean catalogue_vm_pin(Catalogue *c, const char *name, const guint8 fingerprint[static DIGEST_SIZE],
                          GError **error)
{
        return catalogue_begin(c, error) && catalogue_end(c, pin(c, name, fingerprint, error), error);
}

VmRecord *catalogue_vm_by_pin(Catalogue *c, const guint8 fingerprint[static DIGEST_SIZE], GError **error)
{
        return one(c,
                   sql_query(c, error, "SELECT " COLUMNS " FROM vms WHERE pin = ?", "b", fingerprint,
                             (gsize)DIGEST_SIZE),
                   "no VM has this key", error);
}

gboolean catalogue_vm_join_pending(Catalogue *c)
{
        return sql_number(c, 0, "SELECT count(*) FROM vms WHERE network <> 0 AND token_hash IS NOT NULL",
                          "") > 0;
}

VmRecord *catalogue_vm_join(Catalogue *c, const char *token, const guint8 fingerprint[static DIGEST_SIZE],
                            GError **error)
{
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
        g_autoptr(VmRecord) r = NULL;
        g_autoptr(GError) missing = NULL;

        if (!catalogue_begin(c, error))
                return NULL;
        r = one(c,
                sql_query(c, &missing, "SELECT " COLUMNS " FROM vms WHERE token_hash = ? AND network <> 0",
                          "s", hash),
                "no", &missing);
        if (!r) {
                catalogue_rollback(c);
                if (g_error_matches(missing, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                                    "this join token is not known, or was used already; make a new one by "
                                    "adding the "
                                    "VM again");
                else
                        g_propagate_error(error, g_steal_pointer(&missing));
                return NULL;
        }
        if (!catalogue_end(c, pin(c, r->name, fingerprint, error), error))
                return NULL;
        return catalogue_vm_get(c, r->name, error);
}
