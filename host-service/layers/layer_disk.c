/* host-service/layers/layer_disk.c - a Disk behind a reader's and a writer's operations. */
#include "host-service/layers/layer_disk.h"

static const LayerRangeKind kinds[] = {
        [DISK_DATA] = LAYER_RANGE_DATA,
        [DISK_ZERO] = LAYER_RANGE_ZERO,
        [DISK_ABSENT] = LAYER_RANGE_ABSENT,
};

/* The first range of @map that does not end before @offset. */
static guint find(const GArray *map, uint64_t offset)
{
        guint low = 0, high = map->len;

        while (low < high) {
                guint middle = low + (high - low) / 2;
                const struct disk_range *r = &g_array_index(map, struct disk_range, middle);

                if (r->offset + r->length <= offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static gboolean reader_map(struct layer_reader *reader, uint64_t offset, uint64_t len, GArray *ranges,
                           GCancellable *cancellable, GError **error)
{
        struct layer_disk_reader *r = (struct layer_disk_reader *)reader;

        if (!r->map)
                r->map = disk_map(r->disk, r->depth, cancellable, error);
        if (!r->map)
                return FALSE;
        for (guint i = find(r->map, offset); i < r->map->len; i++) {
                const struct disk_range *d = &g_array_index(r->map, struct disk_range, i);
                uint64_t from = MAX(d->offset, offset);
                struct layer_range range = {from, d->offset + d->length - from, kinds[d->kind]};

                if (from >= offset + len)
                        break;
                g_array_append_val(ranges, range);
        }
        return TRUE;
}

static gboolean reader_read(struct layer_reader *reader, uint64_t offset, void *buf, size_t len,
                            GCancellable *cancellable, GError **error)
{
        return disk_read(((struct layer_disk_reader *)reader)->disk, offset, buf, len, cancellable, error);
}

static const struct layer_reader_ops reader_ops = {reader_map, reader_read};

void layer_disk_reader_init(struct layer_disk_reader *r, Disk *d, guint depth)
{
        *r = (struct layer_disk_reader){.reader = {&reader_ops, disk_size(d)}, .disk = d, .depth = depth};
}

void layer_disk_reader_clear(struct layer_disk_reader *r)
{
        g_clear_pointer(&r->map, g_array_unref);
}

static gboolean writer_write(struct layer_writer *writer, uint64_t offset, const void *data, size_t len,
                             GCancellable *cancellable, GError **error)
{
        return disk_write(((struct layer_disk_writer *)writer)->disk, offset, data, len, cancellable, error);
}

static gboolean writer_zero(struct layer_writer *writer, uint64_t offset, uint64_t len,
                            GCancellable *cancellable, GError **error)
{
        return disk_zero(((struct layer_disk_writer *)writer)->disk, offset, len, cancellable, error);
}

static const struct layer_writer_ops writer_ops = {writer_write, writer_zero};

void layer_disk_writer_init(struct layer_disk_writer *w, Disk *d)
{
        *w = (struct layer_disk_writer){.writer = {&writer_ops, disk_size(d)}, .disk = d};
}
