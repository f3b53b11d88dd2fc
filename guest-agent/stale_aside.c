/* guest-agent/stale_aside.c - what an object that a generation put aside was called. */
#include "guest-agent/stale_aside.h"

#include <unistd.h>

#include "guest-agent/stale_parse.h"
#include "guest-agent/upgrade/kept.h"

/* Lists of more generations than this are not loaded: a name costs nothing to invent. */
#define LISTS_MAX 32u

struct StaleAside {
        int state_fd;
        GHashTable *lists; /* guint64* generation -> Manifest*, or NULL if it is not kept */
};

static void list_free(gpointer m)
{
        manifest_free(m);
}

StaleAside *stale_aside_new(int state_fd)
{
        StaleAside *a = g_new0(StaleAside, 1);

        a->state_fd = state_fd;
        a->lists = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, list_free);
        return a;
}

void stale_aside_free(StaleAside *a)
{
        if (!a)
                return;
        g_hash_table_unref(a->lists);
        if (a->state_fd >= 0)
                close(a->state_fd);
        g_free(a);
}

static const Manifest *list_of(StaleAside *a, guint64 generation)
{
        gpointer m = NULL;

        if (!g_hash_table_lookup_extended(a->lists, &generation, NULL, &m) &&
            g_hash_table_size(a->lists) < LISTS_MAX) {
                m = kept_manifest_at(a->state_fd, generation);
                g_hash_table_insert(a->lists, g_memdup2(&generation, sizeof generation), m);
        }
        return m;
}

char *stale_aside_path(StaleAside *a, const char *name)
{
        guint64 generation;
        guint32 entry;
        const char *rest;
        const Manifest *m =
                stale_aside_parse(name, &generation, &entry, &rest) ? list_of(a, generation) : NULL;
        g_autofree char *path = m && entry < m->n_entries ? manifest_entry_path(m->entries[entry]) : NULL;

        return path ? g_strconcat(path, rest, NULL) : NULL;
}
