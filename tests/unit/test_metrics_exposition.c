/* tests/unit/test_metrics_exposition.c - the page as Prometheus reads it, whatever is in a label. */
#include "host-service/metrics/exposition.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "host-service/metrics/loop_watch.h"
#include "tests/support/host_world.h"

TestSuite(exposition, .timeout = 60);

Test(exposition, labels_cannot_end_early)
{
        g_autofree char *labels = exposition_labels("a", "x\"} 1\n", "b", "\\\xff", NULL);

        cr_expect(eq(str, labels, "a=\"x\\\"} 1\\n\",b=\"\\\\\xef\xbf\xbd\""));
}

Test(exposition, a_histogram_counts_up_to_its_bounds)
{
        static const double bounds[] = {0.5, 1};
        struct histogram h = histogram_new(bounds, 2);
        g_autoptr(GString) out = g_string_new(NULL);

        histogram_observe(&h, 0.5);
        histogram_observe(&h, 0.75);
        histogram_observe(&h, 7);
        exposition_histogram(out, "x_seconds", "Help.", &h);
        cr_expect(eq(str, out->str,
                     "# HELP x_seconds Help.\n# TYPE x_seconds histogram\n"
                     "x_seconds_bucket{le=\"0.5\"} 1\nx_seconds_bucket{le=\"1\"} 2\n"
                     "x_seconds_bucket{le=\"+Inf\"} 3\nx_seconds_sum 8.25\nx_seconds_count 3\n"));
}

Test(exposition, a_tally_has_a_bound)
{
        g_autoptr(Tally) t = tally_new(2);
        g_autoptr(GString) out = g_string_new(NULL);

        tally_add(t, "n=\"b\"", 1);
        tally_add(t, "n=\"a\"", 2);
        tally_add(t, "n=\"c\"", 4);
        tally_add(t, "n=\"d\"", 8);
        tally_add(t, "n=\"a\"", 1);
        exposition_tally(out, "x_total", "Help.", t);
        cr_expect(eq(str, out->str,
                     "# HELP x_total Help.\n# TYPE x_total counter\n"
                     "x_total{n=\"a\"} 3\nx_total{n=\"b\"} 1\nx_total{other=\"true\"} 12\n"));
}

Test(exposition, large_numbers_keep_their_digits)
{
        g_autoptr(GString) out = g_string_new(NULL);

        exposition_sample(out, "x", NULL, 123456789012345.0);
        exposition_sample(out, "x", "", 0.25);
        cr_expect(eq(str, out->str, "x 123456789012345\nx 0.25\n"));
}

static void note_turn(gint64 turn_us, gpointer user)
{
        g_array_append_val((GArray *)user, turn_us);
}

static gboolean take_time(gpointer user)
{
        HostWorld *w = user;

        w->monotonic_us += 250000;
        return G_SOURCE_REMOVE;
}

Test(exposition, the_loop_watch_sees_what_a_turn_takes_and_wakes_nobody)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(GArray) turns = g_array_new(FALSE, FALSE, sizeof(gint64));
        LoopWatch *watch = loop_watch_new(&w->env, note_turn, turns);
        GSource *work = g_idle_source_new();
        gint64 longest = 0;

        g_source_set_callback(work, take_time, w, NULL);
        g_source_attach(work, w->env.context);
        g_source_unref(work);
        host_world_settle(w);
        for (guint i = 0; i < turns->len; i++)
                longest = MAX(longest, g_array_index(turns, gint64, i));
        cr_expect(eq(i64, longest, 250000));
        cr_expect(not(g_main_context_pending(w->env.context)));
        loop_watch_free(watch);
}
