/* tests/unit/test_shm_pack_source.c - ranges, and the ladder that goes on where another source broke off. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/channel.pb-c.h"
#include "tests/support/packs.h"

TestSuite(pack_source, .timeout = 60);

Test(pack_source, a_file_is_read_within_its_size_only)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "f", "0123456789", 10);
        g_autoptr(PackSource) s = pack_source_file_new(openat(t->fd, "f", O_RDONLY | O_CLOEXEC), &error);
        char buf[11] = {0};
        cr_assert(pack_source_read(s, 2, buf, 8, NULL, &error));
        cr_expect(eq(str, buf, "23456789"));
        cr_expect(pack_source_read(s, 10, buf, 0, NULL, &error));
        static const struct {
                uint64_t offset;
                size_t len;
        } bad[] = {{2, 9}, {11, 0}, {UINT64_MAX, 1}, {1, SIZE_MAX}};
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_clear_error(&error);
                cr_expect(not(pack_source_read(s, bad[i].offset, buf, bad[i].len, NULL, &error)));
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CORRUPT));
        }
}

/* A source of one letter that breaks after some reads. */
typedef struct {
        PackSource base;
        char letter;
        gint reads_left; /* atomic */
        gint *freed;
} Rung;

static gboolean rung_read(PackSource *self, uint64_t offset, void *buf, size_t len, GCancellable *c,
                          GError **error)
{
        Rung *r = (Rung *)self;
        if (g_atomic_int_add(&r->reads_left, -1) <= 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "rung %c broke", r->letter);
                return FALSE;
        }
        memset(buf, r->letter, len);
        return TRUE;
}

static void rung_free(PackSource *self)
{
        g_atomic_int_inc(((Rung *)self)->freed);
        g_free(self);
}

static const struct pack_source_ops rung_ops = {
        .name = "rung", .kind = MOULT__SOURCE_KIND__SOURCE_TLS, .read = rung_read, .free = rung_free};

struct plan {
        unsigned n, next;
        gint reads[4];
        gint freed;
};

static PackSource *next_rung(gpointer user, gboolean damaged, GError **error)
{
        struct plan *p = user;
        if (p->next == p->n) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "no way left");
                return NULL;
        }
        Rung *r = g_new0(Rung, 1);
        pack_source_init(&r->base, &rung_ops, 1000);
        r->letter = (char)('a' + p->next);
        r->reads_left = p->reads[p->next++];
        r->freed = &p->freed;
        return &r->base;
}

Test(pack_source, the_ladder_goes_on_with_the_very_read_that_failed)
{
        g_autoptr(GError) error = NULL;
        struct plan p = {.n = 3, .reads = {2, 0, 2}};
        PackSource *l = pack_source_ladder_new(1000, next_rung, &p);
        char buf[2] = {0}, seen[5] = {0};
        cr_expect(eq(int, pack_source_ladder_kind(l), MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED));
        for (unsigned i = 0; i < 4; i++) {
                cr_assert(pack_source_read(l, i, buf, 1, NULL, &error), "%s",
                          error != NULL ? error->message : "");
                seen[i] = buf[0];
        }
        cr_expect(eq(str, seen, "aacc"));
        cr_expect(eq(u32, pack_source_ladder_changes(l), 2));
        cr_expect(eq(int, pack_source_ladder_kind(l), MOULT__SOURCE_KIND__SOURCE_TLS));
        cr_assert(not(pack_source_read(l, 4, buf, 1, NULL, &error)));
        cr_expect(ne(ptr, strstr(error->message, "rung c broke; then no way left"), NULL));

        /* A window that is plugged later is taken. */
        g_clear_error(&error);
        p.n = 4;
        p.reads[3] = 1;
        cr_expect(pack_source_read(l, 4, buf, 1, NULL, &error));
        cr_expect(eq(chr, buf[0], 'd'));
        pack_source_unref(l);
        cr_expect(eq(int, p.freed, 4));
}

Test(pack_source, a_cancelled_read_does_not_climb_down)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GCancellable) cancellable = g_cancellable_new();
        struct plan p = {.n = 2, .reads = {9, 9}};
        PackSource *l = pack_source_ladder_new(1000, next_rung, &p);
        char buf[1];
        cr_assert(pack_source_read(l, 0, buf, 1, cancellable, &error));
        g_cancellable_cancel(cancellable);
        cr_assert(not(pack_source_read(l, 0, buf, 1, cancellable, &error)));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_CANCELLED));
        cr_expect(eq(u32, pack_source_ladder_changes(l), 0));
        pack_source_unref(l);
}

static gpointer read_many(gpointer user)
{
        char buf[16];
        for (int i = 0; i < 200; i++)
                if (!pack_source_read(user, 0, buf, sizeof buf, NULL, NULL))
                        return GINT_TO_POINTER(1);
        return NULL;
}

Test(pack_source, threads_that_meet_one_broken_rung_climb_down_once)
{
        struct plan p = {.n = 2, .reads = {100, 100000}};
        PackSource *l = pack_source_ladder_new(1000, next_rung, &p);
        GThread *threads[4];
        for (unsigned i = 0; i < 4; i++)
                threads[i] = g_thread_new("read", read_many, l);
        for (unsigned i = 0; i < 4; i++)
                cr_expect(eq(ptr, g_thread_join(threads[i]), NULL));
        cr_expect(eq(u32, pack_source_ladder_changes(l), 1));
        pack_source_unref(l);
        cr_expect(eq(int, p.freed, 2));
}
