/* fuse-overlay/targetfs/source_counted.c - a pack source that counts what is read through another one. */
#include "fuse-overlay/targetfs/source_counted.h"

struct counted {
        PackSource base;
        struct pack_source_ops ops; /* of its own: name and kind are those of `inner` */
        PackSource *inner;
        gsize *bytes;
};

static gboolean counted_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                             GCancellable *cancellable, GError **error)
{
        struct counted *c = (struct counted *)self;
        if (!pack_source_read(c->inner, offset, buf, len, cancellable, error))
                return FALSE;
        g_atomic_pointer_add(c->bytes, (gssize)len);
        return TRUE;
}

static void counted_free(PackSource *self)
{
        struct counted *c = (struct counted *)self;
        pack_source_unref(c->inner);
        g_free(c);
}

PackSource *source_counted_new(PackSource *inner, gsize *bytes)
{
        struct counted *c = g_new0(struct counted, 1);
        c->ops = (struct pack_source_ops){.name = inner->ops->name,
                                          .kind = inner->ops->kind,
                                          .read = counted_read,
                                          .free = counted_free};
        pack_source_init(&c->base, &c->ops, inner->size);
        c->inner = inner;
        c->bytes = bytes;
        return &c->base;
}
