/* fuse-overlay/target_parts.h - what a target is made of; for the files target*.c alone.
 *
 * Items and releases are immutable and counted: a target that is composed from another one shares what stays.
 */
#pragma once

#include "fuse-overlay/target.h"

struct release {
        gatomicrefcount refs;
        Moult__Target__Release message;
        guint8 bytes[]; /* of the message */
};
struct release *release_new(ProtobufCBinaryData name, guint64 generation, ProtobufCBinaryData digest);
struct release *release_ref(struct release *r);
void release_unref(struct release *r);

struct item {
        gatomicrefcount refs;
        struct release *release;
        gboolean opaque;
        Moult__Target__Reach reach;
        Moult__Target__Original original;
        const char *path, *mount;
        Moult__Entry entry; /* path, link target and names of attributes end in NUL */
        guint8 bytes[];     /* of all of these */
};
/* What an item is made from. Everything is borrowed. */
struct item_content {
        const char *path, *mount;
        const Moult__Entry *entry; /* type and content; and metadata, unless @metadata is set */
        const Metadata *metadata;
        Moult__Target__Reach reach;
        Moult__Target__Original original;
        gboolean opaque;
};
struct item *item_new(const struct item_content *content, struct release *release);
struct item *item_ref(struct item *i);
void item_unref(struct item *i);

struct Target {
        gatomicrefcount refs;
        GPtrArray *items; /* struct item */
        GArray *merges;   /* struct target_merge; their strings are in @strings */
        GStringChunk *strings;
};
Target *target_new(void);
/* Copies. A mount of NULL is looked up in the items, which must be there. */
void target_add_merge(Target *t, const struct target_merge *merge);

/* What makes one item, one release or one merge unfit for a target: NULL, or the reason. */
const char *target_item_refusal(const Moult__Target__Item *i, gsize n_releases);
const char *target_release_refusal(const Moult__Target__Release *r);
const char *target_merge_refusal(const Moult__Target__Merge *m);
/* Rules between items, and between merges; these are in order. Names the path in @ret_path (borrowed). */
const char *target_structure_refusal(const Target *t, const char **ret_path);
