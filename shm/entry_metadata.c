/* shm/entry_metadata.c - the owner, mode, times and attributes that an entry of the list asks for. */
#include "shm/entry_metadata.h"

Metadata *metadata_from_entry(const Moult__Entry *e)
{
        Metadata *m = metadata_new();
        m->mode = (mode_t)(e->mode & 07777);
        m->uid = e->uid;
        m->gid = e->gid;
        m->mtime = (struct timespec){(time_t)e->mtime_s, (long)e->mtime_ns};
        for (size_t i = 0; i < e->n_xattrs; i++)
                metadata_add_xattr(m, (const char *)e->xattrs[i]->name.data, e->xattrs[i]->name.len,
                                   e->xattrs[i]->value.data, e->xattrs[i]->value.len);
        metadata_sort(m);
        return m;
}
