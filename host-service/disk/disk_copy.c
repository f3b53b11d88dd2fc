/* host-service/disk/disk_copy.c - puts what a map says of one disk onto another one.
 *
 * Several pieces are under way at once, each in a slot with a buffer of its own: it is read, and then written
 * in runs of data and of zeros. */
#include <errno.h>
#include <string.h>

#include "common/error.h"
#include "host-service/disk/disk_private.h"

#define SLOTS      DISK_IN_FLIGHT
#define RUN        (64u << 10) /* zeros are looked for in pieces of this size: QEMU's usual cluster */
#define RUNS       (DISK_PIECE / RUN)
#define ZERO_PIECE (128u << 20)

struct slot {
        enum { FREE, READING, WRITING } state;
        struct disk_range range;
        guint8 *buffer; /* DISK_PIECE bytes */
        struct disk_reply read, written[RUNS];
        guint writes;
};

struct copy {
        Disk *from, *to;
        const struct disk_pace *pace;
        struct disk_pieces pieces;
        gboolean all_begun;
        gint64 next_us; /* when the next piece may begin */
        guint busy;
        struct slot slots[SLOTS];
};

gboolean disk_is_zero(const guint8 *bytes, gsize len)
{
        return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

gint64 disk_pace_done(const gint64 *done)
{
        return __atomic_load_n(done, __ATOMIC_RELAXED);
}

void disk_pace_add(const struct disk_pace *pace, guint64 bytes)
{
        if (pace && pace->done)
                (void)__atomic_add_fetch(pace->done, (gint64)bytes, __ATOMIC_RELAXED);
}

gint64 disk_pace_next(const struct disk_pace *pace, gint64 next_us, guint64 bytes)
{
        if (!pace || pace->bytes_per_second == 0)
                return 0;
        return MAX(next_us, g_get_monotonic_time()) +
               (gint64)((double)bytes * G_USEC_PER_SEC / (double)pace->bytes_per_second);
}

/* ---- writing ---- */

static gboolean send_run(struct copy *c, struct slot *s, guint64 from, guint64 len, gboolean zero,
                         GError **error)
{
        struct disk_reply *reply = &s->written[s->writes++];
        nbd_completion_callback done = disk_reply_callback(reply);
        guint64 offset = s->range.offset + from;
        gint64 cookie = zero ? nbd_aio_zero(c->to->nbd, len, offset, done, 0)
                             : nbd_aio_pwrite(c->to->nbd, s->buffer + from, len, offset, done, 0);

        return disk_sent(c->to, cookie, error, zero ? "zeroing" : "writing to");
}

/* Each run as long as it can be. A run ends at a round offset of the disk. */
static gboolean write_runs(struct copy *c, struct slot *s, GError **error)
{
        guint64 begin = 0, at = 0;
        gboolean zero = FALSE;

        while (at < s->range.length) {
                guint64 len = MIN(s->range.length - at, RUN - (s->range.offset + at) % RUN);
                gboolean z = disk_is_zero(s->buffer + at, len);

                if (at > begin && z != zero) {
                        if (!send_run(c, s, begin, at - begin, zero, error))
                                return FALSE;
                        begin = at;
                }
                zero = z;
                at += len;
        }
        return send_run(c, s, begin, at - begin, zero, error);
}

/* ---- slots ---- */

static gboolean begin(struct copy *c, struct slot *s, const struct disk_range *r, GError **error)
{
        s->range = *r;
        s->writes = 0;
        c->busy++;
        c->next_us = disk_pace_next(c->pace, c->next_us, r->kind == DISK_DATA ? r->length : 0);
        if (r->kind == DISK_ZERO) {
                s->state = WRITING;
                return send_run(c, s, 0, r->length, TRUE, error);
        }
        s->state = READING;
        if (!s->buffer)
                s->buffer = g_malloc(DISK_PIECE);
        gint64 cookie = nbd_aio_pread(c->from->nbd, s->buffer, r->length, r->offset,
                                      disk_reply_callback(&s->read), 0);
        return disk_sent(c->from, cookie, error, "reading");
}

/* Fills free slots, as far as the pace lets. */
static gboolean begin_more(struct copy *c, GError **error)
{
        for (guint i = 0; i < SLOTS && !c->all_begun; i++) {
                struct disk_range r;

                if (c->slots[i].state != FREE)
                        continue;
                if (c->next_us > g_get_monotonic_time())
                        return TRUE;
                c->all_begun = !disk_pieces_next(&c->pieces, DISK_PIECE, ZERO_PIECE, &r);
                if (!c->all_begun && !begin(c, &c->slots[i], &r, error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean end_writing(struct copy *c, struct slot *s, GError **error)
{
        for (guint i = 0; i < s->writes; i++)
                if (!s->written[i].done)
                        return TRUE;
        for (guint i = 0; i < s->writes; i++)
                if (s->written[i].errnum != 0)
                        return disk_fail_reply(c->to, s->written[i].errnum, error, "writing to");
        disk_pace_add(c->pace, s->range.length);
        s->state = FREE;
        c->busy--;
        return TRUE;
}

/* Takes a slot as far as it can go now. */
static gboolean advance(struct copy *c, struct slot *s, GError **error)
{
        if (s->state == READING && s->read.done) {
                if (s->read.errnum != 0)
                        return disk_fail_reply(c->from, s->read.errnum, error, "reading");
                s->state = WRITING;
                if (!write_runs(c, s, error))
                        return FALSE;
        }
        return s->state != WRITING || end_writing(c, s, error);
}

static gboolean run(struct copy *c, struct disk_wait *w, GError **error)
{
        for (;;) {
                for (guint i = 0; i < SLOTS; i++)
                        if (!advance(c, &c->slots[i], error))
                                return FALSE;
                if (!begin_more(c, error))
                        return FALSE;
                if (c->all_begun && c->busy == 0)
                        return TRUE;
                gboolean full = c->busy == SLOTS || c->all_begun;
                if (!disk_wait_turn(w, full ? -1 : c->next_us, "copying", error))
                        return FALSE;
        }
}

gboolean disk_copy(Disk *from, const GArray *map, Disk *to, const struct disk_pace *pace,
                   GCancellable *cancellable, GError **error)
{
        struct copy c = {.from = from, .to = to, .pace = pace, .pieces = {.map = map}};
        scoped_disk_wait struct disk_wait w = {0};

        if (!disk_usable(from, 0, 0, FALSE, error) || !disk_usable(to, 0, 0, TRUE, error) ||
            !disk_map_check(map, from->size, from->name, error) ||
            !disk_map_check(map, to->size, to->name, error))
                return FALSE;
        disk_wait_init(&w, from, to, cancellable);
        gboolean ok = run(&c, &w, error);
        if (!ok) {
                disk_break(from);
                disk_break(to);
        }
        for (guint i = 0; i < SLOTS; i++)
                g_free(c.slots[i].buffer);
        return ok;
}
