/* host-service/snapshot/prune_plan.c - buckets of the calendar. */
#include "host-service/snapshot/prune_plan.h"

/* What is the same for all instants of a bucket. */
static const struct {
        const char *name, *bucket;
} rules[PRUNE_RULES] = {
        [PRUNE_LAST] = {"last", NULL},          [PRUNE_HOURLY] = {"hourly", "%Y-%m-%d %H"},
        [PRUNE_DAILY] = {"daily", "%Y-%m-%d"},  [PRUNE_WEEKLY] = {"weekly", "%G-W%V"},
        [PRUNE_MONTHLY] = {"monthly", "%Y-%m"},
};

const char *prune_rule_name(enum prune_rule r)
{
        return rules[r].name;
}

struct prune_policy prune_policy_from_json(JsonObject *o)
{
        struct prune_policy p = {0};

        for (guint i = 0; i < PRUNE_RULES; i++) {
                g_autofree char *member = g_strconcat("keep_", rules[i].name, NULL);

                p.keep[i] = (guint)CLAMP(json_object_get_int_member_with_default(o, member, 0), 0, G_MAXINT);
        }
        return p;
}

gboolean prune_policy_is_empty(const struct prune_policy *p)
{
        for (guint i = 0; i < PRUNE_RULES; i++)
                if (p->keep[i] > 0)
                        return FALSE;
        return TRUE;
}

static void verdict_free(gpointer data)
{
        struct prune_verdict *v = data;

        g_ptr_array_unref(v->reasons);
        g_free(v);
}

static void keep(const GPtrArray *verdicts, guint i, char *reason)
{
        g_ptr_array_add(((struct prune_verdict *)verdicts->pdata[i])->reasons, reason);
}

/* Each is a bucket of its own for "last". Owned. */
static char *bucket_of(const SnapshotRecord *s, enum prune_rule r, GTimeZone *zone)
{
        g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(s->taken_us / G_USEC_PER_SEC);
        g_autoptr(GDateTime) local = g_date_time_to_timezone(utc, zone);

        return rules[r].bucket ? g_date_time_format(local, rules[r].bucket) : g_strdup(s->id);
}

static void apply(const GPtrArray *verdicts, enum prune_rule r, guint count, GTimeZone *zone)
{
        g_autofree char *last = NULL;

        for (guint i = 0; i < verdicts->len && count > 0; i++) {
                char *bucket = bucket_of(((const struct prune_verdict *)verdicts->pdata[i])->s, r, zone);

                if (g_strcmp0(bucket, last) != 0 || i + 1 == verdicts->len) {
                        keep(verdicts, i, g_strdup(rules[r].name));
                        count--;
                }
                g_free(last);
                last = bucket;
        }
}

GPtrArray *prune_plan(const GPtrArray *snapshots, const struct prune_policy *policy, GHashTable *needed,
                      GTimeZone *zone)
{
        GPtrArray *verdicts = g_ptr_array_new_with_free_func(verdict_free);

        for (guint i = 0; i < snapshots->len; i++) {
                struct prune_verdict *v = g_new0(struct prune_verdict, 1);
                const char *why;

                v->s = snapshots->pdata[i];
                v->reasons = g_ptr_array_new_with_free_func(g_free);
                g_ptr_array_add(verdicts, v);
                why = needed ? g_hash_table_lookup(needed, v->s->id) : NULL;
                if (i == 0)
                        keep(verdicts, i, g_strdup("newest"));
                if (why)
                        keep(verdicts, i, g_strdup(why));
        }
        for (guint r = 0; r < PRUNE_RULES; r++)
                apply(verdicts, r, policy->keep[r], zone);
        return verdicts;
}
