/* guest-agent/upgrade/fill.c - instant mode: what of the target is not in the store yet. */
#include "guest-agent/upgrade/fill.h"

#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "proto/message.h"

/* Content, as a key: files of the pack that may become an object of it, the first one first. */
struct content {
        guint8 digest[DIGEST_SIZE];
        guint64 size;
        GQueue entries; /* of index + 1 */
};

static guint content_hash(gconstpointer p)
{
        guint h;
        memcpy(&h, ((const struct content *)p)->digest, sizeof h);
        return h;
}

static gboolean content_equal(gconstpointer a, gconstpointer b)
{
        const struct content *x = a, *y = b;
        return x->size == y->size && memcmp(x->digest, y->digest, DIGEST_SIZE) == 0;
}

static void content_free(gpointer p)
{
        struct content *c = p;
        g_queue_clear(&c->entries);
        g_free(c);
}

static gboolean key_of(const Moult__Entry *e, struct content *ret)
{
        if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE || e->digest.len != DIGEST_SIZE)
                return FALSE;
        memcpy(ret->digest, e->digest.data, DIGEST_SIZE);
        ret->size = e->size;
        return TRUE;
}

static GHashTable *contents_of(const Manifest *m)
{
        GHashTable *all = g_hash_table_new_full(content_hash, content_equal, content_free, NULL);
        for (gsize i = 0; i < m->n_entries; i++) {
                struct content key = {0};
                if (!key_of(m->entries[i], &key))
                        continue;
                struct content *c = g_hash_table_lookup(all, &key);
                if (c == NULL) {
                        c = g_memdup2(&key, sizeof key);
                        g_hash_table_add(all, c);
                }
                g_queue_push_tail(&c->entries, GSIZE_TO_POINTER(i + 1));
        }
        return all;
}

/* Objects of one content differ in metadata, and each has a file of its own in the list. */
static gsize take_entry(GHashTable *contents, const Moult__Entry *e)
{
        struct content key = {0};
        struct content *c = key_of(e, &key) ? g_hash_table_lookup(contents, &key) : NULL;
        return c == NULL || c->entries.length == 0 ? 0 : GPOINTER_TO_SIZE(g_queue_pop_head(&c->entries));
}

static void set_entry(struct plan_entry *pe, const struct target_item *item)
{
        g_free(pe->path);
        pe->path = g_strdup(item->path);
        pe->seen = item->entry;
        pe->action = MOULT__PLAN_ACTION__PLAN_CREATE;
        pe->how = HOW_MERGE;
        pe->object = pe->deferred = pe->selected = TRUE;
}

static Plan *empty_plan(const Manifest *m)
{
        Plan *p = g_new0(Plan, 1);
        p->manifest = m;
        p->n_entries = (guint)m->n_entries;
        p->entries = g_new0(struct plan_entry, m->n_entries + 1);
        p->directories = g_ptr_array_new();
        p->areas = g_ptr_array_new();
        p->steps = g_array_new(FALSE, FALSE, sizeof(guint32));
        for (guint i = 0; i < p->n_entries; i++)
                p->entries[i].directory = p->entries[i].carrier = p->entries[i].area = p->entries[i].link_of =
                        -1;
        return p;
}

Plan *fill_plan_new(const Manifest *m, const Target *t, ObjectStore *store, guint64 generation,
                    struct fill_totals *ret_totals, GError **error)
{
        g_autoptr(Plan) p = empty_plan(m);
        g_autoptr(GHashTable) contents = contents_of(m);
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct fill_totals totals = {0};
        for (guint i = 0; i < target_size(t); i++) {
                struct target_item item = target_get(t, i);
                char name[TARGET_OBJECT_NAME_LENGTH + 1];
                if (item.entry->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                        continue;
                target_object_name(item.entry, name);
                if (!g_hash_table_add(seen, g_strdup(name)))
                        continue;
                if (item.release->generation == generation)
                        totals.bytes += item.entry->size;
                if (object_store_has(store, item.entry))
                        continue;
                gsize entry = take_entry(contents, item.entry);
                if (entry == 0) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                    "/%s is neither in the store nor in the release's pack", item.path);
                        return NULL;
                }
                set_entry(&p->entries[entry - 1], &item);
                totals.bytes_missing += item.entry->size;
                p->n_merged++;
        }
        *ret_totals = totals;
        return g_steal_pointer(&p);
}
