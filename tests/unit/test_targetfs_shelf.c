/* tests/unit/test_targetfs_shelf.c - what is kept at hand, and what makes room. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "fuse-overlay/targetfs/shelf.h"

TestSuite(shelf, .timeout = 30);

struct thing {
        struct shelf_item item;
        gboolean *freed;
};

static void thing_free(struct shelf_item *item)
{
        struct thing *t = (struct thing *)item;
        *t->freed = TRUE;
        g_free(t);
}

static struct shelf_item *thing_new(gboolean *freed)
{
        struct thing *t = g_new0(struct thing, 1);
        t->item.refs = 1;
        t->freed = freed;
        *freed = FALSE;
        return &t->item;
}

Test(shelf, the_one_that_was_not_used_for_longest_makes_room)
{
        g_autoptr(Shelf) s = shelf_new(2, thing_free);
        struct shelf_item *slots[3] = {NULL};
        gboolean freed[3];

        for (int i = 0; i < 2; i++)
                shelf_unref(s, shelf_put(s, &slots[i], thing_new(&freed[i]), FALSE));
        shelf_unref(s, shelf_get(s, &slots[0]));
        shelf_unref(s, shelf_put(s, &slots[2], thing_new(&freed[2]), FALSE));
        cr_assert_not(freed[0]);
        cr_assert(freed[1]);
        cr_assert_null(slots[1]);
        for (int i = 0; i < 3; i++)
                shelf_drop(s, &slots[i]);
        cr_assert(freed[0] && freed[2]);
}

Test(shelf, who_uses_a_thing_keeps_it_when_it_makes_room)
{
        g_autoptr(Shelf) s = shelf_new(1, thing_free);
        struct shelf_item *slots[2] = {NULL};
        gboolean freed[2];
        struct shelf_item *mine = shelf_put(s, &slots[0], thing_new(&freed[0]), FALSE);

        shelf_unref(s, shelf_put(s, &slots[1], thing_new(&freed[1]), FALSE));
        cr_assert_null(slots[0]);
        cr_assert_not(freed[0]);
        shelf_unref(s, mine);
        cr_assert(freed[0]);
        shelf_drop(s, &slots[1]);
}

Test(shelf, what_is_pinned_stays)
{
        g_autoptr(Shelf) s = shelf_new(1, thing_free);
        struct shelf_item *slots[3] = {NULL};
        gboolean freed[3];

        shelf_unref(s, shelf_put(s, &slots[0], thing_new(&freed[0]), TRUE));
        for (int i = 1; i < 3; i++)
                shelf_unref(s, shelf_put(s, &slots[i], thing_new(&freed[i]), FALSE));
        cr_assert_not(freed[0]);
        cr_assert(freed[1]);
        shelf_drop(s, &slots[0]);
        shelf_drop(s, &slots[2]);
        cr_assert(freed[0]);
}

Test(shelf, the_first_of_two_is_kept_unless_the_second_replaces_it)
{
        g_autoptr(Shelf) s = shelf_new(4, thing_free);
        struct shelf_item *slot = NULL;
        gboolean freed[3];
        struct shelf_item *first = thing_new(&freed[0]), *third = thing_new(&freed[2]);

        shelf_unref(s, shelf_put(s, &slot, first, FALSE));
        struct shelf_item *got = shelf_put(s, &slot, thing_new(&freed[1]), FALSE);
        cr_assert(eq(ptr, got, first));
        cr_assert(freed[1]);
        shelf_unref(s, got);
        got = shelf_replace(s, &slot, third, TRUE);
        cr_assert(eq(ptr, got, third));
        cr_assert(freed[0]);
        shelf_unref(s, got);
        shelf_drop(s, &slot);
        cr_assert(freed[2]);
}
