/* host-service/snapshot/create_settle.c - after a restart of moultd, or an answer that was lost. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"

/* Neither QEMU nor files, and the operator has given it up (cancelled). Anything else that cannot be looked
 * at may be there again: a file system that is not mounted yet. */
static gboolean is_gone(const SnapshotCreate *s, const GError *error)
{
        return !s->found && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND) &&
               g_cancellable_is_cancelled(s->cancellable);
}

static void go_on_as_taken(SnapshotCreate *s)
{
        g_clear_error(&s->error);
        if (!s->frozen)
                create_note_why(
                        s, "moultd was restarted, or lost the VM, while it was taken: whether anything was "
                           "frozen is not known");
        create_go_on_as_taken(s);
}

/* A domain that is off goes on from what its definition names. */
static Settle settle_one(const SnapshotCreate *s, const struct making *m)
{
        const char *defined = s->found ? NULL : create_domain_file(s, "defined", m->disk);

        return defined ? settle_disk_defined(m->disk, defined, &m->look)
                       : settle_disk(m->disk, s->found, &m->look);
}

static void on_looked(gpointer result, GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        guint n = s->r->disks->len;
        g_autofree Settle *each = g_new0(Settle, n);
        gboolean foreign;

        if (!create_came_back(s))
                return;
        if (error && !is_gone(s, error)) { /* a VM that we stopped stays so */
                create_end_with(s, error);
                return;
        }
        for (guint i = 0; i < n; i++)
                s->disks[i].settle = each[i] = error ? SETTLE_FOREIGN : settle_one(s, &s->disks[i]);
        s->stopped = s->r->state == SNAPSHOT_STOPPED && s->status == HYPERVISOR_STOPPED;
        if (settle_is_taken(each, n, &foreign)) {
                go_on_as_taken(s);
                return;
        }
        if (!s->error && foreign)
                g_set_error_literal(
                        &s->error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                        "somebody else has changed the VM's disks meanwhile; nothing was touched");
        else if (!s->error)
                g_set_error_literal(
                        &s->error, MOULT_ERROR, MOULT_ERROR_CANCELLED,
                        "moultd was restarted before the snapshot was taken; the VM runs as before");
        create_go_back(s);
}

void step_look_at_files(SnapshotCreate *s)
{
        create_run_files(s, create_look_one, on_looked, NULL);
}

static void on_found_again(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        g_autoptr(GError) odd = NULL;

        g_clear_pointer(&s->found, g_ptr_array_unref);
        if (error) {
                create_end_with(s, error); /* the row stays as it is: it is asked again */
                return;
        }
        s->found = vm_disks_of(result);
        if (!s->found) { /* which would mean that there is no QEMU */
                odd = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "QEMU's answer is no list of drives");
                create_end_with(s, odd);
                return;
        }
        create_next(s);
}

void step_find_again(SnapshotCreate *s)
{
        if (s->status != HYPERVISOR_GONE) {
                create_command(s, "query-block", NULL, on_found_again);
                return;
        }
        g_clear_pointer(&s->found, g_ptr_array_unref);
        create_next(s);
}
