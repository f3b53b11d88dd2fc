/* host-service/release/pack_store.c - files without a row go; rows without a file are told. */
#include "host-service/release/pack_store.h"

#include "common/events.h"
#include "host-service/catalogue/releases.h"

gboolean pack_store_clean(const struct host_env *env, Catalogue *c, GError **error)
{
        g_autoptr(GPtrArray) releases = catalogue_release_list(c, NULL, error);
        g_auto(GStrv) files = releases ? env->store->list(env->self, error) : NULL;
        g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);

        if (!files)
                return FALSE;
        for (guint i = 0; i < releases->len; i++) {
                const ReleaseRecord *r = g_ptr_array_index(releases, i);

                g_hash_table_add(known, r->file);
                if (!g_strv_contains((const char *const *)files, r->file))
                        event_log(EVENT_ERROR, "pack-missing",
                                  "a release's pack is gone from the store: remove the release and import it "
                                  "again",
                                  "release", r->name, "version", r->version, "file", r->file, NULL);
        }
        for (GStrv f = files; *f; f++) {
                if (g_hash_table_contains(known, *f))
                        continue;
                if (!env->store->remove(env->self, *f, error))
                        return FALSE;
                event_log(EVENT_NOTICE, "pack-left-over",
                          "removed what an interrupted import or removal left", "file", *f, NULL);
        }
        return TRUE;
}
