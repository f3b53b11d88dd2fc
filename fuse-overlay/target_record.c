/* fuse-overlay/target_record.c - the durable form of a target: SHA-256, then protobuf.
 *
 * The file is root's own, so the digest finds damage and not forgery: every rule is checked all the same, and
 * unpacking has a memory budget. Whoever writes one asks target_refusal() first, which applies the same
 * rules: what is kept can be read. */
#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "fuse-overlay/target_parts.h"
#include "proto/limits.h"
#include "proto/message.h"

#define FORMAT 1u
/* As for manifests (shm/manifest.c). */
#define MEMORY_PER_BYTE 64u
#define MEMORY_BASE     (1024u * 1024u)

typedef Moult__Target__Target Record;

static void record_free(Record *r)
{
        moult__target__target__free_unpacked(r, message_free_allocator());
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Record, record_free)

/* --- writing: a message whose bytes are the target's own */

static int release_compare(gconstpointer a, gconstpointer b)
{
        const struct release *x = *(const struct release *const *)a, *y = *(const struct release *const *)b;
        if (x->message.generation != y->message.generation)
                return x->message.generation < y->message.generation ? -1 : 1;
        return memcmp(x->message.manifest_digest.data, y->message.manifest_digest.data, DIGEST_SIZE);
}

struct view {
        Record record;
        Moult__Target__Item *items;
        Moult__Target__Merge *merges;
};

static void view_clear(struct view *v)
{
        g_free(v->items);
        g_free(v->merges);
        g_free(v->record.items);
        g_free(v->record.merges);
        g_free(v->record.releases);
}

static void view_releases(struct view *v, const Target *t, GHashTable *index)
{
        g_autoptr(GPtrArray) releases = g_ptr_array_new();
        for (guint i = 0; i < t->items->len; i++) {
                struct item *item = g_ptr_array_index(t->items, i);
                if (g_hash_table_add(index, item->release))
                        g_ptr_array_add(releases, item->release);
        }
        g_ptr_array_sort(releases, release_compare);
        v->record.n_releases = releases->len;
        v->record.releases = g_new0(Moult__Target__Release *, releases->len);
        for (guint i = 0; i < releases->len; i++) {
                struct release *r = releases->pdata[i];
                v->record.releases[i] = &r->message;
                g_hash_table_insert(index, r, GUINT_TO_POINTER(i));
        }
}

static void view_init(struct view *v, const Target *t)
{
        g_autoptr(GHashTable) index = g_hash_table_new(NULL, NULL);
        *v = (struct view){.record = MOULT__TARGET__TARGET__INIT};
        v->record.format = FORMAT;
        view_releases(v, t, index);

        v->items = g_new(Moult__Target__Item, t->items->len);
        v->record.items = g_new(Moult__Target__Item *, t->items->len);
        v->record.n_items = t->items->len;
        for (guint i = 0; i < t->items->len; i++) {
                struct item *item = g_ptr_array_index(t->items, i);
                moult__target__item__init(&v->items[i]);
                v->items[i].entry = &item->entry;
                v->items[i].release = GPOINTER_TO_UINT(g_hash_table_lookup(index, item->release));
                v->items[i].reach = item->reach;
                v->items[i].mount = message_bytes(item->mount);
                v->items[i].opaque = item->opaque;
                v->items[i].original = item->original;
                v->record.items[i] = &v->items[i];
        }
        v->merges = g_new(Moult__Target__Merge, t->merges->len);
        v->record.merges = g_new(Moult__Target__Merge *, t->merges->len);
        v->record.n_merges = t->merges->len;
        for (guint i = 0; i < t->merges->len; i++) {
                const struct target_merge *m = &g_array_index(t->merges, struct target_merge, i);
                moult__target__merge__init(&v->merges[i]);
                v->merges[i].path = message_bytes(m->path);
                v->merges[i].reach = m->reach;
                v->merges[i].mount = message_bytes(m->mount);
                v->record.merges[i] = &v->merges[i];
        }
}

GBytes *target_serialise(const Target *t)
{
        struct view v;
        view_init(&v, t);
        gsize len = moult__target__target__get_packed_size(&v.record);
        guint8 *data = g_malloc(DIGEST_SIZE + len);
        gsize written = moult__target__target__pack(&v.record, data + DIGEST_SIZE);
        g_assert(written == len);
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, data + DIGEST_SIZE, len, data);
        view_clear(&v);
        return g_bytes_new_take(data, DIGEST_SIZE + len);
}

/* --- the rules */

static char *refusal_of(const char *what, ProtobufCBinaryData name, const char *why)
{
        g_autofree char *text = message_string(name);
        return g_strdup_printf("%s %s: %s", what, text, why);
}

static char *record_refusal(const Record *r)
{
        if (r->base.n_unknown_fields != 0 || r->format != FORMAT)
                return g_strdup("its format is not known to this version of moult");
        if (r->n_items > LIMIT_ENTRIES)
                return g_strdup_printf("more than %u items", LIMIT_ENTRIES);
        if (r->n_releases > LIMIT_TARGET_RELEASES)
                return g_strdup_printf("items of more than %u releases", LIMIT_TARGET_RELEASES);
        if (r->n_merges > LIMIT_TARGET_MERGES)
                return g_strdup_printf("more than %u merges", LIMIT_TARGET_MERGES);
        const char *why;
        for (size_t i = 0; i < r->n_releases; i++)
                if ((why = target_release_refusal(r->releases[i])) != NULL)
                        return refusal_of("release", r->releases[i]->name, why);
        g_autofree guint8 *used = g_malloc0(r->n_releases + 1);
        for (size_t i = 0; i < r->n_items; i++) {
                const Moult__Target__Item *item = r->items[i];
                if ((why = target_item_refusal(item, r->n_releases)) != NULL)
                        return refusal_of("item",
                                          item->entry != NULL ? item->entry->path : message_bytes("?"), why);
                used[item->release] = 1;
        }
        for (size_t i = 0; i < r->n_releases; i++)
                if (!used[i])
                        return refusal_of("release", r->releases[i]->name, "no item is from it");
        for (size_t i = 0; i < r->n_merges; i++)
                if ((why = target_merge_refusal(r->merges[i])) != NULL)
                        return refusal_of("merge", r->merges[i]->path, why);
        return NULL;
}

static char *structure_refusal(const Target *t)
{
        const char *path, *why = target_structure_refusal(t, &path);
        return why != NULL ? refusal_of("path", message_bytes(path), why) : NULL;
}

char *target_refusal(const Target *t)
{
        struct view v;
        view_init(&v, t);
        char *why = record_refusal(&v.record);
        if (why == NULL && moult__target__target__get_packed_size(&v.record) > LIMIT_TARGET_BYTES)
                why = g_strdup_printf("its record would be larger than %u MiB", LIMIT_TARGET_BYTES >> 20);
        view_clear(&v);
        return why != NULL ? why : structure_refusal(t);
}

/* --- reading */

/* Empty (a mount point: the root) is "", not NULL, which an empty field is. */
static char *string_of(ProtobufCBinaryData b)
{
        return b.len > 0 ? g_strndup((const char *)b.data, b.len) : g_strdup("");
}

static Target *from_record(const Record *r)
{
        Target *t = target_new();
        g_autoptr(GPtrArray) releases = g_ptr_array_new_with_free_func((GDestroyNotify)release_unref);
        for (size_t i = 0; i < r->n_releases; i++)
                g_ptr_array_add(releases, release_new(r->releases[i]->name, r->releases[i]->generation,
                                                      r->releases[i]->manifest_digest));
        for (size_t i = 0; i < r->n_items; i++) {
                const Moult__Target__Item *item = r->items[i];
                const Moult__Entry *e = item->entry;
                g_autofree char *path = g_strndup((const char *)e->path.data, e->path.len);
                g_autofree char *mount = string_of(item->mount);
                struct item_content content = {path,        mount,          e,           NULL,
                                               item->reach, item->original, item->opaque};
                g_ptr_array_add(t->items, item_new(&content, releases->pdata[item->release]));
        }
        for (size_t i = 0; i < r->n_merges; i++) {
                const Moult__Target__Merge *m = r->merges[i];
                g_autofree char *path = g_strndup((const char *)m->path.data, m->path.len);
                g_autofree char *mount = string_of(m->mount);
                target_add_merge(t, &(struct target_merge){path, m->reach, mount});
        }
        return t;
}

static Target *corrupt(GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the record of a target is damaged: %s", why);
        return NULL;
}

Target *target_parse(GBytes *bytes, GError **error)
{
        gsize len;
        const guint8 *data = g_bytes_get_data(bytes, &len);
        if (len < DIGEST_SIZE)
                return corrupt(error, "it is cut off");
        if (len - DIGEST_SIZE > LIMIT_TARGET_BYTES)
                return corrupt(error, "it is too large");
        guint8 digest[DIGEST_SIZE];
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, data + DIGEST_SIZE, len - DIGEST_SIZE, digest);
        if (memcmp(digest, data, DIGEST_SIZE) != 0)
                return corrupt(error, "its digest does not fit");
        MessageBudget budget;
        message_budget_init(&budget, MIN((gsize)LIMIT_MANIFEST_MEMORY, len * MEMORY_PER_BYTE + MEMORY_BASE));
        g_autoptr(Record) r =
                moult__target__target__unpack(&budget.base, len - DIGEST_SIZE, data + DIGEST_SIZE);
        if (r == NULL)
                return corrupt(error, "it is not valid protobuf, or takes too much memory to hold");
        g_autofree char *why = record_refusal(r);
        if (why != NULL)
                return corrupt(error, why);
        g_autoptr(Target) t = from_record(r);
        g_autofree char *wrong = structure_refusal(t);
        if (wrong != NULL)
                return corrupt(error, wrong);
        return g_steal_pointer(&t);
}
