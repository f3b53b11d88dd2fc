/* shm/pack_source.c - where the bytes of a pack come from: a file, and the ladder over other sources. */
#include "shm/pack_source.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/channel.pb-c.h"

void pack_source_init(PackSource *self, const struct pack_source_ops *ops, uint64_t size)
{
        self->ops = ops;
        self->refs = 1;
        self->size = size;
}

PackSource *pack_source_ref(PackSource *self)
{
        g_atomic_int_inc(&self->refs);
        return self;
}

void pack_source_unref(PackSource *self)
{
        if (self != NULL && g_atomic_int_dec_and_test(&self->refs))
                self->ops->free(self);
}

gboolean pack_source_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *cancellable,
                          GError **error)
{
        if (g_cancellable_set_error_if_cancelled(cancellable, error))
                return FALSE;
        if (offset > self->size || len > self->size - offset) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "reading %zu bytes at %" G_GUINT64_FORMAT
                            " of the pack (%s): it ends at %" G_GUINT64_FORMAT,
                            len, offset, self->ops->name, self->size);
                return FALSE;
        }
        return self->ops->read(self, offset, buf, len, cancellable, error);
}

/* --- a file --- */

typedef struct {
        PackSource base;
        int fd;
} FileSource;

static gboolean file_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *cancellable,
                          GError **error)
{
        return fd_pread_all(((FileSource *)self)->fd, buf, len, (off_t)offset, "the pack", error);
}

static void file_free(PackSource *self)
{
        FileSource *f = (FileSource *)self;
        close(f->fd);
        g_free(f);
}

static const struct pack_source_ops file_ops = {
        .name = "file",
        .kind = MOULT__SOURCE_KIND__SOURCE_FILE,
        .read = file_read,
        .free = file_free,
};

PackSource *pack_source_file_new(int fd, GError **error)
{
        struct stat st;
        scoped_fd int owned = fd;
        if (fstat(owned, &st) < 0) {
                moult_error_errno(error, errno, "looking at the pack");
                return NULL;
        }
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "opening the pack: it is not a regular file");
                return NULL;
        }
        FileSource *f = g_new0(FileSource, 1);
        pack_source_init(&f->base, &file_ops, (uint64_t)st.st_size);
        f->fd = g_steal_fd(&owned);
        return &f->base;
}

/* --- the ladder --- */

typedef struct {
        PackSource base;
        pack_source_next_func open_next;
        gpointer user;
        GMutex lock;      /* protects the two below; held while @open_next runs */
        PackSource *rung; /* NULL: none yet, or the last one is gone */
        gboolean damaged; /* the last one gave wrong bytes */
        unsigned changes;
} FallbackSource;

/* A reference to the rung in use; @gone is what the caller found broken (not owned, only compared). */
static PackSource *ladder_rung(FallbackSource *l, const PackSource *gone, GError **error)
{
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        if (l->rung != NULL && l->rung == gone) {
                g_clear_pointer(&l->rung, pack_source_unref);
                l->changes++;
        }
        if (l->rung == NULL) {
                l->rung = l->open_next(l->user, l->damaged, error);
                l->damaged = FALSE;
        }
        return l->rung != NULL ? pack_source_ref(l->rung) : NULL;
}

static gboolean ladder_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                            GCancellable *cancellable, GError **error)
{
        FallbackSource *l = (FallbackSource *)self;
        g_autoptr(PackSource) broken = NULL; /* kept: while we hold it no other rung can have its address */
        g_autoptr(GError) why = NULL;

        for (;;) {
                g_autoptr(GError) none_left = NULL;
                g_autoptr(PackSource) rung = ladder_rung(l, broken, &none_left);
                if (rung == NULL) {
                        if (why != NULL)
                                g_prefix_error(&none_left, "%s; then ", why->message);
                        g_propagate_error(error, g_steal_pointer(&none_left));
                        return FALSE;
                }
                g_clear_error(&why);
                if (pack_source_read(rung, offset, buf, len, cancellable, &why))
                        return TRUE;
                if (g_cancellable_is_cancelled(cancellable)) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                g_clear_pointer(&broken, pack_source_unref);
                broken = g_steal_pointer(&rung);
        }
}

static unsigned ladder_rung_number(PackSource *self)
{
        FallbackSource *l = (FallbackSource *)self;
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        return l->changes;
}

static gboolean ladder_distrust(PackSource *self, unsigned rung)
{
        FallbackSource *l = (FallbackSource *)self;
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        if (l->changes != rung)
                return TRUE;
        if (l->rung == NULL || (l->rung->ops->kind != MOULT__SOURCE_KIND__SOURCE_IVSHMEM &&
                                l->rung->ops->kind != MOULT__SOURCE_KIND__SOURCE_PMEM))
                return FALSE;
        g_clear_pointer(&l->rung, pack_source_unref);
        l->damaged = TRUE;
        l->changes++;
        return TRUE;
}

static void ladder_free(PackSource *self)
{
        FallbackSource *l = (FallbackSource *)self;
        pack_source_unref(l->rung);
        g_mutex_clear(&l->lock);
        g_free(l);
}

static const struct pack_source_ops ladder_ops = {
        .name = "ladder",
        .kind = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED,
        .read = ladder_read,
        .rung = ladder_rung_number,
        .distrust = ladder_distrust,
        .free = ladder_free,
};

PackSource *pack_source_ladder_new(uint64_t size, pack_source_next_func open_next, gpointer user)
{
        FallbackSource *l = g_new0(FallbackSource, 1);
        pack_source_init(&l->base, &ladder_ops, size);
        g_mutex_init(&l->lock);
        l->open_next = open_next;
        l->user = user;
        return &l->base;
}

int pack_source_ladder_kind(PackSource *ladder)
{
        FallbackSource *l = (FallbackSource *)ladder;
        g_assert(ladder->ops == &ladder_ops);
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        return l->rung != NULL ? l->rung->ops->kind : MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
}

unsigned pack_source_ladder_changes(PackSource *ladder)
{
        FallbackSource *l = (FallbackSource *)ladder;
        g_assert(ladder->ops == &ladder_ops);
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        return l->changes;
}

unsigned pack_source_rung(PackSource *self)
{
        return self->ops->rung != NULL ? self->ops->rung(self) : 0;
}

gboolean pack_source_distrust(PackSource *self, unsigned rung)
{
        return self->ops->distrust != NULL && self->ops->distrust(self, rung);
}

int pack_source_kind(PackSource *self)
{
        return self->ops == &ladder_ops ? pack_source_ladder_kind(self) : self->ops->kind;
}

const char *pack_source_name(PackSource *self)
{
        if (self->ops != &ladder_ops)
                return self->ops->name;
        FallbackSource *l = (FallbackSource *)self;
        g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&l->lock);
        return l->rung != NULL ? l->rung->ops->name : self->ops->name;
}
