/* tests/unit/test_store_transfer.c - many objects: each is done once, however they are held up. */
#include "host-service/store/transfer.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "common/error.h"
#include "tests/support/layer_lab.h"

TestSuite(store_transfer, .timeout = 60);

#define OBJECTS 50u

struct work {
        gint done[OBJECTS]; /* atomic */
        guint asked, holds; /* the pace: so many times it says to wait */
        gboolean over;
        MoultError code;
};

static gboolean step(guint index, gpointer user, GCancellable *cancellable, GError **error)
{
        struct work *w = user;

        g_atomic_int_inc(&w->done[index]);
        return TRUE;
}

static void on_over(const GError *error, gpointer user)
{
        struct work *w = user;

        cr_assert(not(w->over));
        w->over = TRUE;
        w->code = moult_error_code(error);
}

static guint pace(gpointer user)
{
        struct work *w = user;

        w->asked++;
        return w->holds > 0 && w->holds-- > 0 ? 100 : 0;
}

static void run(LayerLab *l, struct work *w)
{
        while (!w->over)
                g_main_context_iteration(l->world->env.context, TRUE);
}

Test(store_transfer, what_is_held_up_is_done_later)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        struct work w = {.holds = 7};
        gint64 began = l->world->monotonic_us;

        transfer_set_pace(transfer_start(&l->world->env, "testing", OBJECTS, 4, step, on_over, &w), pace);
        run(l, &w);
        cr_expect(eq(int, (int)w.code, MOULT_ERROR_UNSPECIFIED));
        for (guint i = 0; i < OBJECTS; i++)
                cr_expect(eq(int, w.done[i], 1), "object %u", i);
        cr_expect(eq(i64, l->world->monotonic_us - began, 7 * 100 * 1000));
        cr_expect(eq(u32, w.asked, OBJECTS + 7), "asked once for each, and after each wait");
}

Test(store_transfer, what_is_held_up_can_be_cancelled)
{
        g_autoptr(LayerLab) l = layer_lab_new();
        struct work w = {.holds = G_MAXUINT};
        Transfer *t = transfer_start(&l->world->env, "testing", OBJECTS, 4, step, on_over, &w);

        transfer_set_pace(t, pace);
        while (w.asked < 5)
                g_main_context_iteration(l->world->env.context, TRUE);
        transfer_cancel(t);
        run(l, &w);
        cr_expect(eq(int, (int)w.code, MOULT_ERROR_CANCELLED));
        cr_expect(eq(int, w.done[0], 0));
}
