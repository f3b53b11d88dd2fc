/* host-service/disk/disk_compare.c - whether two disks read the same.
 *
 * First both are mapped, so that what both know to be zeros is not read; then pieces of both are read side by
 * side, several at once. After the first difference no further piece begins, and the lowest one counts. */
#include <string.h>

#include "common/error.h"
#include "host-service/disk/disk_private.h"

#define SLOTS DISK_IN_FLIGHT

struct slot {
        gboolean busy;
        struct disk_range range;
        guint8 *bytes[2]; /* DISK_PIECE each */
        struct disk_reply reply[2];
};

struct compare {
        Disk *disks[2];
        const struct disk_pace *pace;
        struct disk_pieces pieces;
        gboolean all_begun;
        gint64 next_us;
        guint busy;
        guint64 difference;
        struct slot slots[SLOTS];
};

/* ---- what is to be read ---- */

struct cursor {
        const GArray *map;
        guint index;
};

/* The kind at @at, and how far it reaches. Beyond the map: ABSENT. */
static enum disk_kind look(struct cursor *c, guint64 at, guint64 *end)
{
        for (; c->index < c->map->len; c->index++) {
                const struct disk_range *r = &g_array_index(c->map, struct disk_range, c->index);

                if (at < r->offset) {
                        *end = MIN(*end, r->offset);
                        return DISK_ABSENT;
                }
                if (at - r->offset < r->length) {
                        *end = MIN(*end, r->offset + r->length);
                        return r->kind;
                }
        }
        return DISK_ABSENT;
}

/* DATA: to be read; ZERO: both know that it is; ABSENT: not asked for. @wanted may be NULL: everything. */
static GArray *plan(const GArray *a, const GArray *b, const GArray *wanted, guint64 size)
{
        GArray *out = g_array_new(FALSE, FALSE, sizeof(struct disk_range));
        struct cursor in_a = {.map = a}, in_b = {.map = b}, in_wanted = {.map = wanted};

        for (guint64 at = 0, end; at < size; at = end) {
                end = size;
                gboolean asked = !wanted || look(&in_wanted, at, &end) != DISK_ABSENT;
                gboolean data = look(&in_a, at, &end) == DISK_DATA;
                data = look(&in_b, at, &end) == DISK_DATA || data;
                disk_map_append(out, at, end - at, !asked ? DISK_ABSENT : data ? DISK_DATA : DISK_ZERO);
        }
        return out;
}

/* ---- reading ---- */

static gboolean begin(struct compare *c, struct slot *s, const struct disk_range *r, GError **error)
{
        s->range = *r;
        s->busy = TRUE;
        c->busy++;
        c->next_us = disk_pace_next(c->pace, c->next_us, r->length);
        for (guint i = 0; i < 2; i++) {
                if (!s->bytes[i])
                        s->bytes[i] = g_malloc(DISK_PIECE);
                gint64 cookie = nbd_aio_pread(c->disks[i]->nbd, s->bytes[i], r->length, r->offset,
                                              disk_reply_callback(&s->reply[i]), 0);
                if (!disk_sent(c->disks[i], cookie, error, "reading"))
                        return FALSE;
        }
        return TRUE;
}

static gboolean begin_more(struct compare *c, GError **error)
{
        for (guint i = 0; i < SLOTS && !c->all_begun; i++) {
                struct disk_range r;

                if (c->slots[i].busy)
                        continue;
                if (c->next_us > g_get_monotonic_time())
                        return TRUE;
                c->all_begun = c->difference != DISK_SAME ||
                               !disk_pieces_next(&c->pieces, DISK_PIECE, G_MAXUINT64, &r);
                if (c->all_begun)
                        break;
                if (r.kind == DISK_ZERO)
                        disk_pace_add(c->pace, r.length);
                else if (!begin(c, &c->slots[i], &r, error))
                        return FALSE;
        }
        return TRUE;
}

static guint64 first_difference(const struct slot *s)
{
        guint64 i = 0;

        while (s->bytes[0][i] == s->bytes[1][i])
                i++;
        return s->range.offset + i;
}

static gboolean finish(struct compare *c, struct slot *s, GError **error)
{
        if (!s->busy || !s->reply[0].done || !s->reply[1].done)
                return TRUE;
        for (guint i = 0; i < 2; i++)
                if (s->reply[i].errnum != 0)
                        return disk_fail_reply(c->disks[i], s->reply[i].errnum, error, "reading");
        if (memcmp(s->bytes[0], s->bytes[1], s->range.length) != 0)
                c->difference = MIN(c->difference, first_difference(s));
        disk_pace_add(c->pace, s->range.length);
        s->busy = FALSE;
        c->busy--;
        return TRUE;
}

static gboolean run(struct compare *c, struct disk_wait *w, GError **error)
{
        for (;;) {
                for (guint i = 0; i < SLOTS; i++)
                        if (!finish(c, &c->slots[i], error))
                                return FALSE;
                if (!begin_more(c, error))
                        return FALSE;
                if (c->all_begun && c->busy == 0)
                        return TRUE;
                gboolean full = c->busy == SLOTS || c->all_begun;
                if (!disk_wait_turn(w, full ? -1 : c->next_us, "comparing", error))
                        return FALSE;
        }
}

static gboolean compare(struct compare *c, GCancellable *cancellable, GError **error)
{
        scoped_disk_wait struct disk_wait w = {0};

        disk_wait_init(&w, c->disks[0], c->disks[1], cancellable);
        gboolean ok = run(c, &w, error);
        for (guint i = 0; i < 2 && !ok; i++)
                disk_break(c->disks[i]);
        for (guint i = 0; i < SLOTS; i++) {
                g_free(c->slots[i].bytes[0]);
                g_free(c->slots[i].bytes[1]);
        }
        return ok;
}

gboolean disk_compare(Disk *a, Disk *b, const GArray *map, guint64 *ret_difference,
                      const struct disk_pace *pace, GCancellable *cancellable, GError **error)
{
        guint64 size = MIN(a->size, b->size);
        struct compare c = {.disks = {a, b}, .pace = pace};

        if (map &&
            (!disk_map_check(map, a->size, a->name, error) || !disk_map_check(map, b->size, b->name, error)))
                return FALSE;
        g_autoptr(GArray) of_a = disk_map(a, DISK_ALL, cancellable, error);
        g_autoptr(GArray) of_b = of_a ? disk_map(b, DISK_ALL, cancellable, error) : NULL;
        if (!of_b)
                return FALSE;
        g_autoptr(GArray) todo = plan(of_a, of_b, map, size);
        c.pieces.map = todo;
        c.difference = DISK_SAME;
        if (!compare(&c, cancellable, error))
                return FALSE;
        *ret_difference = c.difference == DISK_SAME && !map && a->size != b->size ? size : c.difference;
        return TRUE;
}
