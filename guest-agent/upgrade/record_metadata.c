/* guest-agent/upgrade/record_metadata.c - metadata in a generation's record: how a directory was before. */
#include "guest-agent/upgrade/record_metadata.h"

#include <string.h>

Metadata *metadata_from_record(const Moult__Record__Metadata *r)
{
        Metadata *m = metadata_new();
        m->mode = (mode_t)r->mode;
        m->uid = r->uid;
        m->gid = r->gid;
        m->mtime = (struct timespec){(time_t)r->mtime_s, (long)r->mtime_ns};
        for (size_t i = 0; i < r->n_xattrs; i++)
                metadata_add_xattr(m, (const char *)r->xattrs[i]->name.data, r->xattrs[i]->name.len,
                                   r->xattrs[i]->value.data, r->xattrs[i]->value.len);
        return m;
}

static ProtobufCBinaryData binary_copy(const void *data, gsize len)
{
        return (ProtobufCBinaryData){.len = len, .data = len > 0 ? g_memdup2(data, len) : NULL};
}

/* Memory of protobuf-c's default allocator is malloc's, as GLib's is. */
Moult__Record__Metadata *metadata_to_record(const Metadata *m)
{
        Moult__Record__Metadata *r = g_new(Moult__Record__Metadata, 1);
        moult__record__metadata__init(r);
        r->mode = (guint32)m->mode;
        r->uid = m->uid;
        r->gid = m->gid;
        r->mtime_s = m->mtime.tv_sec;
        r->mtime_ns = (guint32)m->mtime.tv_nsec;
        if (m->xattrs->len > 0)
                r->xattrs = g_new0(Moult__Record__Xattr *, m->xattrs->len);
        for (guint i = 0; i < m->xattrs->len; i++) {
                const struct metadata_xattr *x = &g_array_index(m->xattrs, struct metadata_xattr, i);
                gsize len;
                const void *value = g_bytes_get_data(x->value, &len);
                r->xattrs[i] = g_new(Moult__Record__Xattr, 1);
                moult__record__xattr__init(r->xattrs[i]);
                r->xattrs[i]->name = binary_copy(x->name, strlen(x->name));
                r->xattrs[i]->value = binary_copy(value, len);
                r->n_xattrs++;
        }
        return r;
}
