/* shm/pack_scan.c - where a file has data and where it has holes. */
#include "shm/pack_scan.h"

#include <errno.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "proto/limits.h"

/* Runs are widened to blocks of the verity tree; those that touch become one. */
static void add_run(pack_scan *s, uint64_t start, uint64_t end, uint64_t size)
{
        start = start / VERITY_BLOCK_SIZE * VERITY_BLOCK_SIZE;
        end = MIN((end + VERITY_BLOCK_SIZE - 1) / VERITY_BLOCK_SIZE * VERITY_BLOCK_SIZE, size);
        if (s->runs->len > 0) {
                struct pack_run *before = &g_array_index(s->runs, struct pack_run, s->runs->len - 1);
                if (start <= before->offset + before->length) {
                        end = MAX(end, before->offset + before->length);
                        s->data_size += end - before->offset - before->length;
                        before->length = end - before->offset;
                        return;
                }
        }
        struct pack_run run = {.offset = start, .start = s->data_size, .length = end - start};
        g_array_append_val(s->runs, run);
        s->data_size += run.length;
}

static void make_dense(pack_scan *s, uint64_t size)
{
        g_array_set_size(s->runs, 0);
        s->data_size = 0;
        if (size > 0)
                add_run(s, 0, size, size);
}

gboolean pack_scan_fd(pack_scan *ret, int fd, uint64_t size, GError **error)
{
        pack_scan s = {.runs = g_array_new(FALSE, FALSE, sizeof(struct pack_run))};
        for (uint64_t at = 0; at < size;) {
                off_t data = lseek(fd, (off_t)at, SEEK_DATA);
                if (data < 0 && errno == ENXIO)
                        break;
                off_t hole = data >= 0 ? lseek(fd, data, SEEK_HOLE) : -1;
                if (data < 0 || hole < 0) {
                        if (errno != EINVAL && errno != EOPNOTSUPP) {
                                g_array_unref(s.runs);
                                return moult_error_errno(error, errno, "looking for holes in the file");
                        }
                        make_dense(&s, size);
                        break;
                }
                if ((uint64_t)data >= size)
                        break;
                add_run(&s, (uint64_t)data, MIN((uint64_t)hole, size), size);
                at = (uint64_t)hole;
        }
        if (s.runs->len > LIMIT_EXTENTS)
                make_dense(&s, size);
        s.is_dense = s.data_size == size;
        *ret = s;
        return TRUE;
}

void pack_scan_clear(pack_scan *s)
{
        g_clear_pointer(&s->runs, g_array_unref);
}

uint64_t pack_scan_locate(const pack_scan *s, uint64_t at, uint64_t *ret_offset)
{
        guint low = 0, high = s->runs->len;
        while (high - low > 1) {
                guint middle = low + (high - low) / 2;
                if (g_array_index(s->runs, struct pack_run, middle).start <= at)
                        low = middle;
                else
                        high = middle;
        }
        const struct pack_run *run = &g_array_index(s->runs, struct pack_run, low);
        *ret_offset = run->offset + (at - run->start);
        return run->length - (at - run->start);
}

void pack_scan_fill_extents(const pack_scan *s, Moult__Entry *e)
{
        if (s->is_dense || s->runs->len == 0)
                return;
        e->n_extents = s->runs->len;
        e->extents = g_new(Moult__Extent *, e->n_extents);
        for (guint i = 0; i < s->runs->len; i++) {
                e->extents[i] = g_new(Moult__Extent, 1);
                moult__extent__init(e->extents[i]);
                e->extents[i]->offset = g_array_index(s->runs, struct pack_run, i).offset;
                e->extents[i]->length = g_array_index(s->runs, struct pack_run, i).length;
        }
}
