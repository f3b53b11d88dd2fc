/* guest-agent/stale.c - who still runs old code: looking, restarting, looking again. */
#include "guest-agent/stale.h"

#include <string.h>

#include "guest-agent/stale_parse.h"
#include "guest-agent/stale_report.h"
#include "guest-agent/stale_scan.h"
#include "proto/message.h"

void stale_report_free(Moult__StaleReport *r)
{
        if (r)
                moult__stale_report__free_unpacked(r, NULL);
}

static void restart_free(gpointer p)
{
        struct stale_restart *r = p;

        g_free(r->unit);
        g_free(r->error);
        g_free(r);
}

static gboolean is_stale(const StaleScan *scan, const char *unit)
{
        GHashTableIter iter;
        gpointer found;

        g_hash_table_iter_init(&iter, scan->units);
        while (g_hash_table_iter_next(&iter, &found, NULL))
                if (stale_unit_is(found, unit))
                        return TRUE;
        return FALSE;
}

/* The release's units that @scan found. */
static GPtrArray *stale_units(const Manifest *m, const StaleScan *scan)
{
        GPtrArray *units = g_ptr_array_new_with_free_func(restart_free);

        for (size_t i = 0; i < m->n_restart_units; i++) {
                g_autofree char *unit = message_string(m->restart_units[i]);

                if (is_stale(scan, unit)) {
                        struct stale_restart *r = g_new0(struct stale_restart, 1);

                        r->unit = g_steal_pointer(&unit);
                        g_ptr_array_add(units, r);
                }
        }
        return units;
}

static void restart_all(Upgrade *u, GPtrArray *units)
{
        for (guint i = 0; i < units->len; i++) {
                struct stale_restart *r = units->pdata[i];
                g_autoptr(GError) why = NULL;

                if (!upgrade_restart_unit(u, r->unit, &why))
                        r->error = g_strdup(why->message);
        }
}

/* The look takes the list over, and may keep it for ever. */
static StaleScan *scan(Upgrade *u, struct kept_release *k)
{
        return stale_scan(upgrade_root(u), g_steal_pointer(&k->manifest), upgrade_kept_directory(u),
                          STALE_PATIENCE_MS);
}

static Moult__StaleReport *make_report(Upgrade *u, const guint8 *push_id, struct kept_release *k,
                                       const GPtrArray *restarts)
{
        g_autoptr(StaleScan) found = scan(u, k);
        Moult__StaleReport *r = stale_report_new(found, restarts);

        r->generation = k->generation;
        if (push_id)
                r->push_id = message_blob(g_memdup2(push_id, 16), 16);
        if (k->release)
                r->release = message_blob(g_memdup2(k->release, strlen(k->release)), strlen(k->release));
        return r;
}

Moult__StaleReport *stale_look(Upgrade *u, const guint8 *push_id, GError **error)
{
        struct kept_release k;
        Moult__StaleReport *r;

        if (!upgrade_kept_release(u, push_id, &k, error))
                return NULL;
        r = make_report(u, push_id, &k, NULL);
        kept_release_clear(&k);
        return r;
}

/* What was restarted; NULL: nobody knows what there was to restart. */
static GPtrArray *restart_stale(Upgrade *u, const guint8 *push_id, GError **error)
{
        struct kept_release looked_for, named;
        g_autoptr(StaleScan) found = NULL;
        GPtrArray *units;

        if (!upgrade_kept_release(u, push_id, &looked_for, error))
                return NULL;
        found = scan(u, &looked_for);
        kept_release_clear(&looked_for);
        if (!upgrade_kept_release(u, push_id, &named, error))
                return NULL;
        units = stale_units(named.manifest, found);
        kept_release_clear(&named);
        restart_all(u, units);
        return units;
}

Moult__StaleReport *stale_look_after_restarts(Upgrade *u, const guint8 *push_id, GError **error)
{
        g_autoptr(GPtrArray) restarts = restart_stale(u, push_id, error);
        struct kept_release k;
        Moult__StaleReport *r;

        if (!restarts || !upgrade_kept_release(u, push_id, &k, error))
                return NULL;
        r = make_report(u, push_id, &k, restarts);
        kept_release_clear(&k);
        return r;
}
