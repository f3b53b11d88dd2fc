/* tests/sim/reported.c - reports against truth.
 *
 * DONE: the push is committed in the guest (by now, or it was and was taken back since). ROLLED_BACK: taken
 * back. REFUSED, CANCELLED: never committed. FAILED: not committed, unless the host said that it does not
 * know: then the guest has its word. SKIPPED: nothing of it is there, and the release is, or was until it was
 * taken back. A VM that was reverted to an older snapshot owes nobody an explanation.
 */
#include "tests/sim/reported.h"

#include <string.h>

#include "host-service/catalogue/push_options.h"
#include "host-service/catalogue/vms.h"

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

/* The host told the guest to keep it, and did not hear of it. */
static gboolean is_unsure(const PushRecord *r)
{
        return r->error == MOULT_ERROR_TIMEOUT || r->error == MOULT_ERROR_WRONG_STATE;
}

static gboolean had_release(const GuestDisk *d, guint release)
{
        for (guint i = 0; i < d->history->len; i++) {
                const struct generation *g = &g_array_index(d->history, struct generation, i);

                if (g->release == release && g->was_committed)
                        return TRUE;
        }
        return FALSE;
}

/* After a revert, too, when numbers are given anew. */
static gboolean took_another(const PushRecord *r, const struct generation *g)
{
        return g && push_rollback_names_push(&r->options) &&
               memcmp(g->push_id, r->options.rollback_of, sizeof g->push_id) != 0;
}

static const char *rollback_contradiction(const PushRecord *r, const struct generation *g)
{
        if (r->state == PUSH_STATE_DONE && !g)
                return "the rollback is reported as done, and the guest has done none";
        if (g && r->options.rollback_generation && g->number != r->options.rollback_generation)
                return "it has taken back another generation than it was to";
        return NULL;
}

static const char *contradiction(const PushRecord *r, const GuestDisk *d)
{
        const struct generation *g = guest_disk_find(d, r->push_id);
        gboolean committed = g && g->was_committed && memcmp(g->push_id, r->push_id, sizeof r->push_id) == 0;

        if (r->options.rollback)
                return rollback_contradiction(r, g);
        if (r->options.dry_run)
                return g ? "a dry run has become a generation" : NULL;
        switch (r->state) {
        case PUSH_STATE_DONE:
                return committed ? NULL : "it is reported as committed, and is not";
        case PUSH_STATE_ROLLED_BACK:
                if (committed)
                        return "it is reported as rolled back, and was committed";
                return g ? NULL : "it is reported as rolled back, and the guest does not know it";
        case PUSH_STATE_REFUSED:
        case PUSH_STATE_CANCELLED:
                return committed ? "it is reported as not done, and is committed" : NULL;
        case PUSH_STATE_FAILED:
                return committed && !is_unsure(r) ? "it is reported as failed, and is committed" : NULL;
        case PUSH_STATE_SKIPPED:
                return g ? "it was skipped, and the guest has it"
                       : !had_release(d, vault_find_digest(r->digest, DIGEST_SIZE))
                               ? "the guest never had that release"
                               : NULL;
        default:
                return "it has no end";
        }
}

static void check(World *w, const PushRecord *r, Vm *vm)
{
        const GuestDisk *d = vm_disk(vm);
        const char *why = d->reverts ? NULL : contradiction(r, d);

        if (!why && r->options.rollback && took_another(r, guest_disk_find(d, r->push_id)))
                why = "it has taken back what another push had brought";

        if (why)
                world_fail(w, "push %02x%02x of %s to %s is %s: %s (%s)", r->push_id[0], r->push_id[1],
                           r->operation, r->vm, push_state_name(r->state), why, r->text ? r->text : "");
}

void reported_check(World *w, Catalogue *c, const char *operation, Vm *vm)
{
        g_autoptr(PushRecord) r = catalogue_push_get(c, operation, vm_name(vm), NULL);

        if (r)
                check(w, r, vm);
}

/* What the guest was given is of a push that the host knows. */
static void check_known(World *w, Catalogue *c, Vm *vm)
{
        const GArray *all = vm_disk(vm)->history;

        for (guint i = 0; i < all->len; i++) {
                const struct generation *g = &g_array_index(all, struct generation, i);
                g_autoptr(PushRecord) r = catalogue_push_by_id(c, g->push_id, NULL);

                if (!r)
                        world_fail(w, "%s has a push %02x%02x that is in no record of the host's",
                                   vm_name(vm), g->push_id[0], g->push_id[1]);
        }
}

void reported_check_vm(World *w, Catalogue *c, Vm *vm)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list_vm(c, vm_name(vm), 1000, NULL);
        g_autoptr(VmRecord) r = catalogue_vm_get(c, vm_name(vm), NULL);
        const struct generation *g = guest_disk_newest_committed(vm_disk(vm));
        g_autofree char *truth = g ? g_strdup_printf("demo %s", vault_version(g->release)) : NULL;

        for (guint i = 0; pushes && i < pushes->len; i++)
                check(w, pushes->pdata[i], vm);
        check_known(w, c, vm);
        if (!pushes || !r)
                world_fail(w, "%s is not in the catalogue", vm_name(vm));
        else if (g_strcmp0(r->last_release, truth) != 0 &&
                 !(truth && r->last_release && g_str_has_prefix(r->last_release, truth)))
                world_fail(w, "%s runs %s, the catalogue says %s", vm_name(vm), truth ? truth : "no release",
                           r->last_release ? r->last_release : "no release");
}
