/* fuse-overlay/target_item.c - one item of a target, and the release that it is from: immutable, one block
 * each. */
#include <string.h>

#include "common/digest.h"
#include "fuse-overlay/target_parts.h"

struct release *release_new(ProtobufCBinaryData name, guint64 generation, ProtobufCBinaryData digest)
{
        struct release *r = g_malloc0(sizeof *r + name.len + digest.len);
        g_atomic_ref_count_init(&r->refs);
        moult__target__release__init(&r->message);
        r->message.generation = generation;
        r->message.name = (ProtobufCBinaryData){name.len, r->bytes};
        r->message.manifest_digest = (ProtobufCBinaryData){digest.len, r->bytes + name.len};
        if (name.len > 0)
                memcpy(r->bytes, name.data, name.len);
        if (digest.len > 0)
                memcpy(r->bytes + name.len, digest.data, digest.len);
        return r;
}

struct release *release_ref(struct release *r)
{
        g_atomic_ref_count_inc(&r->refs);
        return r;
}

void release_unref(struct release *r)
{
        if (g_atomic_ref_count_dec(&r->refs))
                g_free(r);
}

/* --- the block: sized first, then filled in the same order */

struct attribute {
        const void *name, *value;
        gsize name_len, value_len;
};

static int attribute_compare(gconstpointer a, gconstpointer b)
{
        const struct attribute *x = a, *y = b;
        int order = memcmp(x->name, y->name, MIN(x->name_len, y->name_len));
        return order != 0 ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static gboolean has_metadata(Moult__EntryType type)
{
        return type != MOULT__ENTRY_TYPE__ENTRY_DELETE && type != MOULT__ENTRY_TYPE__ENTRY_HARDLINK;
}

/* Sorted by name, so that equal sets are equal bytes. */
static GArray *attributes_of(const struct item_content *c)
{
        GArray *ret = g_array_new(FALSE, FALSE, sizeof(struct attribute));
        if (!has_metadata(c->entry->type))
                return ret;
        if (c->metadata != NULL) {
                for (guint i = 0; i < c->metadata->xattrs->len; i++) {
                        const struct metadata_xattr *x =
                                &g_array_index(c->metadata->xattrs, struct metadata_xattr, i);
                        struct attribute a = {.name = x->name, .name_len = strlen(x->name)};
                        a.value = g_bytes_get_data(x->value, &a.value_len);
                        g_array_append_val(ret, a);
                }
        } else {
                for (size_t i = 0; i < c->entry->n_xattrs; i++) {
                        const Moult__Xattr *x = c->entry->xattrs[i];
                        struct attribute a = {x->name.data, x->value.data, x->name.len, x->value.len};
                        g_array_append_val(ret, a);
                }
        }
        g_array_sort(ret, attribute_compare);
        return ret;
}

struct block {
        guint8 *at;
};

static ProtobufCBinaryData block_put(struct block *b, const void *data, gsize len, gboolean terminated)
{
        ProtobufCBinaryData ret = {len, b->at};
        if (len > 0)
                memcpy(b->at, data, len);
        b->at += len;
        if (terminated)
                *b->at++ = '\0';
        return ret;
}

static void put_attributes(struct item *i, struct block *b, const GArray *attributes)
{
        if (attributes->len == 0)
                return;
        /* First in the block, which is aligned for pointers. */
        Moult__Xattr **pointers = (Moult__Xattr **)(void *)b->at;
        Moult__Xattr *messages = (Moult__Xattr *)(void *)(pointers + attributes->len);
        b->at = (guint8 *)(messages + attributes->len);
        for (guint n = 0; n < attributes->len; n++) {
                const struct attribute *a = &g_array_index(attributes, struct attribute, n);
                moult__xattr__init(&messages[n]);
                messages[n].name = block_put(b, a->name, a->name_len, TRUE);
                messages[n].value = block_put(b, a->value, a->value_len, FALSE);
                pointers[n] = &messages[n];
        }
        i->entry.xattrs = pointers;
        i->entry.n_xattrs = attributes->len;
}

static gsize block_size(const struct item_content *c, const GArray *attributes)
{
        gsize size = strlen(c->path) + 1 + strlen(c->mount) + 1 + c->entry->link_target.len + 1 +
                     c->entry->digest.len;
        for (guint n = 0; n < attributes->len; n++) {
                const struct attribute *a = &g_array_index(attributes, struct attribute, n);
                size += sizeof(Moult__Xattr *) + sizeof(Moult__Xattr) + a->name_len + 1 + a->value_len;
        }
        return size;
}

static void set_metadata(Moult__Entry *e, const struct item_content *c)
{
        const Moult__Entry *from = c->entry;
        if (!has_metadata(e->type))
                return;
        if (c->metadata != NULL) {
                e->mode = c->metadata->mode & 07777u;
                e->uid = c->metadata->uid;
                e->gid = c->metadata->gid;
                e->mtime_s = c->metadata->mtime.tv_sec;
                e->mtime_ns = (guint32)c->metadata->mtime.tv_nsec;
        } else {
                e->mode = from->mode;
                e->uid = from->uid;
                e->gid = from->gid;
                e->mtime_s = from->mtime_s;
                e->mtime_ns = from->mtime_ns;
        }
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_SYMLINK)
                e->mode = 0; /* the list has none; stat says 0777 */
}

struct item *item_new(const struct item_content *c, struct release *release)
{
        G_STATIC_ASSERT(G_STRUCT_OFFSET(struct item, bytes) % sizeof(void *) == 0);
        g_autoptr(GArray) attributes = attributes_of(c);
        struct item *i = g_malloc0(sizeof *i + block_size(c, attributes));
        struct block b = {i->bytes};
        const Moult__Entry *from = c->entry;

        g_atomic_ref_count_init(&i->refs);
        i->release = release_ref(release);
        i->opaque = c->opaque;
        i->reach = c->reach;
        i->original = c->original;
        moult__entry__init(&i->entry);
        i->entry.type = from->type;
        put_attributes(i, &b, attributes);
        i->entry.path = block_put(&b, c->path, strlen(c->path), TRUE);
        i->path = (const char *)i->entry.path.data;
        i->mount = (const char *)block_put(&b, c->mount, strlen(c->mount), TRUE).data;
        if (from->link_target.len > 0)
                i->entry.link_target = block_put(&b, from->link_target.data, from->link_target.len, TRUE);
        if (from->digest.len > 0)
                i->entry.digest = block_put(&b, from->digest.data, from->digest.len, FALSE);
        i->entry.size = from->size;
        i->entry.dev_major = from->dev_major;
        i->entry.dev_minor = from->dev_minor;
        set_metadata(&i->entry, c);
        return i;
}

struct item *item_ref(struct item *i)
{
        g_atomic_ref_count_inc(&i->refs);
        return i;
}

void item_unref(struct item *i)
{
        if (!g_atomic_ref_count_dec(&i->refs))
                return;
        release_unref(i->release);
        g_free(i);
}
