/* host-service/catalogue/rollout_counts.c - how many pushes of a rollout are in which state. */
#include "host-service/catalogue/rollout_counts.h"

#include "host-service/catalogue/sql.h"

#define KEPT_MAX 16 /* operations: those that run, and what somebody has looked at since */

struct kept {
        struct rollout_counts all;
        GArray *waves; /* of struct rollout_counts, by number */
};

static void kept_free(gpointer data)
{
        struct kept *k = data;

        g_array_unref(k->waves);
        g_free(k);
}

static struct kept *kept_new(void)
{
        struct kept *k = g_new0(struct kept, 1);

        k->waves = g_array_new(FALSE, TRUE, sizeof(struct rollout_counts));
        return k;
}

static struct rollout_counts *wave_of(struct kept *k, guint wave)
{
        if (wave >= k->waves->len)
                g_array_set_size(k->waves, wave + 1);
        return &g_array_index(k->waves, struct rollout_counts, wave);
}

static gboolean is_failure(PushState outcome)
{
        return outcome == PUSH_STATE_ROLLED_BACK || outcome == PUSH_STATE_REFUSED ||
               outcome == PUSH_STATE_FAILED;
}

/* Which number of a rollout's a push is part of. */
static guint *number_of(struct rollout_counts *n, const PushRecord *p)
{
        switch (p->state) {
        case PUSH_STATE_DONE:
                return &n->done;
        case PUSH_STATE_SKIPPED:
                return &n->skipped;
        case PUSH_STATE_ROLLED_BACK:
                return &n->rolled_back;
        case PUSH_STATE_REFUSED:
                return &n->refused;
        case PUSH_STATE_CANCELLED:
                return &n->cancelled;
        case PUSH_STATE_FAILED:
                return p->begun ? &n->failed : &n->unreachable;
        default:
                return p->held_back ? &n->waiting : &n->running;
        }
}

static gboolean is_failing(const PushRecord *p)
{
        return !push_state_is_final(p->state) && p->begun && is_failure(p->outcome);
}

static void count_in(struct rollout_counts *n, const PushRecord *p, guint rows)
{
        n->total += rows;
        *number_of(n, p) += rows;
        if (is_failing(p))
                n->failing += rows;
}

static void count_out(struct rollout_counts *n, const PushRecord *p)
{
        n->total--;
        (*number_of(n, p))--;
        if (is_failing(p))
                n->failing--;
}

static struct kept *count_rows(Catalogue *c, const char *operation, GError **error)
{
        sqlite3_stmt *st = sql_query(c, error,
                                     "SELECT state, outcome, held_back, begun, wave, count(*) FROM pushes"
                                     " WHERE operation = ? GROUP BY state, outcome, held_back, begun, wave",
                                     "s", operation);
        struct kept *k = kept_new();
        int r = -1;

        while (st && (r = sql_step(c, st, error)) == 1) {
                PushRecord p = {.state = PUSH_STATE_FAILED,
                                .outcome = PUSH_STATE_QUEUED,
                                .held_back = column_int(st, 2) != 0,
                                .begun = column_int(st, 3) != 0,
                                .wave = (guint)column_int(st, 4)};
                guint rows = (guint)column_int(st, 5);

                push_state_parse((const char *)sqlite3_column_text(st, 0), &p.state);
                push_state_parse((const char *)sqlite3_column_text(st, 1), &p.outcome);
                count_in(&k->all, &p, rows);
                count_in(wave_of(k, p.wave), &p, rows);
        }
        if (r == 0)
                return k;
        kept_free(k);
        return NULL;
}

static struct kept *find(Catalogue *c, const char *operation)
{
        return c->rollout_counts ? g_hash_table_lookup(c->rollout_counts, operation) : NULL;
}

static void keep(Catalogue *c, const char *operation, struct kept *k)
{
        if (!c->rollout_counts)
                c->rollout_counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, kept_free);
        if (g_hash_table_size(c->rollout_counts) >= KEPT_MAX)
                g_hash_table_remove_all(c->rollout_counts);
        g_hash_table_insert(c->rollout_counts, g_strdup(operation), k);
}

gboolean catalogue_rollout_count(Catalogue *c, const char *operation, int wave, struct rollout_counts *ret,
                                 GError **error)
{
        struct kept *k = find(c, operation);

        *ret = (struct rollout_counts){0};
        if (!k) {
                k = count_rows(c, operation, error);
                if (!k)
                        return FALSE;
                keep(c, operation, k);
        }
        if (wave < 0)
                *ret = k->all;
        else if ((guint)wave < k->waves->len)
                *ret = *wave_of(k, (guint)wave);
        return TRUE;
}

gboolean rollout_counts_move(Catalogue *c, const PushRecord *before, const PushRecord *after)
{
        struct rollout_counts n = {0};
        struct kept *k = find(c, after->operation);

        if (number_of(&n, before) == number_of(&n, after) && is_failing(before) == is_failing(after))
                return FALSE;
        if (k) {
                count_out(&k->all, before);
                count_in(&k->all, after, 1);
                count_out(wave_of(k, after->wave), before);
                count_in(wave_of(k, after->wave), after, 1);
        }
        return TRUE;
}

void rollout_counts_forget(Catalogue *c)
{
        c->tally++;
        if (c->rollout_counts)
                g_hash_table_remove_all(c->rollout_counts);
}
