/* tests/sim/guest_disk.c - what a simulated guest does not forget. */
#include "tests/sim/guest_disk.h"

#include <string.h>

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

GuestDisk *guest_disk_new(World *w, const char *vm)
{
        GuestDisk *d = g_new0(GuestDisk, 1);

        d->w = w;
        d->vm = vm;
        d->history = g_array_new(FALSE, TRUE, sizeof(struct generation));
        d->applied = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
        return d;
}

void guest_disk_free(GuestDisk *d)
{
        if (!d)
                return;
        g_array_unref(d->history);
        g_hash_table_unref(d->applied);
        g_free(d);
}

GuestDisk *guest_disk_copy(const GuestDisk *d)
{
        GuestDisk *copy = guest_disk_new(d->w, d->vm);
        GHashTableIter iter;
        gpointer id, times;

        memcpy(copy->files, d->files, sizeof d->files);
        copy->journal = d->journal;
        copy->reverts = d->reverts;
        g_array_append_vals(copy->history, d->history->data, d->history->len);
        g_hash_table_iter_init(&iter, d->applied);
        while (g_hash_table_iter_next(&iter, &id, &times))
                g_hash_table_insert(copy->applied, g_bytes_ref(id), times);
        return copy;
}

void guest_disk_activated(GuestDisk *d)
{
        GBytes *id = g_bytes_new(d->journal.push_id, sizeof d->journal.push_id);
        guint times = GPOINTER_TO_UINT(g_hash_table_lookup(d->applied, id)) + 1;

        if (times > 1)
                world_fail(d->w, "%s: a push was applied %u times", d->vm, times);
        g_hash_table_insert(d->applied, id, GUINT_TO_POINTER(times));
}

static struct generation *numbered(const GuestDisk *d, guint64 number)
{
        for (guint i = 0; i < d->history->len; i++)
                if (g_array_index(d->history, struct generation, i).number == number)
                        return &g_array_index(d->history, struct generation, i);
        return NULL;
}

void guest_disk_end(GuestDisk *d, Moult__TransactionPhase phase, Moult__ErrorCode error)
{
        struct journal *j = &d->journal;
        struct generation *target = j->is_back ? numbered(d, j->target) : NULL;

        if (target) {
                target->phase = P(ROLLED_BACK);
                memcpy(target->back_id, j->push_id, sizeof target->back_id);
        } else {
                struct generation g = {.number = d->history->len + 1,
                                       .release = j->release,
                                       .phase = phase,
                                       .error = error,
                                       .was_committed = phase == P(COMMITTED)};

                memcpy(g.push_id, j->push_id, sizeof g.push_id);
                memcpy(g.old, j->old, sizeof g.old);
                g_array_append_val(d->history, g);
        }
        memset(j, 0, sizeof *j);
        guest_disk_check(d);
}

struct generation *guest_disk_find(const GuestDisk *d, const guint8 id[static 16])
{
        for (guint i = 0; i < d->history->len; i++) {
                struct generation *g = &g_array_index(d->history, struct generation, i);

                if (memcmp(g->push_id, id, 16) == 0 || memcmp(g->back_id, id, 16) == 0)
                        return g;
        }
        return NULL;
}

struct generation *guest_disk_newest_committed(const GuestDisk *d)
{
        for (guint i = d->history->len; i > 0; i--) {
                struct generation *g = &g_array_index(d->history, struct generation, i - 1);

                if (g->phase == P(COMMITTED))
                        return g;
        }
        return NULL;
}

void guest_disk_check(GuestDisk *d)
{
        const struct generation *g = guest_disk_newest_committed(d);
        guint wanted = d->journal.phase == P(ACTIVE) ? d->journal.release : g ? g->release : 0;

        if (d->journal.phase != P(NONE) && d->journal.phase != P(ACTIVE))
                return;
        for (guint i = 0; i < GUEST_FILES; i++)
                if (d->files[i] != wanted)
                        world_fail(d->w, "%s: file %u is of release %u, the VM's is %u: a mixed release",
                                   d->vm, i, d->files[i], wanted);
}
