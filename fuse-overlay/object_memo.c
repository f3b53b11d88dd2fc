/* fuse-overlay/object_memo.c - which objects are known to be whole. */
#include "fuse-overlay/object_memo.h"

struct known {
        dev_t dev;
        ino_t inode;
        off_t size;
        struct timespec changed;
};

struct ObjectMemo {
        GMutex lock;
        GHashTable *known; /* path -> struct known */
};

ObjectMemo *object_memo_new(void)
{
        ObjectMemo *m = g_new0(ObjectMemo, 1);
        g_mutex_init(&m->lock);
        m->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        return m;
}

void object_memo_free(ObjectMemo *m)
{
        if (m == NULL)
                return;
        g_hash_table_unref(m->known);
        g_mutex_clear(&m->lock);
        g_free(m);
}

void object_memo_note(ObjectMemo *m, const char *path, const struct stat *st)
{
        struct known k = {st->st_dev, st->st_ino, st->st_size, st->st_ctim};
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&m->lock);
        g_hash_table_insert(m->known, g_strdup(path), g_memdup2(&k, sizeof k));
}

gboolean object_memo_knows(ObjectMemo *m, const char *path, const struct stat *st)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&m->lock);
        const struct known *k = g_hash_table_lookup(m->known, path);
        return k != NULL && k->dev == st->st_dev && k->inode == st->st_ino && k->size == st->st_size &&
               k->changed.tv_sec == st->st_ctim.tv_sec && k->changed.tv_nsec == st->st_ctim.tv_nsec;
}

void object_memo_clear(ObjectMemo *m)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&m->lock);
        g_hash_table_remove_all(m->known);
}
