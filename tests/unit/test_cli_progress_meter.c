/* tests/unit/test_cli_progress_meter.c - percent, rate and time left are right, and never nonsense. */
#include "host-service/cli/progress_meter.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <json-glib/json-glib.h>

#define S  1000000
#define MB 1000000u

TestSuite(cli_progress_meter, .timeout = 20);

Test(cli_progress_meter, a_steady_rate_gives_the_time_left)
{
        struct progress_meter m = {0};

        for (unsigned i = 0; i <= 5; i++)
                progress_meter_update(&m, S + (int64_t)i * S, i * 10 * MB, 100 * MB);
        cr_expect(epsilon_eq(dbl, m.rate, 10.0 * MB, 1.0));
        cr_expect(epsilon_eq(dbl, progress_meter_percent(&m), 50.0, 0.01));
        cr_expect(eq(i64, progress_meter_eta_s(&m), 5));
}

Test(cli_progress_meter, nothing_is_claimed_before_it_is_known)
{
        struct progress_meter m = {0};

        cr_expect(eq(dbl, progress_meter_percent(&m), -1.0));
        cr_expect(eq(i64, progress_meter_eta_s(&m), -1));
        progress_meter_update(&m, S, 5, 100);
        cr_expect(eq(i64, progress_meter_eta_s(&m), -1));
        progress_meter_update(&m, 2 * S, 5, 100);
        cr_expect(eq(i64, progress_meter_eta_s(&m), -1), "a stalled transfer has no time left to tell");
}

Test(cli_progress_meter, hundred_percent_is_only_said_of_all)
{
        struct progress_meter m = {0};

        progress_meter_update(&m, S, UINT64_MAX - 1, UINT64_MAX);
        cr_expect(lt(dbl, progress_meter_percent(&m), 100.0));
        progress_meter_update(&m, S, UINT64_MAX, UINT64_MAX);
        cr_expect(eq(dbl, progress_meter_percent(&m), 100.0));
        progress_meter_update(&m, S, 7, 5);
        cr_expect(eq(dbl, progress_meter_percent(&m), 100.0));
        cr_expect(eq(i64, progress_meter_eta_s(&m), 0));
}

Test(cli_progress_meter, going_back_starts_the_rate_anew)
{
        struct progress_meter m = {0};

        progress_meter_update(&m, 1 * S, 0, 100 * MB);
        progress_meter_update(&m, 2 * S, 50 * MB, 100 * MB);
        cr_expect(gt(dbl, m.rate, 1.0));
        progress_meter_update(&m, 3 * S, 10 * MB, 100 * MB);
        cr_expect(eq(dbl, m.rate, 0.0));
        progress_meter_update(&m, 4 * S, 20 * MB, 100 * MB);
        cr_expect(epsilon_eq(dbl, m.rate, 10.0 * MB, 1.0));
}

Test(cli_progress_meter, a_clock_that_stands_or_goes_back_divides_by_nothing)
{
        struct progress_meter m = {0};

        progress_meter_update(&m, 5 * S, 0, 100);
        progress_meter_update(&m, 5 * S, 50, 100);
        progress_meter_update(&m, 4 * S, 60, 100);
        cr_expect(eq(dbl, m.rate, 0.0));
}

Test(cli_progress_meter, a_line_fits_the_terminal)
{
        struct progress_meter m = {.done = 512, .total = 1024, .rate = 256};
        g_autofree char *wide = progress_meter_line(&m, "web-1", "staging", 200);
        g_autofree char *narrow = progress_meter_line(&m, "web-1", "staging", 20);

        cr_expect(
                eq(str, wide,
                   "web-1  staging     [==========>         ]  50%  512 B of 1.0 KiB  256 B/s  2.0 s left"));
        cr_expect(eq(u64, g_utf8_strlen(narrow, -1), 20));
}

Test(cli_progress_meter, json_says_null_for_what_nobody_knows)
{
        struct progress_meter known = {.done = 1, .total = 3, .rate = 1}, unknown = {.done = 1};
        g_autofree char *a = progress_meter_json(&known, "web-1", "staging");
        g_autofree char *b = progress_meter_json(&unknown, "", "scanning");

        cr_expect(eq(str, a,
                     "{\"progress\":\"web-1\",\"phase\":\"staging\",\"percent\":33,\"bytes\":1,"
                     "\"total\":3,\"rate\":1,\"eta_s\":2}"));
        g_autoptr(JsonNode) node = json_from_string(b, NULL);
        cr_assert(ne(ptr, node, NULL));
        cr_expect(eq(int,
                     json_node_get_node_type(json_object_get_member(json_node_get_object(node), "percent")),
                     JSON_NODE_NULL));
        cr_expect(eq(int,
                     json_node_get_node_type(json_object_get_member(json_node_get_object(node), "eta_s")),
                     JSON_NODE_NULL));
}
