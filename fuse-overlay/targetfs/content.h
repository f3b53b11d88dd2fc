/* fuse-overlay/targetfs/content.h - the bytes of the merge's regular files, from wherever they are.
 *
 * Theory of operation: the kernel asks for bytes of an inode and never says that it was opened (that would
 * cost a round trip for each open). So files are opened here when they are first read, and kept open on a
 * shelf. An object of the store is opened as soon as the kernel knows its file, and stays open until the
 * kernel forgets it: somebody may have it open on a merge that was replaced long ago, whose objects the store
 * has collected since.
 *
 * In instant mode a file whose object is not there yet is read out of the release's pack, until the object
 * is. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/object_store.h"
#include "fuse-overlay/targetfs/inode.h"
#include "fuse-overlay/targetfs/source_pack.h"

typedef struct Contents Contents;

struct content {
        struct shelf_item item;
        int fd;                 /* O_RDONLY; -1: `verified` */
        VerifiedFile *verified; /* of the pack */
};

/* @store and @pack (NULL: none) stay the caller's. */
Contents *contents_new(ObjectStore *store, SourcePack *pack);
void contents_free(Contents *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Contents, contents_free)

/* A file of the target: its object is opened, if it is there. */
void content_pin(Contents *c, InodeTable *t, Inode *i);
/* A reference, or NULL with @error. Any thread. */
struct content *content_get(Contents *c, InodeTable *t, Inode *i, GError **error);
void content_unref(Contents *c, struct content *content);
/* At most @len bytes at @offset, fewer at the end of the file; waits for them. -1 with @error. */
gssize content_read(struct content *content, void *buf, gsize len, guint64 offset, GError **error);
/* The same from the store, where the file may have come to be since its content was asked for; -1: it has
 * not. Any thread. */
gssize content_read_object(Contents *c, InodeTable *t, Inode *i, void *buf, gsize len, guint64 offset);
/* The inode goes away. */
void content_drop(Contents *c, Inode *i);
