/* host-service/disk/disk_map.c - what the newest images of a chain have: asked of qemu-nbd, and walked over.
 *
 * Two answers are laid over each other: how deep in the chain a range is allocated (qemu:allocation-depth: 0
 * nowhere, 1 in the newest image), and whether it reads as zeros (base:allocation). */
#include <errno.h>
#include <string.h>

#include "common/error.h"
#include "host-service/disk/disk_private.h"

/* Of the disk in one request: 1 GiB, so that an answer comes in time. */
#define ASK_BYTES (1u << 30)

struct extent {
        guint32 length, flags;
};

struct answer {
        GArray *allocation, *depth; /* struct extent */
};

static void answer_clear(struct answer *a)
{
        g_array_unref(a->allocation);
        g_array_unref(a->depth);
}
#define scoped_answer __attribute__((cleanup(answer_clear)))

static int take_extents(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                        int *error)
{
        struct answer *a = data;
        GArray *to = strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 ? a->allocation : a->depth;

        for (size_t i = 0; i + 1 < n; i += 2)
                g_array_append_val(to, ((struct extent){entries[i], entries[i + 1]}));
        return 0;
}

void disk_map_append(GArray *map, guint64 offset, guint64 length, enum disk_kind kind)
{
        struct disk_range *last = map->len > 0 ? &g_array_index(map, struct disk_range, map->len - 1) : NULL;
        const struct disk_range r = {offset, length, kind};

        if (last && last->kind == kind && last->offset + last->length == offset)
                last->length += length;
        else
                g_array_append_val(map, r);
}

static enum disk_kind kind_of(guint32 allocation, guint32 depth, guint wanted)
{
        if (depth == 0 || depth > wanted)
                return DISK_ABSENT;
        return allocation & LIBNBD_STATE_ZERO ? DISK_ZERO : DISK_DATA;
}

/* Appends what both answers tell about; returns how far that is. */
static guint64 lay_over(const struct answer *a, guint64 offset, guint64 end, guint wanted, GArray *map)
{
        guint64 at = offset, end_allocation = offset, end_depth = offset;

        for (guint i = 0, j = 0; at < end; at = MIN(MIN(end_allocation, end_depth), end)) {
                while (at >= end_allocation && i < a->allocation->len)
                        end_allocation += g_array_index(a->allocation, struct extent, i++).length;
                while (at >= end_depth && j < a->depth->len)
                        end_depth += g_array_index(a->depth, struct extent, j++).length;
                if (at >= end_allocation || at >= end_depth)
                        break;
                disk_map_append(map, at, MIN(MIN(end_allocation, end_depth), end) - at,
                                kind_of(g_array_index(a->allocation, struct extent, i - 1).flags,
                                        g_array_index(a->depth, struct extent, j - 1).flags, wanted));
        }
        return at;
}

static gboolean ask(struct disk_wait *w, guint64 offset, guint64 len, struct answer *a, GError **error)
{
        Disk *d = w->disks[0];
        struct disk_reply reply;
        nbd_extent_callback extents = {.callback = take_extents, .user_data = a};

        g_array_set_size(a->allocation, 0);
        g_array_set_size(a->depth, 0);
        gint64 cookie = nbd_aio_block_status(d->nbd, len, offset, extents, disk_reply_callback(&reply), 0);
        if (!disk_sent(d, cookie, error, "mapping"))
                return FALSE;
        while (!reply.done)
                if (!disk_wait_turn(w, -1, "mapping", error))
                        return FALSE;
        return reply.errnum == 0 || disk_fail_reply(d, reply.errnum, error, "mapping");
}

static gboolean too_many(const Disk *d, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s is in more than %u pieces; make a new file of it (qemu-img convert) to read it",
                    d->name, DISK_RANGES_MAX);
        return FALSE;
}

static gboolean map_all(struct disk_wait *w, guint depth, GArray *map, GError **error)
{
        Disk *d = w->disks[0];
        scoped_answer struct answer a = {g_array_new(FALSE, FALSE, sizeof(struct extent)),
                                         g_array_new(FALSE, FALSE, sizeof(struct extent))};

        for (guint64 at = 0, next; at < d->size; at = next) {
                guint64 len = MIN(d->size - at, ASK_BYTES);

                if (!ask(w, at, len, &a, error))
                        return FALSE;
                next = lay_over(&a, at, at + len, depth, map);
                if (next == at)
                        return disk_fail_reply(d, EPROTO, error, "mapping");
                if (map->len > DISK_RANGES_MAX)
                        return too_many(d, error);
        }
        return TRUE;
}

GArray *disk_map(Disk *d, guint depth, GCancellable *cancellable, GError **error)
{
        g_autoptr(GArray) map = g_array_new(FALSE, FALSE, sizeof(struct disk_range));
        scoped_disk_wait struct disk_wait w = {0};

        if (!disk_usable(d, 0, 0, FALSE, error))
                return NULL;
        disk_wait_init(&w, d, NULL, cancellable);
        return map_all(&w, depth, map, error) ? g_steal_pointer(&map) : NULL;
}

/* ---- walking over it ---- */

gboolean disk_pieces_next(struct disk_pieces *p, guint64 data_max, guint64 zero_max, struct disk_range *ret)
{
        for (; p->index < p->map->len; p->index++, p->done = 0) {
                const struct disk_range *r = &g_array_index(p->map, struct disk_range, p->index);
                guint64 max = r->kind == DISK_DATA ? data_max : zero_max, at = r->offset + p->done;

                if (r->kind == DISK_ABSENT || p->done == r->length)
                        continue;
                /* Up to a round offset, so that no cluster is written in two requests. */
                guint64 len = MIN(r->length - p->done, max - at % max);
                *ret = (struct disk_range){at, len, r->kind};
                p->done += len;
                return TRUE;
        }
        return FALSE;
}

gboolean disk_map_check(const GArray *map, guint64 size, const char *name, GError **error)
{
        guint64 end = 0;

        for (guint i = 0; i < map->len; i++) {
                const struct disk_range *r = &g_array_index(map, struct disk_range, i);

                if (r->offset < end || r->offset > size || r->length > size - r->offset) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s has %" G_GUINT64_FORMAT " bytes; %" G_GUINT64_FORMAT
                                    " bytes at %" G_GUINT64_FORMAT " are out of order, or leave it",
                                    name, size, r->length, r->offset);
                        return FALSE;
                }
                end = r->offset + r->length;
        }
        return TRUE;
}
