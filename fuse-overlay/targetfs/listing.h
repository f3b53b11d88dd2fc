/* fuse-overlay/targetfs/listing.h - what a directory of the merge holds: the original's names without those
 * that the target hides, and the target's.
 *
 * A listing is made whole and sorted by name. So a position in it means the same each time it is made, as
 * long as nothing changes, which is so while it is mounted; and no name comes twice. */
#pragma once

#include "fuse-overlay/targetfs/inode.h"

struct listing_entry {
        guint32 name; /* offset in `names` */
        guint32 type; /* S_IFMT bits, 0: not known */
        guint64 inode;
};

struct listing {
        struct shelf_item item;
        GArray *entries; /* struct listing_entry, by name; "." and ".." are not in it */
        GString *names;  /* each with its NUL */
};

/* NULL with errno. The caller has one reference. */
struct listing *listing_read(InodeTable *t, Inode *directory);
void listing_free(struct shelf_item *item);

static inline const char *listing_name(const struct listing *l, const struct listing_entry *e)
{
        return l->names->str + e->name;
}
