/* tests/sim/disk.c - a disk that forgets, as an SQLite VFS. */
#include "tests/sim/disk.h"

#include <sqlite3.h>
#include <string.h>

#define SECTOR       512u
#define FLAKY_ONE_IN 40u
#define REGIONS      4u /* of shared memory: one each 32 KiB of WAL index */

struct range {
        gsize at, len;
};

struct file {
        char *name;
        GByteArray *seen, *kept; /* in the page cache; on the platter */
        GArray *dirty;           /* of struct range: differ, maybe */
        gpointer regions[REGIONS];
        guint opens;
};

struct Disk {
        World *w;
        gboolean (*effect)(gpointer user);
        gpointer user;
        sqlite3_vfs vfs;
        char name[32];
        GPtrArray *files;  /* of struct file, owned */
        GPtrArray *frozen; /* likewise; NULL: the host lives */
        DiskHealth health;
};

typedef struct {
        sqlite3_file base;
        Disk *disk;
        struct file *file;
} Open;

static void file_free(gpointer p)
{
        struct file *f = p;

        for (guint i = 0; i < REGIONS; i++)
                g_free(f->regions[i]);
        g_free(f->name);
        g_byte_array_unref(f->seen);
        g_byte_array_unref(f->kept);
        g_array_unref(f->dirty);
        g_free(f);
}

static struct file *file_new(const char *name)
{
        struct file *f = g_new0(struct file, 1);

        f->name = g_strdup(name);
        f->seen = g_byte_array_new();
        f->kept = g_byte_array_new();
        f->dirty = g_array_new(FALSE, FALSE, sizeof(struct range));
        return f;
}

static struct file *find(const Disk *d, const char *name)
{
        for (guint i = 0; name && i < d->files->len; i++)
                if (g_str_equal(((struct file *)d->files->pdata[i])->name, name))
                        return d->files->pdata[i];
        return NULL;
}

/* --- what a crash leaves --- */

static void set_length(GByteArray *a, gsize len)
{
        guint old = a->len;

        g_byte_array_set_size(a, (guint)len);
        if (len > old)
                memset(a->data + old, 0, len - old);
}

static void copy_range(GByteArray *to, const GByteArray *from, gsize at, gsize len)
{
        if (at >= from->len)
                return;
        len = MIN(len, from->len - at);
        if (to->len < at + len)
                set_length(to, at + len);
        memcpy(to->data + at, from->data + at, len);
}

static void sync_file(struct file *f)
{
        for (guint i = 0; i < f->dirty->len; i++) {
                const struct range *r = &g_array_index(f->dirty, struct range, i);

                copy_range(f->kept, f->seen, r->at, r->len);
        }
        if (f->kept->len != f->seen->len)
                set_length(f->kept, f->seen->len);
        g_array_set_size(f->dirty, 0);
}

/* Each unsynced write went whole, not at all, or sector by sector. */
static GByteArray *left_by_power_cut(Disk *d, const struct file *f)
{
        GByteArray *left = g_byte_array_sized_new(f->seen->len);

        g_byte_array_append(left, f->kept->data, f->kept->len);
        for (guint i = 0; i < f->dirty->len; i++) {
                const struct range *r = &g_array_index(f->dirty, struct range, i);
                guint fate = world_random(d->w, 3);

                if (fate == 0)
                        continue;
                for (gsize at = r->at; at < r->at + r->len; at += SECTOR)
                        if (fate == 1 || world_random(d->w, 2))
                                copy_range(left, f->seen, at, MIN(SECTOR, r->at + r->len - at));
        }
        return left;
}

void disk_freeze(Disk *d, gboolean power_cut)
{
        g_assert(!d->frozen);
        d->frozen = g_ptr_array_new_with_free_func(file_free);
        for (guint i = 0; i < d->files->len; i++) {
                const struct file *f = d->files->pdata[i];
                struct file *copy = file_new(f->name);

                g_byte_array_unref(copy->kept);
                if (power_cut) {
                        copy->kept = left_by_power_cut(d, f);
                        g_byte_array_append(copy->seen, copy->kept->data, copy->kept->len);
                } else {
                        copy->kept = g_byte_array_new();
                        g_byte_array_append(copy->kept, f->kept->data, f->kept->len);
                        g_byte_array_append(copy->seen, f->seen->data, f->seen->len);
                        g_array_append_vals(copy->dirty, f->dirty->data, f->dirty->len);
                }
                g_ptr_array_add(d->frozen, copy);
        }
}

void disk_thaw(Disk *d)
{
        g_ptr_array_unref(d->files);
        d->files = g_steal_pointer(&d->frozen);
}

/* --- files of SQLite --- */

static gboolean is_alive(const Disk *d)
{
        return d->effect(d->user) && !d->frozen;
}

static int io_close(sqlite3_file *base)
{
        ((Open *)base)->file->opens--;
        return SQLITE_OK;
}

static int io_read(sqlite3_file *base, void *buf, int len, sqlite3_int64 at)
{
        const GByteArray *a = ((Open *)base)->file->seen;
        gsize have = (gsize)at < a->len ? MIN((gsize)len, a->len - (gsize)at) : 0;

        if (have > 0)
                memcpy(buf, a->data + at, have);
        if (have == (gsize)len)
                return SQLITE_OK;
        memset((char *)buf + have, 0, (gsize)len - have);
        return SQLITE_IOERR_SHORT_READ;
}

static int io_write(sqlite3_file *base, const void *buf, int len, sqlite3_int64 at)
{
        Open *o = (Open *)base;
        struct range r = {(gsize)at, (gsize)len};

        is_alive(o->disk);
        if (o->disk->health == DISK_NO_WRITES ||
            (o->disk->health == DISK_FLAKY && world_random(o->disk->w, FLAKY_ONE_IN) == 0))
                return SQLITE_IOERR_WRITE;
        if (o->disk->health == DISK_FULL && r.at + r.len > o->file->seen->len)
                return SQLITE_FULL;
        if (o->file->seen->len < r.at + r.len)
                set_length(o->file->seen, r.at + r.len);
        memcpy(o->file->seen->data + r.at, buf, r.len);
        g_array_append_val(o->file->dirty, r);
        return SQLITE_OK;
}

static int io_truncate(sqlite3_file *base, sqlite3_int64 len)
{
        Open *o = (Open *)base;

        if ((gsize)len < o->file->seen->len)
                set_length(o->file->seen, (gsize)len);
        return SQLITE_OK;
}

static int io_sync(sqlite3_file *base, int flags)
{
        Open *o = (Open *)base;
        gboolean alive = is_alive(o->disk);

        world_trace(o->disk->w, "disk sync %s %u of %u%s", o->file->name, o->file->dirty->len,
                    o->file->seen->len, alive ? "" : " by the dead");
        if (o->disk->health == DISK_NO_SYNCS) {
                /* As Linux does it: the next sync says that all is well, and these writes are in the air. */
                if (world_random(o->disk->w, 2))
                        g_array_set_size(o->file->dirty, 0);
                return SQLITE_IOERR_FSYNC;
        }
        sync_file(o->file);
        return SQLITE_OK;
}

static int io_size(sqlite3_file *base, sqlite3_int64 *ret)
{
        *ret = ((Open *)base)->file->seen->len;
        return SQLITE_OK;
}

static int io_lock(sqlite3_file *base, int lock)
{
        return SQLITE_OK; /* there is one connection */
}

static int io_is_reserved(sqlite3_file *base, int *ret)
{
        *ret = 0;
        return SQLITE_OK;
}

static int io_control(sqlite3_file *base, int op, void *arg)
{
        return SQLITE_NOTFOUND;
}

static int io_sector_size(sqlite3_file *base)
{
        return SECTOR;
}

static int io_characteristics(sqlite3_file *base)
{
        return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int io_shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **ret)
{
        struct file *f = ((Open *)base)->file;

        *ret = NULL;
        if (region >= (int)REGIONS)
                return SQLITE_IOERR_SHMSIZE;
        if (!f->regions[region] && extend)
                f->regions[region] = g_malloc0((gsize)size);
        *ret = f->regions[region];
        return SQLITE_OK;
}

static int io_shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
        return SQLITE_OK;
}

static void io_shm_barrier(sqlite3_file *base)
{
}

static int io_shm_unmap(sqlite3_file *base, int remove)
{
        struct file *f = ((Open *)base)->file;

        for (guint i = 0; i < REGIONS; i++)
                g_clear_pointer(&f->regions[i], g_free);
        return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = io_close,
        .xRead = io_read,
        .xWrite = io_write,
        .xTruncate = io_truncate,
        .xSync = io_sync,
        .xFileSize = io_size,
        .xLock = io_lock,
        .xUnlock = io_lock,
        .xCheckReservedLock = io_is_reserved,
        .xFileControl = io_control,
        .xSectorSize = io_sector_size,
        .xDeviceCharacteristics = io_characteristics,
        .xShmMap = io_shm_map,
        .xShmLock = io_shm_lock,
        .xShmBarrier = io_shm_barrier,
        .xShmUnmap = io_shm_unmap,
};

/* --- the VFS --- */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
        Disk *d = vfs->pAppData;
        Open *o = (Open *)base;
        struct file *f = find(d, name);

        base->pMethods = NULL;
        if (!f && !(flags & SQLITE_OPEN_CREATE))
                return SQLITE_CANTOPEN;
        if (!f) {
                f = file_new(name ? name : "temporary");
                g_ptr_array_add(d->files, f);
        }
        f->opens++;
        o->disk = d;
        o->file = f;
        base->pMethods = &methods;
        if (ret_flags)
                *ret_flags = flags;
        return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
        Disk *d = vfs->pAppData;
        struct file *f = find(d, name);

        if (!f)
                return SQLITE_IOERR_DELETE_NOENT;
        is_alive(d);
        g_ptr_array_remove(d->files, f);
        return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
        const struct file *f = find(vfs->pAppData, name);

        *ret = f && (flags != SQLITE_ACCESS_EXISTS || f->seen->len > 0);
        return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int len, char *ret)
{
        sqlite3_snprintf(len, ret, "%s", name);
        return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int len, char *ret)
{
        memset(ret, 7, (gsize)len); /* decides nothing that is seen */
        return len;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
        return us;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
        Disk *d = vfs->pAppData;

        *ret = G_GINT64_CONSTANT(210866760000000) + world_wall_us(d->w) / 1000; /* since noon of day 0 */
        return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int len, char *ret)
{
        return 0;
}

Disk *disk_new(World *w, gboolean (*effect)(gpointer user), gpointer user)
{
        Disk *d = g_new0(Disk, 1);

        d->w = w;
        d->effect = effect;
        d->user = user;
        d->files = g_ptr_array_new_with_free_func(file_free);
        g_snprintf(d->name, sizeof d->name, "sim-%p", (void *)d);
        d->vfs = (sqlite3_vfs){
                .iVersion = 2,
                .szOsFile = sizeof(Open),
                .mxPathname = 64,
                .zName = d->name,
                .pAppData = d,
                .xOpen = vfs_open,
                .xDelete = vfs_delete,
                .xAccess = vfs_access,
                .xFullPathname = vfs_full_path,
                .xRandomness = vfs_randomness,
                .xSleep = vfs_sleep,
                .xGetLastError = vfs_last_error,
                .xCurrentTimeInt64 = vfs_time,
        };
        sqlite3_vfs_register(&d->vfs, 0);
        return d;
}

void disk_free(Disk *d)
{
        if (!d)
                return;
        sqlite3_vfs_unregister(&d->vfs);
        for (guint i = 0; i < d->files->len; i++)
                g_assert(((struct file *)d->files->pdata[i])->opens == 0);
        g_ptr_array_unref(d->files);
        g_clear_pointer(&d->frozen, g_ptr_array_unref);
        g_free(d);
}

const char *disk_vfs(const Disk *d)
{
        return d->name;
}

void disk_put(Disk *d, const char *name, const void *data, gsize len)
{
        struct file *f = file_new(name);

        g_byte_array_append(f->seen, data, (guint)len);
        g_byte_array_append(f->kept, data, (guint)len);
        g_ptr_array_add(d->files, f);
}

GBytes *disk_get(const Disk *d, const char *name)
{
        const struct file *f = find(d, name);

        return f ? g_bytes_new(f->seen->data, f->seen->len) : NULL;
}

void disk_set_health(Disk *d, DiskHealth health)
{
        d->health = health;
}
