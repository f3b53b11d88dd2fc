/* shm/entry_metadata.c - the type, owner, mode, times and attributes that an entry of the list asks for. */
#include "shm/entry_metadata.h"

#include <sys/stat.h>

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

Moult__EntryType entry_type_of_mode(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFDIR:
                return MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
        case S_IFLNK:
                return MOULT__ENTRY_TYPE__ENTRY_SYMLINK;
        case S_IFCHR:
                return MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE;
        case S_IFBLK:
                return MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE;
        case S_IFIFO:
                return MOULT__ENTRY_TYPE__ENTRY_FIFO;
        default:
                return MOULT__ENTRY_TYPE__ENTRY_FILE;
        }
}
