/* guest-agent/freeze_machine.c - the order in which file systems are frozen and thawed, and what ends a
 * freeze. */
#include "guest-agent/freeze_machine.h"

#include <errno.h>
#include <string.h>

void freeze_machine_init(struct freeze_machine *m, guint8 *states, guint n, gint64 lease_us,
                         const struct freeze_ops *ops, gpointer user)
{
        *m = (struct freeze_machine){
                .ops = ops, .user = user, .states = states, .n = n, .lease_us = lease_us};
        memset(states, FREEZE_MOUNT_OPEN, n);
}

static guint count(const struct freeze_machine *m, enum freeze_mount_state state)
{
        guint found = 0;

        for (guint i = 0; i < m->n; i++)
                found += m->states[i] == state;
        return found;
}

/* ---- the way back ---- */

static void thaw_next(struct freeze_machine *m, gint64 now_us)
{
        m->patience_us = 0;
        for (guint i = m->n; i > 0; i--) {
                if (m->states[i - 1] != FREEZE_MOUNT_FROZEN)
                        continue;
                m->states[i - 1] = FREEZE_MOUNT_THAWING;
                m->patience_us = now_us + FREEZE_PATIENCE_US;
                m->ops->thaw(i - 1, m->user);
                return;
        }
        if (count(m, FREEZE_MOUNT_FREEZING) == 0 && count(m, FREEZE_MOUNT_THAWING) == 0 &&
            count(m, FREEZE_MOUNT_RETHAW) == 0)
                m->phase = FREEZE_THAWED;
}

void freeze_machine_thaw(struct freeze_machine *m, enum freeze_why why, gint64 now_us)
{
        if (m->phase >= FREEZE_THAWING)
                return;
        m->held = m->phase == FREEZE_FROZEN && why == FREEZE_WHY_ASKED;
        m->why = why;
        m->phase = FREEZE_THAWING;
        m->deadline_us = 0;
        thaw_next(m, now_us);
}

static void fail(struct freeze_machine *m, guint i, enum freeze_why why, int error, gint64 now_us)
{
        m->failed = i;
        m->failed_errno = error;
        freeze_machine_thaw(m, why, now_us);
}

static void on_thawed(struct freeze_machine *m, guint i, int error, gint64 now_us)
{
        if (error == EINVAL) { /* it was not frozen any more */
                if (m->held) {
                        m->held = FALSE;
                        m->why = FREEZE_WHY_STOLEN;
                        m->failed = i;
                }
        } else if (error != 0) { /* and it still is */
                m->states[i] = FREEZE_MOUNT_RETHAW;
                m->again_us = now_us + FREEZE_RETHAW_US;
                thaw_next(m, now_us);
                return;
        }
        m->states[i] = FREEZE_MOUNT_THAWED;
        m->thawed_us = now_us;
        thaw_next(m, now_us);
}

/* ---- the way there ---- */

static void freeze_next(struct freeze_machine *m, gint64 now_us)
{
        for (guint i = 0; i < m->n; i++) {
                if (m->states[i] != FREEZE_MOUNT_OPEN)
                        continue;
                if (m->begun_us == 0) {
                        m->begun_us = now_us;
                        m->deadline_us = now_us + m->lease_us;
                }
                m->states[i] = FREEZE_MOUNT_FREEZING;
                m->ops->freeze(i, m->user);
                return;
        }
        if (m->mounts == 0) {
                freeze_machine_thaw(m, FREEZE_WHY_NOTHING, now_us);
                return;
        }
        m->phase = FREEZE_FROZEN;
        m->deadline_us = now_us + m->lease_us;
}

static void on_frozen(struct freeze_machine *m, guint i, int error, gint64 now_us)
{
        if (error == 0) {
                m->states[i] = FREEZE_MOUNT_FROZEN;
                m->mounts++;
        } else {
                m->states[i] = error == EOPNOTSUPP || error == ENOTTY ? FREEZE_MOUNT_UNSUPPORTED
                               : error == EBUSY                       ? FREEZE_MOUNT_THEIRS
                                                                      : FREEZE_MOUNT_FAILED;
        }
        if (m->phase == FREEZE_THAWING) /* it came back too late */
                thaw_next(m, now_us);
        else if (error == 0 || m->states[i] == FREEZE_MOUNT_UNSUPPORTED)
                freeze_next(m, now_us);
        else
                fail(m, i, FREEZE_WHY_MOUNT, error, now_us);
}

/* What a sync says is said again by the freeze. */
static void on_synced(struct freeze_machine *m, guint i, gint64 now_us)
{
        m->states[i] = FREEZE_MOUNT_OPEN;
        if (m->phase == FREEZE_SYNCING && count(m, FREEZE_MOUNT_SYNCING) == 0) {
                m->phase = FREEZE_FREEZING;
                freeze_next(m, now_us);
        }
}

void freeze_machine_begin(struct freeze_machine *m, gint64 now_us)
{
        if (m->n == 0) {
                freeze_machine_thaw(m, FREEZE_WHY_NOTHING, now_us);
                return;
        }
        m->deadline_us = now_us + FREEZE_SYNC_MAX_US;
        memset(m->states, FREEZE_MOUNT_SYNCING, m->n);
        for (guint i = 0; i < m->n; i++)
                m->ops->sync(i, m->user);
}

void freeze_machine_done(struct freeze_machine *m, guint i, int error, gint64 now_us)
{
        switch ((enum freeze_mount_state)m->states[i]) {
        case FREEZE_MOUNT_SYNCING:
                on_synced(m, i, now_us);
                break;
        case FREEZE_MOUNT_FREEZING:
                on_frozen(m, i, error, now_us);
                break;
        case FREEZE_MOUNT_THAWING:
                on_thawed(m, i, error, now_us);
                break;
        default:
                break;
        }
}

gboolean freeze_machine_renew(struct freeze_machine *m, gint64 lease_us, gint64 now_us)
{
        if (m->phase != FREEZE_FROZEN)
                return FALSE;
        m->lease_us = lease_us;
        m->deadline_us = now_us + lease_us;
        return TRUE;
}

static guint first_in(const struct freeze_machine *m, enum freeze_mount_state state)
{
        guint i = 0;

        while (i + 1 < m->n && m->states[i] != state)
                i++;
        return i;
}

/* A thaw that failed, and whose time has come. */
static void thaw_again(struct freeze_machine *m, gint64 now_us)
{
        m->again_us = 0;
        for (guint i = 0; i < m->n; i++)
                if (m->states[i] == FREEZE_MOUNT_RETHAW) {
                        m->states[i] = FREEZE_MOUNT_THAWING;
                        m->ops->thaw(i, m->user);
                }
}

void freeze_machine_tick(struct freeze_machine *m, gint64 now_us)
{
        if (m->phase == FREEZE_THAWING) {
                if (m->patience_us != 0 && now_us >= m->patience_us)
                        thaw_next(m, now_us);
                if (m->again_us != 0 && now_us >= m->again_us)
                        thaw_again(m, now_us);
                return;
        }
        if (m->deadline_us == 0 || now_us < m->deadline_us)
                return;
        if (m->phase == FREEZE_FROZEN)
                freeze_machine_thaw(m, FREEZE_WHY_LEASE, now_us);
        else
                fail(m,
                     first_in(m, m->phase == FREEZE_SYNCING ? FREEZE_MOUNT_SYNCING : FREEZE_MOUNT_FREEZING),
                     FREEZE_WHY_HANGS, 0, now_us);
}

gint64 freeze_machine_wake_us(const struct freeze_machine *m)
{
        if (m->phase == FREEZE_THAWED)
                return 0;
        if (m->phase != FREEZE_THAWING)
                return m->deadline_us;
        if (m->patience_us == 0 || m->again_us == 0)
                return MAX(m->patience_us, m->again_us);
        return MIN(m->patience_us, m->again_us);
}

gint64 freeze_machine_frozen_us(const struct freeze_machine *m, gint64 now_us)
{
        if (m->begun_us == 0)
                return 0;
        return (m->phase == FREEZE_THAWED ? MAX(m->thawed_us, m->begun_us) : now_us) - m->begun_us;
}
