/* fuse-overlay/targetfs/content.c - open files, by inode. */
#include "fuse-overlay/targetfs/content.h"

#include <errno.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/targetfs/read_deadline.h"

/* Files of the original that are kept open. Closing and opening one again costs about as much as a page that
 * is not in the cache, so there is little to be had from more. */
#define OPEN_ORIGINALS_MAX 1024u

struct Contents {
        ObjectStore *store;
        SourcePack *pack;
        Shelf *shelf;
};

static void content_free(struct shelf_item *item)
{
        struct content *c = (struct content *)item;
        if (c->fd >= 0)
                close(c->fd);
        verified_file_close(c->verified);
        g_free(c);
}

Contents *contents_new(ObjectStore *store, SourcePack *pack)
{
        Contents *c = g_new0(Contents, 1);
        c->store = store;
        c->pack = pack;
        c->shelf = shelf_new(OPEN_ORIGINALS_MAX, content_free);
        return c;
}

void contents_free(Contents *c)
{
        if (c == NULL)
                return;
        shelf_free(c->shelf);
        g_free(c);
}

static struct content *content_new(int fd, VerifiedFile *verified)
{
        struct content *c = g_new0(struct content, 1);
        c->item.refs = 1;
        c->fd = fd;
        c->verified = verified;
        return c;
}

static struct content *open_object(Contents *c, InodeTable *t, Inode *i, GError **error)
{
        int fd = object_store_open_object(c->store, inode_entry(t, i), error);
        return fd >= 0 ? content_new(fd, NULL) : NULL;
}

/* The object, else the file in the pack. */
static struct content *open_targets(Contents *c, InodeTable *t, Inode *i, GError **error)
{
        g_autoptr(GError) local = NULL;
        struct content *object = open_object(c, t, i, &local);
        if (object != NULL)
                return object;
        if (c->pack == NULL || !g_error_matches(local, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&local));
                return NULL;
        }
        VerifiedFile *verified = source_pack_open(c->pack, inode_entry(t, i), error);
        return verified != NULL ? content_new(-1, verified) : NULL;
}

static struct content *open_original(InodeTable *t, Inode *i, GError **error)
{
        int fd = inode_open_original(t, i, /* flags= */ 0);
        if (fd < 0) {
                moult_error_errno(error, errno, "opening a file of the original");
                return NULL;
        }
        return content_new(fd, NULL);
}

void content_pin(Contents *c, InodeTable *t, Inode *i)
{
        if (i->content != NULL || !inode_is_targets_file(t, i))
                return;
        struct content *content = open_object(c, t, i, NULL);
        if (content != NULL)
                shelf_unref(c->shelf, shelf_put(c->shelf, &i->content, &content->item, /* pinned= */ TRUE));
}

struct content *content_get(Contents *c, InodeTable *t, Inode *i, GError **error)
{
        struct content *have = (struct content *)shelf_get(c->shelf, &i->content);
        gboolean ours = inode_is_targets_file(t, i);

        if (have != NULL && have->verified == NULL)
                return have;
        if (have != NULL) {
                /* Has it become an object meanwhile? */
                struct content *object = open_object(c, t, i, NULL);
                if (object == NULL)
                        return have;
                content_unref(c, have);
                return (struct content *)shelf_replace(c->shelf, &i->content, &object->item,
                                                       /* pinned= */ TRUE);
        }
        struct content *content = ours ? open_targets(c, t, i, error) : open_original(t, i, error);
        if (content == NULL)
                return NULL;
        return (struct content *)shelf_put(c->shelf, &i->content, &content->item, /* pinned= */ ours);
}

static gssize read_fd(int fd, void *buf, gsize len, guint64 offset, GError **error)
{
        gsize done = 0;

        while (done < len) {
                gssize n = pread(fd, (guint8 *)buf + done, len - done, (off_t)(offset + done));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        moult_error_errno(error, errno, "reading a file of the merge");
                        return -1;
                }
                if (n == 0)
                        break;
                done += (gsize)n;
        }
        return (gssize)done;
}

gssize content_read(struct content *content, void *buf, gsize len, guint64 offset, GError **error)
{
        gsize done = 0;

        if (content->verified == NULL)
                return read_fd(content->fd, buf, len, offset, error);
        read_deadline_begin();
        return verified_file_read(content->verified, offset, buf, len, &done, NULL, error) ? (gssize)done
                                                                                           : -1;
}

gssize content_read_object(Contents *c, InodeTable *t, Inode *i, void *buf, gsize len, guint64 offset)
{
        scoped_fd int fd = object_store_open_object(c->store, inode_entry(t, i), NULL);
        return fd >= 0 ? read_fd(fd, buf, len, offset, NULL) : -1;
}

void content_unref(Contents *c, struct content *content)
{
        shelf_unref(c->shelf, &content->item);
}

void content_drop(Contents *c, Inode *i)
{
        shelf_drop(c->shelf, &i->content);
}
