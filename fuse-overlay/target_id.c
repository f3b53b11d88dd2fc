/* fuse-overlay/target_id.c - names that follow from content: of an object, and of what is seen below a merge.
 *
 * Both are SHA-256 over a canonical form: numbers of 64 bits, little-endian; strings with their length in
 * front; attributes sorted by name. */
#include <string.h>

#include "common/digest.h"
#include "fuse-overlay/target_parts.h"

#define OBJECT_FORM "moult object v1"
#define TREE_FORM   "moult tree v1"

static void put_number(GByteArray *to, guint64 n)
{
        guint64 le = GUINT64_TO_LE(n);
        g_byte_array_append(to, (const guint8 *)&le, sizeof le);
}

static void put_bytes(GByteArray *to, ProtobufCBinaryData b)
{
        put_number(to, b.len);
        if (b.len > 0)
                g_byte_array_append(to, b.data, (guint)b.len);
}

static void put_string(GByteArray *to, const char *s)
{
        put_bytes(to, (ProtobufCBinaryData){strlen(s), (guint8 *)s});
}

static int xattr_compare(gconstpointer a, gconstpointer b)
{
        const Moult__Xattr *x = *(const Moult__Xattr *const *)a, *y = *(const Moult__Xattr *const *)b;
        int order = memcmp(x->name.data, y->name.data, MIN(x->name.len, y->name.len));
        return order != 0 ? order : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

static void put_metadata(GByteArray *to, const Moult__Entry *e)
{
        put_number(to, e->mode);
        put_number(to, e->uid);
        put_number(to, e->gid);
        put_number(to, (guint64)e->mtime_s);
        put_number(to, e->mtime_ns);
        put_number(to, e->n_xattrs);
        g_autoptr(GPtrArray) sorted = g_ptr_array_new();
        for (size_t i = 0; i < e->n_xattrs; i++)
                g_ptr_array_add(sorted, e->xattrs[i]);
        g_ptr_array_sort(sorted, xattr_compare);
        for (guint i = 0; i < sorted->len; i++) {
                const Moult__Xattr *x = sorted->pdata[i];
                put_bytes(to, x->name);
                put_bytes(to, x->value);
        }
}

static void hex_of(GByteArray *form, guint chars, char *ret)
{
        guint8 digest[DIGEST_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, form->data, form->len, digest);
        digest_to_hex(digest, hex);
        memcpy(ret, hex, chars);
        ret[chars] = '\0';
}

void target_object_name(const Moult__Entry *e, char ret[static TARGET_OBJECT_NAME_LENGTH + 1])
{
        g_autoptr(GByteArray) form = g_byte_array_new();
        put_string(form, OBJECT_FORM);
        put_bytes(form, e->digest);
        put_number(form, e->size);
        put_metadata(form, e);
        hex_of(form, TARGET_OBJECT_NAME_LENGTH, ret);
}

/* One digest for each item, so that the form of a large tree stays small. */
static void put_item(GByteArray *to, GByteArray *scratch, Hasher *h, const struct target_item *i)
{
        const Moult__Entry *e = i->entry;
        guint8 digest[DIGEST_SIZE];
        g_byte_array_set_size(scratch, 0);
        put_bytes(scratch, e->path);
        put_number(scratch, e->type);
        put_number(scratch, i->opaque);
        put_metadata(scratch, e);
        put_number(scratch, e->size);
        put_bytes(scratch, e->digest);
        put_bytes(scratch, e->link_target);
        put_number(scratch, e->dev_major);
        put_number(scratch, e->dev_minor);
        hasher_sha256(h, scratch->data, scratch->len, digest);
        g_byte_array_append(to, digest, sizeof digest);
}

void target_id(const Target *t, const struct target_merge *merge, char ret[static TARGET_ID_LENGTH + 1])
{
        g_autoptr(GByteArray) form = g_byte_array_new(), scratch = g_byte_array_new();
        g_autoptr(Hasher) h = hasher_new();
        struct target_merge m = {merge->path, merge->reach, target_merge_mount(t, merge)};
        /* What the target does not list is the original's at this place: the path belongs to it. */
        put_string(form, TREE_FORM);
        put_string(form, m.path);
        put_number(form, m.reach);
        guint first, n = target_below(t, m.path, &first);
        for (guint i = first; i < first + n; i++) {
                struct target_item item = target_get(t, i);
                if (target_merge_serves(t, &m, &item))
                        put_item(form, scratch, h, &item);
        }
        hex_of(form, TARGET_ID_LENGTH, ret);
}
