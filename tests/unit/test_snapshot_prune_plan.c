/* tests/unit/test_snapshot_prune_plan.c - which restore points a policy keeps. */
#include "host-service/snapshot/prune_plan.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(snapshot_prune_plan, .timeout = 60);

/* @times: ISO 8601, the newest first; their ids are a, b, c... */
static GPtrArray *snapshots_at(const char *const *times)
{
        GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_record_free);
        g_autoptr(GTimeZone) utc = g_time_zone_new_utc();

        for (guint i = 0; times[i]; i++) {
                g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(times[i], utc);
                SnapshotRecord *s = snapshot_record_new();

                s->id = g_strdup_printf("%c", 'a' + i);
                s->taken_us = g_date_time_to_unix(t) * G_USEC_PER_SEC;
                g_ptr_array_add(all, s);
        }
        return all;
}

/* "a newest last, b last, c": what goes has no words. */
static char *plan(const char *const *times, const struct prune_policy *p, const char *needed, GTimeZone *zone)
{
        g_autoptr(GPtrArray) all = snapshots_at(times);
        g_autoptr(GHashTable) needs = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GPtrArray) verdicts = NULL;
        GString *s = g_string_new(NULL);

        if (needed)
                g_hash_table_insert(needs, (gpointer)needed, (gpointer) "needed");
        verdicts = prune_plan(all, p, needs, zone);
        for (guint i = 0; i < verdicts->len; i++) {
                const struct prune_verdict *v = verdicts->pdata[i];

                g_string_append_printf(s, "%s%s", i ? ", " : "", v->s->id);
                for (guint k = 0; k < v->reasons->len; k++)
                        g_string_append_printf(s, " %s", (const char *)v->reasons->pdata[k]);
        }
        return g_string_free(s, FALSE);
}

static void expect(const char *const *times, struct prune_policy p, const char *needed, const char *zone,
                   const char *want)
{
        g_autoptr(GTimeZone) z = g_time_zone_new_identifier(zone);
        g_autofree char *got = plan(times, &p, needed, z);

        cr_expect(eq(str, got, (char *)want), "%s", got);
}

Test(snapshot_prune_plan, each_rule_keeps_the_newest_of_its_buckets_and_they_add_up)
{
        const char *const times[] = {"2026-11-30T10:40:00Z", "2026-11-30T10:10:00Z",
                                     "2026-11-30T09:10:00Z", "2026-11-29T23:00:00Z",
                                     "2026-11-29T01:00:00Z", "2026-11-20T01:00:00Z",
                                     "2026-10-01T01:00:00Z", NULL};

        expect(times, (struct prune_policy){{[PRUNE_LAST] = 2}}, NULL, "UTC",
               "a newest last, b last, c, d, e, f, g");
        expect(times, (struct prune_policy){{[PRUNE_HOURLY] = 2}}, NULL, "UTC",
               "a newest hourly, b, c hourly, d, e, f, g");
        expect(times, (struct prune_policy){{[PRUNE_DAILY] = 2, [PRUNE_MONTHLY] = 2}}, NULL, "UTC",
               "a newest daily monthly, b, c, d daily, e, f, g monthly");
        /* A week begins with Monday: the 30th. */
        expect(times, (struct prune_policy){{[PRUNE_WEEKLY] = 3}}, NULL, "UTC",
               "a newest weekly, b, c, d weekly, e, f weekly, g");
}

Test(snapshot_prune_plan, the_newest_and_what_is_needed_stay_whatever_the_rules_say)
{
        const char *const times[] = {"2026-11-30T10:40:00Z", "2026-11-30T10:10:00Z", "2026-11-30T09:10:00Z",
                                     NULL};

        expect(times, (struct prune_policy){{0}}, "b", "UTC", "a newest, b needed, c");
}

Test(snapshot_prune_plan, if_there_are_fewer_than_asked_for_the_oldest_stays_too)
{
        const char *const times[] = {"2026-11-30T10:40:00Z", "2026-11-30T10:10:00Z", "2026-11-29T09:10:00Z",
                                     "2026-11-29T08:10:00Z", NULL};

        expect(times, (struct prune_policy){{[PRUNE_DAILY] = 2}}, NULL, "UTC",
               "a newest daily, b, c daily, d");
        expect(times, (struct prune_policy){{[PRUNE_DAILY] = 3}}, NULL, "UTC",
               "a newest daily, b, c daily, d daily");
}

Test(snapshot_prune_plan, days_are_those_of_the_local_calendar)
{
        const char *const times[] = {"2026-11-30T10:00:00Z", "2026-11-29T23:30:00Z", "2026-11-29T12:00:00Z",
                                     "2026-11-28T12:00:00Z", NULL};

        expect(times, (struct prune_policy){{[PRUNE_DAILY] = 2}}, NULL, "UTC",
               "a newest daily, b daily, c, d");
        expect(times, (struct prune_policy){{[PRUNE_DAILY] = 2}}, NULL, "+01:00",
               "a newest daily, b, c daily, d");
}

Test(snapshot_prune_plan, a_policy_comes_from_a_request)
{
        g_autoptr(JsonNode) node =
                json_from_string("{\"vm\": \"web\", \"keep_daily\": 7, \"keep_last\": 0}", NULL);
        struct prune_policy p = prune_policy_from_json(json_node_get_object(node));

        cr_expect(eq(u32, p.keep[PRUNE_DAILY], 7));
        cr_expect(not(prune_policy_is_empty(&p)));
        p.keep[PRUNE_DAILY] = 0;
        cr_expect(prune_policy_is_empty(&p));
}
